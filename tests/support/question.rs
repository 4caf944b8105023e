//! Queries as other programs send them, and as they should not.

use ipnetwork::IpNetwork;
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};

/// A query, word by word.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) rtype: Rtype,
    pub(crate) class: u16,
    pub(crate) opcode: u8,
    /// RD and CD, which an authority copies or ignores.
    pub(crate) recursion_desired: bool,
    /// UDP payload size of an OPT, if there is to be one.
    pub(crate) payload: Option<u16>,
    pub(crate) dnssec_ok: bool,
    pub(crate) version: u8,
    pub(crate) subnet: Option<IpNetwork>,
    /// Codes and values of further options.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

impl Question {
    /// A plain query without EDNS.
    pub(crate) fn new(name: Name, rtype: Rtype) -> Question {
        Question {
            name,
            rtype,
            class: 1,
            opcode: 0,
            recursion_desired: false,
            payload: None,
            dnssec_ok: false,
            version: 0,
            subnet: None,
            options: Vec::new(),
        }
    }

    /// In wire format.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let mut bytes = query(&self.name, self.rtype, None);
        bytes[..2].copy_from_slice(b"ID");
        bytes[2] = self.opcode << 3 | u8::from(self.recursion_desired);
        let class_at = bytes.len() - 2;
        bytes[class_at..].copy_from_slice(&self.class.to_be_bytes());
        let has_opt =
            self.payload.is_some() || self.dnssec_ok || self.subnet.is_some() || !self.options.is_empty();
        if has_opt {
            self.push_opt(&mut bytes);
        }
        bytes
    }

    fn push_opt(&self, bytes: &mut Vec<u8>) {
        let mut options = Vec::new();
        let subnet = self.subnet.map(|subnet| (8, subnet_option(subnet)));
        for (code, value) in subnet.iter().chain(&self.options) {
            options.extend_from_slice(&code.to_be_bytes());
            options.extend_from_slice(&(value.len() as u16).to_be_bytes());
            options.extend_from_slice(value);
        }
        bytes[11] += 1;
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&self.payload.unwrap_or(1232).to_be_bytes());
        bytes.extend_from_slice(&[0, self.version, u8::from(self.dnssec_ok) << 7, 0]);
        bytes.extend_from_slice(&(options.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&options);
    }
}

/// The value of a client subnet option (RFC 7871 6).
pub(crate) fn subnet_option(subnet: IpNetwork) -> Vec<u8> {
    let (family, octets) = match subnet {
        IpNetwork::V4(subnet) => (1, subnet.network().octets().to_vec()),
        IpNetwork::V6(subnet) => (2, subnet.network().octets().to_vec()),
    };
    let mut value = vec![0, family, subnet.prefix(), 0];
    value.extend_from_slice(&octets[..usize::from(subnet.prefix()).div_ceil(8)]);
    value
}
