//! Server cookies (RFC 7873) in the form that different servers share (RFC 9018): who sends one back that we made a short
//! while ago has the address that the query came from.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Octets of a client's part.
const CLIENT: usize = 8;
/// Octets of ours: version, three reserved, time, hash.
const SERVER: usize = 16;
/// The only version there is.
const VERSION: u8 = 1;
/// Seconds for which a cookie is taken, and after which a new one is sent (RFC 9018 4.3).
const LIFE: i32 = 3600;
const RENEWED_AFTER: i32 = 1800;
/// Seconds that another server of the same name may be ahead (RFC 9018 4.3).
const AHEAD: i32 = 300;

/// A well-formed COOKIE option of a query (RFC 7873 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'a> {
    client: [u8; CLIENT],
    /// 8 to 32 octets, or none.
    server: &'a [u8],
}

/// What a query's cookie says of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The query has none, or we do without.
    None,
    /// It came here for the first time, or brings what is not ours or too old.
    Unproven,
    /// The address is the client's own.
    Proven {
        /// The cookie is growing old, or was made with a secret that is on its way out.
        renew: bool,
    },
}

impl Standing {
    /// Whether the address is the client's own.
    #[must_use]
    pub fn is_proven(self) -> bool {
        matches!(self, Standing::Proven { .. })
    }
}

/// The secrets that cookies are made with, 16 octets each. All servers of an anycast address share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    active: [u8; 16],
    /// Taken, but not used yet, or no longer.
    other: Option<[u8; 16]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl<'a> Cookie<'a> {
    /// An option's value; none if it has a length that no cookie has.
    #[must_use]
    pub fn read(value: &'a [u8]) -> Option<Cookie<'a>> {
        let (client, server) = value.split_first_chunk()?;
        matches!(server.len(), 0 | 8..=32).then_some(Cookie { client: *client, server })
    }

    /// Whether it has a part of some server's.
    #[must_use]
    pub fn has_server_part(&self) -> bool {
        !self.server.is_empty()
    }
}

impl Secrets {
    /// Cookies are made with `active`; those of `other` are taken as well.
    #[must_use]
    pub fn new(active: [u8; 16], other: Option<[u8; 16]>) -> Secrets {
        Secrets { active, other }
    }

    /// What a cookie proves of an address at a time (seconds since 1970).
    #[must_use]
    pub fn judge(&self, cookie: &Cookie<'_>, address: IpAddr, now: u32) -> Standing {
        if cookie.server.len() != SERVER || cookie.server[0] != VERSION {
            return Standing::Unproven;
        }
        // In serial arithmetic (RFC 1982), as the field wraps around in 2106.
        let age = now.wrapping_sub(made_at(cookie.server)).cast_signed();
        if !(-AHEAD..=LIFE).contains(&age) {
            return Standing::Unproven;
        }
        let (head, theirs) = cookie.server.split_at(SERVER - 8);
        // In one comparison of eight octets: nothing is to be learnt from how long it takes.
        let is_of = |secret: &[u8; 16]| hash(secret, &cookie.client, head, address) == *theirs;
        if is_of(&self.active) {
            Standing::Proven { renew: age > RENEWED_AFTER }
        } else if self.other.as_ref().is_some_and(is_of) {
            Standing::Proven { renew: true }
        } else {
            Standing::Unproven
        }
    }

    /// The option's value to answer with: the client's cookie again while it is fresh, else a new one.
    #[must_use]
    pub fn answer(
        &self,
        cookie: &Cookie<'_>,
        standing: Standing,
        address: IpAddr,
        now: u32,
    ) -> [u8; CLIENT + SERVER] {
        let mut value = [0; CLIENT + SERVER];
        value[..CLIENT].copy_from_slice(&cookie.client);
        let server = &mut value[CLIENT..];
        if standing == (Standing::Proven { renew: false }) {
            server.copy_from_slice(cookie.server);
        } else {
            server[0] = VERSION;
            server[4..8].copy_from_slice(&now.to_be_bytes());
            let hash = hash(&self.active, &cookie.client, &server[..8], address);
            server[8..].copy_from_slice(&hash);
        }
        value
    }
}

fn made_at(server: &[u8]) -> u32 {
    u32::from_be_bytes([server[4], server[5], server[6], server[7]])
}

/// SipHash-2-4 over client cookie, version to time, and address (RFC 9018 4.4).
fn hash(secret: &[u8; 16], client: &[u8; CLIENT], head: &[u8], address: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(client);
    hasher.write(head);
    match address {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn secret(text: &str) -> [u8; 16] {
        octets(text).try_into().unwrap()
    }

    fn answered(secrets: &Secrets, query: &str, from: &str, now: u32) -> (bool, String) {
        let value = octets(query);
        let cookie = Cookie::read(&value).unwrap();
        let address = from.parse().unwrap();
        let standing = secrets.judge(&cookie, address, now);
        (
            standing.is_proven(),
            data_encoding::HEXLOWER.encode(&secrets.answer(&cookie, standing, address, now)),
        )
    }

    /// RFC 9018 A.1, A.2 and A.3.
    #[test]
    fn rfc_9018_test_vectors_with_one_secret() {
        let secrets = Secrets::new(secret("e5e973e5a6b2a43f48e7dc849e37bfcf"), None);
        assert_eq!(
            answered(&secrets, "2464c4abcf10c957", "198.51.100.100", 1_559_731_985),
            (false, "2464c4abcf10c957010000005cf79f111f8130c3eee29480".to_owned())
        );
        assert_eq!(
            answered(
                &secrets,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "198.51.100.100",
                1_559_734_385
            ),
            (true, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77".to_owned())
        );
        // The reserved octets are another server's affair: they are part of what is hashed.
        assert_eq!(
            answered(
                &secrets,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_728_000
            ),
            (true, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5".to_owned())
        );
        assert_eq!(
            answered(
                &secrets,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_734_700
            ),
            (false, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e".to_owned())
        );
    }

    /// RFC 9018 A.4.
    #[test]
    fn rfc_9018_test_vector_with_a_secret_that_is_on_its_way_out() {
        let secrets = Secrets::new(
            secret("445536bcd2513298075a5d379663c962"),
            Some(secret("dd3bdf9344b678b185a6f5cb60fca715")),
        );
        assert_eq!(
            answered(
                &secrets,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961
            ),
            (true, "22681ab97d52c298010000005cf7c609a6bb79d16625507a".to_owned())
        );
    }

    #[test]
    fn a_cookie_is_of_its_address_and_of_its_hour() {
        let secrets = Secrets::new([7; 16], None);
        let (_, fresh) = answered(&secrets, "2464c4abcf10c957", "192.0.2.1", 1_000_000);
        let standing = |from: &str, now: u32| answered(&secrets, &fresh, from, now).0;
        assert!(standing("192.0.2.1", 1_000_000));
        assert!(!standing("192.0.2.2", 1_000_000));
        assert!(standing("192.0.2.1", 1_003_600) && !standing("192.0.2.1", 1_003_601));
        assert!(standing("192.0.2.1", 999_700) && !standing("192.0.2.1", 999_699));
        let other = Secrets::new([8; 16], None);
        assert!(!answered(&other, &fresh, "192.0.2.1", 1_000_000).0);
    }

    #[test]
    fn lengths_that_no_cookie_has_are_refused() {
        for length in 0..60 {
            let value = vec![0; length];
            let is_one = length == 8 || (16..=40).contains(&length);
            assert_eq!(Cookie::read(&value).is_some(), is_one, "{length}");
        }
    }
}
