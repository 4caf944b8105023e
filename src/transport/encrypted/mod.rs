//! DNS over TLS (RFC 7858), QUIC (RFC 9250) and HTTPS (RFC 8484): what they have in common, which is the proof of who we
//! are.
//!
//! ```text
//!   certificate.rs   a certificate and its key, from their files
//!   tls.rs           a stream like any other, under TLS: the loop, the framing and the limits are those of `tcp`
//!   https.rs         the same door; behind it hyper reads HTTP/1.1 and HTTP/2
//!   quic.rs          quinn's connections under the same limits; each query has a stream of its own
//! ```
//!
//! The loops are our own over tokio-rustls, quinn and hyper. hickory-server would bring all three, but does not hold here:
//! it knows no limit of connections, neither in all nor for one client; it spins when accepting fails for want of
//! descriptors (EMFILE); and its handler takes records, so that what [`respond`](crate::nameserver::respond) wrote would be
//! read and written once more.
//!
//! 0-RTT is off everywhere: what is sent in it can be replayed by whoever heard it (RFC 9250 4.5).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig, SupportedProtocolVersion};
use tracing::{error, info, warn};

use crate::finding::{Findings, Severity};

pub mod certificate;
pub mod https;
pub mod quic;
pub mod tls;

/// How often files of certificates are looked at. What changed is taken when it has not changed again since the last look:
/// certificate and key are two files, and whoever renews them writes one after the other.
const LOOK: Duration = Duration::from_millis(500);
/// How often the thread that looks at them looks whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(200);

const TLS_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// RFC 9001 4.2: nothing older.
const QUIC_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// A certificate and its key, exchanged while the server runs when their files change.
#[derive(Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    looked: Mutex<Looked>,
}

/// What a file was like when it was looked at: what of it changes when it is written, or renamed over.
type Stamp = Option<(SystemTime, u64, u64)>;

#[derive(Debug)]
struct Looked {
    taken: [Stamp; 2],
    last: [Stamp; 2],
}

impl Identity {
    /// Reads a certificate with those that signed it, and its key, both PEM; none if clients cannot be served with them.
    pub fn read(certificate: &Path, key: &Path, findings: &mut Findings) -> Option<Arc<Identity>> {
        let stamps = [certificate, key].map(stamp_of);
        let current = certificate::read(certificate, key, findings)?;
        Some(Arc::new(Identity {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(current),
            looked: Mutex::new(Looked { taken: stamps, last: stamps }),
        }))
    }

    /// The file of the certificate.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.certificate
    }

    /// Takes over what changed, once it changes no more. A broken file is told of once, and changes nothing: connections
    /// go on under the earlier certificate.
    fn look(&self) {
        let stamps = [&self.certificate, &self.key].map(|path| stamp_of(path));
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = stamps == looked.last;
        looked.last = stamps;
        if !is_settled || stamps == looked.taken {
            return;
        }
        looked.taken = stamps;
        let mut findings = Findings::new();
        let read = certificate::read(&self.certificate, &self.key, &mut findings);
        for finding in findings.iter() {
            match finding.severity {
                Severity::Error => error!("{finding}; the earlier certificate stays in use"),
                Severity::Warning => warn!("{finding}"),
            }
        }
        if let Some(key) = read {
            self.current.store(Arc::new(key));
            info!("{}: a new certificate is in use", self.certificate.display());
        }
    }

    fn config(
        self: &Arc<Self>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Result<Arc<ServerConfig>, String> {
        let told = |error: Error| format!("TLS: {error}");
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.map_err(told)?.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        // Who comes again saves both sides the signature; what is needed for that is kept by the client alone.
        config.ticketer = ring::Ticketer::new().map_err(told)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    /// The same for every name: whoever asks a name server knows it by its address.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Looks at the files of certificates until `stop` is set. Needs a thread of its own: files may be on a slow disk.
pub fn keep(identities: &[Arc<Identity>], stop: &AtomicBool) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK_UP);
        if last.elapsed() >= LOOK {
            last = Instant::now();
            identities.iter().for_each(|identity| identity.look());
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn stamp_of(path: &Path) -> Stamp {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// The records of a message, in order, as far as they can be read: all that a transport has to know of it.
struct Records<'a> {
    /// From the header on.
    message: &'a [u8],
    at: usize,
    /// Of each section, how many are still to come.
    left: [u16; 3],
}

struct Record<'a> {
    /// 0: answer, 1: authority, 2: additional.
    section: usize,
    rtype: u16,
    ttl: u32,
    rdata: &'a [u8],
}

const ANSWER: usize = 0;
const AUTHORITY: usize = 1;
const OPT: u16 = 41;

impl<'a> Records<'a> {
    fn of(message: &'a [u8]) -> Option<Records<'a>> {
        let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let questions = count(4)?;
        let mut records = Records { message, at: 12, left: [count(6)?, count(8)?, count(10)?] };
        for _ in 0..questions {
            records.skip_name()?;
            records.octets(4)?;
        }
        Some(records)
    }

    fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..self.at + count)?;
        self.at += count;
        Some(taken)
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.octets(1)?[0] {
                0 => return Some(()),
                length @ 1..64 => drop(self.octets(usize::from(length))?),
                _ => return self.octets(1).map(drop),
            }
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let section = self.left.iter().position(|left| *left > 0)?;
        self.left[section] -= 1;
        self.skip_name()?;
        let fixed = self.octets(10)?;
        let [rtype, length] = [0, 8].map(|at| u16::from_be_bytes([fixed[at], fixed[at + 1]]));
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        Some(Record { section, rtype, ttl, rdata: self.octets(usize::from(length))? })
    }
}

/// For how long a response may be kept: the smallest TTL of its answers, or of its SOA where there are none (RFC 8484 5.1;
/// that TTL is the smaller one of RFC 2308 5 already). None where neither is there: an error is nobody's to keep.
fn freshness(response: &[u8]) -> Option<u32> {
    let records = Records::of(response)?;
    let section = if records.left[ANSWER] > 0 { ANSWER } else { AUTHORITY };
    records.filter(|record| record.section == section).map(|record| record.ttl).min()
}

/// Whether a query has the option edns-tcp-keepalive (RFC 7828).
fn has_keepalive(query: &[u8]) -> bool {
    const KEEPALIVE: u16 = 11;
    let opt =
        Records::of(query).into_iter().flatten().find(|record| record.section == 2 && record.rtype == OPT);
    let mut rest = opt.map_or(&[][..], |opt| opt.rdata);
    while let [code_high, code_low, high, low, behind @ ..] = rest {
        if u16::from_be_bytes([*code_high, *code_low]) == KEEPALIVE {
            return true;
        }
        rest = behind.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(name: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
        let length = (rdata.len() as u16).to_be_bytes();
        [name, &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, rdata].concat()
    }

    fn message(counts: [u8; 3], records: &[Vec<u8>]) -> Vec<u8> {
        let [answer, authority, additional] = counts;
        let header = [0, 0, 0x80, 0, 0, 1, 0, answer, 0, authority, 0, additional];
        [&header[..], b"\x03www\x07example\0\0\x01\0\x01", &records.concat()].concat()
    }

    #[test]
    fn freshness_is_the_smallest_ttl() {
        let pointer = b"\xc0\x0c";
        let a = |ttl| record(pointer, 1, ttl, &[192, 0, 2, 1]);
        let opt = record(b"\0", 41, 0, &[]);
        assert_eq!(freshness(&message([2, 0, 1], &[a(300), a(30), opt.clone()])), Some(30));
        assert_eq!(freshness(&message([1, 1, 0], &[a(300), record(b"\x01a\0", 2, 5, b"\0")])), Some(300));
        assert_eq!(
            freshness(&message([0, 1, 1], &[record(pointer, 6, 60, &[0; 22]), opt.clone()])),
            Some(60)
        );
        assert_eq!(freshness(&message([0, 0, 1], &[opt])), None);
        assert_eq!(freshness(&[0; 11]), None);
    }

    #[test]
    fn keepalive_is_found_wherever_it_stands() {
        let query = |options: &[u8]| message([0, 0, 1], &[record(b"\0", 41, 0, options)]);
        assert!(has_keepalive(&query(&[0, 11, 0, 0])));
        assert!(has_keepalive(&query(&[0, 3, 0, 2, 11, 11, 0, 11, 0, 2, 0, 1])));
        assert!(!has_keepalive(&query(&[0, 12, 0, 4, 0, 11, 0, 0])));
        assert!(!has_keepalive(&query(&[0, 12, 0xff, 0xff])));
        for length in 0..60 {
            assert!(!has_keepalive(&vec![0xff; length]));
        }
    }

    proptest! {
        /// Whatever comes is read to its end, and never beyond.
        #[test]
        fn nothing_that_comes_does_harm(counts in any::<[u8; 3]>(), rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = message(counts, &[rest]);
            for end in 0..whole.len() {
                has_keepalive(&whole[..end]);
                freshness(&whole[..end]);
            }
        }
    }
}
