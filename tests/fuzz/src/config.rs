//! `meridian.yaml`: read from a file in memory; nothing that it names is opened.

use meridian::config::Config;
use meridian::finding::Findings;

use super::scratch::Scratch;

thread_local! {
    static FILE: Scratch = Scratch::new("yaml");
}

/// No panic; what is accepted listens somewhere and names its paths; what is told can be printed.
///
/// # Panics
/// When that does not hold.
pub fn config(bytes: &[u8]) {
    FILE.with(|file| {
        let mut findings = Findings::new();
        let config = Config::read(Some(file.write(bytes)), &mut findings);
        let _ = findings.to_string();
        if !findings.has_errors() {
            assert!(!config.listen.is_empty(), "listens nowhere, and nothing was said");
            assert!(config.workers <= 1024);
            for path in [&config.zones, &config.control, &config.state] {
                assert!(!path.as_os_str().is_empty(), "an empty path, and nothing was said");
            }
        }
    });
}
