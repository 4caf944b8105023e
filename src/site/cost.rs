//! What a site costs a place; today kilometres.
