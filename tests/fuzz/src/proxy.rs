//! A stream or a datagram that may begin with a header of the PROXY protocol.

use meridian::transport::proxy::{Header, LONGEST, read, read_datagram};

/// What is read does not depend on how the octets come: each part of a header asks for more, never for what is behind it,
/// and more octets change nothing that was decided. Datagrams hold whole headers of version 2 alone.
///
/// # Panics
/// When it is otherwise.
pub fn proxy(bytes: &[u8]) {
    let whole = read(bytes);
    for end in 0..=bytes.len().min(LONGEST + 1) {
        match read(&bytes[..end]) {
            Header::Incomplete { missing } => {
                assert!(missing > 0 && end + missing <= LONGEST, "{missing} more after {end}");
                if let Header::Complete { length, .. } = whole {
                    assert!(end + missing <= length, "{missing} more after {end}, beyond {length}");
                }
            }
            decided => assert_eq!(decided, whole, "after {end}"),
        }
    }
    match whole {
        Header::Complete { source, length } => {
            assert!((15..=LONGEST).contains(&length) && length <= bytes.len());
            assert!(source.is_none_or(|source| source == source.to_canonical()));
            let expected = (bytes[0] == b'\r').then_some((source, &bytes[length..]));
            assert_eq!(read_datagram(bytes), expected);
        }
        _ => assert_eq!(read_datagram(bytes), None),
    }
}
