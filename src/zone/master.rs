//! Master files (RFC 1035 5, RFC 2308 4, RFC 3597): a streaming reader.
