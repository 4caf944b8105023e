//! Instructions, counted by valgrind's callgrind: they do not drift as times do.

use std::fs;
use std::process::Command;

/// Runs this program again under callgrind, with `child` set in its environment; gives the instructions of each call of
/// `function`, which must not be inlined, in order.
pub(crate) fn count(function: &str, child: &str) -> Vec<u64> {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    // It counts within the function alone, and writes a sum each time that one ends.
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program"))
        .env(child, "1")
        .status()
        .expect("valgrind is installed: apt-get install valgrind");
    assert!(status.success(), "{status}");
    let of_call = |number: usize| {
        let text = fs::read_to_string(folder.path().join(format!("out.{number}"))).ok()?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a sum");
        Some(totals.trim().parse().expect("a number"))
    };
    (1..).map_while(of_call).collect()
}
