//! RDATA: presentation format to wire format and back.
use super::Rtype;
/// stand-in
pub fn names(rtype: Rtype, _rdata: &[u8]) -> Vec<usize> {
    match rtype {
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => vec![0],
        Rtype::MX => vec![2],
        Rtype::SRV => vec![6],
        _ => vec![],
    }
}
/// stand-in
pub fn may_be_compressed(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::NS | Rtype::CNAME | Rtype::MX | Rtype::SOA)
}
