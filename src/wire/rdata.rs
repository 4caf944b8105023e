//! RDATA: presentation format to wire format and back.
