//! MMDB files: every vendor's schema, told apart by what the records contain.
