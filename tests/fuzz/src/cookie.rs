//! A COOKIE option's value, judged by the server and by a model after RFC 9018.

// The standard library's SipHash-2-4: deprecated, and another one than the server's.
#[allow(deprecated)]
use std::hash::{Hasher, SipHasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meridian::policy::cookie::{Cookie, Secrets, Standing};

/// Active, and on its way out.
const SECRETS: [[u8; 16]; 2] = [[7; 16], *b"sixteen octets !"];

/// First how the scene is set: which client, the time, and whether what follows is a value as it came, or which octets of a value that was
/// made here, some time ago, are changed.
///
/// What the model takes is taken, and nothing else; what is sent back holds for its client, for an hour, and for nobody else.
///
/// # Panics
/// When that is not so.
pub fn cookie(bytes: &[u8]) {
    let Some((scene, rest)) = bytes.split_first_chunk::<28>() else { return };
    let [how, secret, address @ .., a, b, c, d, e, f, g, h, _, _] = *scene;
    let address: [u8; 16] = address;
    let address: IpAddr = match how & 1 {
        0 => Ipv4Addr::new(address[0], address[1], address[2], address[3]).into(),
        _ => Ipv6Addr::from(address).into(),
    };
    let now = u32::from_be_bytes([a, b, c, d]);
    let value = match how & 2 {
        0 => rest.to_vec(),
        _ => {
            let age = i32::from_be_bytes([e, f, g, h]) >> 18;
            let client = [rest.first().copied().unwrap_or(0); 8];
            let mut value =
                made(&SECRETS[usize::from(secret & 1)], client, now.wrapping_sub(age as u32), address);
            for change in rest.get(1..).unwrap_or_default().chunks_exact(2) {
                value[usize::from(change[0]) % 24] ^= change[1];
            }
            value.to_vec()
        }
    };
    let secrets = Secrets::new(SECRETS[0], Some(SECRETS[1]));
    let Some(cookie) = Cookie::read(&value) else {
        assert!(!matches!(value.len(), 8 | 16..=40), "{} octets are a cookie", value.len());
        return;
    };
    assert!(matches!(value.len(), 8 | 16..=40), "{} octets are no cookie", value.len());
    assert_eq!(cookie.has_server_part(), value.len() > 8);
    let standing = secrets.judge(&cookie, address, now);
    assert_eq!(standing, judged(&value, address, now));

    let answer = secrets.answer(&cookie, standing, address, now);
    assert_eq!(answer[..8], value[..8]);
    let of_answer = |address: IpAddr, later: u32| judged(&answer, address, now.wrapping_add(later));
    match standing {
        Standing::Proven { renew: false } => assert_eq!(answer[..], value[..]),
        _ => {
            for (later, wanted) in [
                (0, Standing::Proven { renew: false }),
                (1800, Standing::Proven { renew: false }),
                (1801, Standing::Proven { renew: true }),
                (3600, Standing::Proven { renew: true }),
                (3601, Standing::Unproven),
            ] {
                assert_eq!(of_answer(address, later), wanted, "after {later} s");
                let read = Cookie::read(&answer).expect("a cookie of ours");
                assert_eq!(secrets.judge(&read, address, now.wrapping_add(later)), wanted);
            }
        }
    }
    let other = match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address) ^ 1)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) ^ 1)),
    };
    let read = Cookie::read(&answer).expect("a cookie of ours");
    assert_eq!(secrets.judge(&read, other, now), Standing::Unproven);
}

/// RFC 9018 4: who is taken, and from when on a new one is due.
fn judged(value: &[u8], address: IpAddr, now: u32) -> Standing {
    let Ok(value) = <[u8; 24]>::try_from(value) else { return Standing::Unproven };
    if value[8] != 1 {
        return Standing::Unproven;
    }
    let time = u32::from_be_bytes([value[12], value[13], value[14], value[15]]);
    let age = i64::from(now.wrapping_sub(time) as i32);
    let is_of = |secret| hash(secret, &value[..16], address) == value[16..];
    match (-300..=3600).contains(&age) {
        true if is_of(&SECRETS[0]) => Standing::Proven { renew: age > 1800 },
        true if is_of(&SECRETS[1]) => Standing::Proven { renew: true },
        _ => Standing::Unproven,
    }
}

fn made(secret: &[u8; 16], client: [u8; 8], time: u32, address: IpAddr) -> [u8; 24] {
    let mut value = [0; 24];
    value[..8].copy_from_slice(&client);
    value[8] = 1;
    value[12..16].copy_from_slice(&time.to_be_bytes());
    let hash = hash(secret, &value[..16], address);
    value[16..].copy_from_slice(&hash);
    value
}

#[allow(deprecated)]
fn hash(secret: &[u8; 16], head: &[u8], address: IpAddr) -> [u8; 8] {
    let (low, high) = secret.split_at(8);
    let [low, high] = [low, high].map(|half| u64::from_le_bytes(half.try_into().expect("8 octets")));
    let mut hasher = SipHasher::new_with_keys(low, high);
    let mut input = head.to_vec();
    match address {
        IpAddr::V4(address) => input.extend(address.octets()),
        IpAddr::V6(address) => input.extend(address.octets()),
    }
    hasher.write(&input);
    hasher.finish().to_le_bytes()
}
