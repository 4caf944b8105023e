//! A client subnet option's value, read by the server and by a model that looks at bits.

use meridian::nameserver::edns::read_client_subnet;

use super::model;

/// Both take the same options and read the same from them.
///
/// # Panics
/// When they differ.
pub fn client_subnet(bytes: &[u8]) {
    let read = read_client_subnet(bytes);
    let ours = read.as_ref().map(|subnet| {
        let address = &subnet.address[..subnet.address_length()];
        assert!(subnet.address[subnet.address_length()..].iter().all(|octet| *octet == 0));
        (subnet.family, subnet.source_prefix_length, address)
    });
    assert_eq!(ours, model::client_subnet(bytes));
}
