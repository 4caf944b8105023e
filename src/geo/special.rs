//! Special-purpose address blocks (RFC 6890, RFC 8190) and the IPv6 forms that embed an IPv4 address.
