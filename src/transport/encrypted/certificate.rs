//! A certificate and its key, from their files: for the server at its start and when they change, and for whoever checks
//! them beforehand.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};

use crate::finding::Findings;

/// Longer files are no certificates: a device file never ends.
const LONGEST_FILE: u64 = 1 << 20;

/// Reads a certificate with those that signed it, and its key, both PEM; none if clients cannot be served with them.
///
/// One that has expired, or is not valid yet, is served and warned of: clients that do not verify it (RFC 7858 4.1) lose
/// nothing, and nobody else would gain from a server that is not there.
pub fn read(certificate: &Path, key: &Path, findings: &mut Findings) -> Option<CertifiedKey> {
    let mut refuse = |path: &Path, text: String| findings.unreadable(path, text);
    let chain = read_chain(certificate).map_err(|error| {
        let expected = "a certificate is expected, PEM (-----BEGIN CERTIFICATE-----)";
        refuse(certificate, format!("{error}; {expected}"));
    });
    let private = read_private(key).map_err(|error| {
        let expected = "a private key is expected, PEM (-----BEGIN PRIVATE KEY-----)";
        refuse(key, format!("{error}; {expected}"));
    });
    let read = CertifiedKey::from_der(chain.ok()?, private.ok()?, &ring::default_provider());
    let read = read.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let text = format!("this is not the key of the first certificate in {}", certificate.display());
            refuse(key, text);
        }
        Error::InvalidCertificate(error) => refuse(certificate, error.to_string()),
        error => refuse(key, error.to_string()),
    });
    let read = read.ok()?;
    for (number, of_chain) in (1..).zip(&read.cert) {
        if let Some(text) = trouble_with_time(of_chain, UnixTime::now()) {
            let text =
                format!("certificate {number} {text}; clients that verify it will not talk to the server");
            findings.note(certificate, text);
        }
    }
    Some(read)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let octets = read_file(path).map_err(|error| error.to_string())?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(chain) }
}

fn read_private(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let octets = read_file(path).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&octets).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no private key in it".to_owned(),
        error => error.to_string(),
    })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(LONGEST_FILE).read_to_end(&mut octets)?;
    Ok(octets)
}

/// What is wrong with a certificate at this time. Nobody is trusted here, so that no chain is ever found: what a
/// certificate says of its time is looked at before.
fn trouble_with_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let verified = verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], now, &[]);
    match verified {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after })) => {
            Some(format!("expired {} ago", rounded(time.as_secs() - not_after.as_secs())))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before })) => {
            let left = rounded(not_before.as_secs() - time.as_secs());
            Some(format!("is not valid for another {left}, by the clock of this machine"))
        }
        _ => None,
    }
}

/// `3 days`, `7 hours`, `20 minutes`: whole ones, at least two of the larger units.
fn rounded(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3600, "hours"), (60, "minutes")];
    let unit = UNITS.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} seconds"), |(length, name)| format!("{} {name}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_whole_units() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(rounded);
        let expected =
            ["0 seconds", "119 seconds", "2 minutes", "119 minutes", "2 hours", "47 hours", "2 days"];
        assert_eq!(told, expected);
    }
}
