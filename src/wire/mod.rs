//! The protocol's own vocabulary: names, types and RDATA, in wire format and in presentation format.
//!
//! Everything else may use this room; it uses nothing but the standard library.

pub mod message;
pub mod name;
pub mod qname;
pub mod rdata;
pub mod rtype;

pub use name::Name;
pub use qname::Qname;
pub use rtype::Rtype;

/// Classes, RCODEs and OPCODEs by number, as IANA has them ("Domain Name System (DNS) Parameters").
pub mod number {
    /// Class IN.
    pub const IN: u16 = 1;
    /// Class CH.
    pub const CH: u16 = 3;
    /// QCLASS ANY.
    pub const CLASS_ANY: u16 = 255;
}
