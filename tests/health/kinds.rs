//! Checks that are no connection: questions, echoes, programs and files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::serialize::binary::BinDecodable;
use meridian::health::judge::Attempt;
use meridian::health::probe::Probe;
use meridian::site::{Check, CheckKind, DnsCheck, ExecCheck, FileCheck};
use meridian::wire::{Name, Rtype};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::following::until;
use crate::server::{of_kind, own_address};

const SHORT: Duration = Duration::from_millis(300);

async fn attempt(check: &Check, address: IpAddr) -> (Attempt, Option<String>) {
    let probe = Probe::new(check);
    let attempt = probe.attempt(address).await;
    (attempt, probe.remarks().words)
}

fn failure(text: &str) -> Attempt {
    Attempt::Failure(text.to_owned())
}

// Questions. The other side of them is hickory's.

fn dns_check(at: SocketAddr, rcodes: &[u16], tcp: bool) -> Check {
    let name = Name::parse("Example.COM.", None).unwrap();
    let dns = DnsCheck { name, rtype: Rtype::SOA, rcodes: rcodes.to_vec(), tcp };
    Check { timeout: SHORT, ..of_kind(CheckKind::Dns(dns), Some(at.port())) }
}

/// What a name server makes of a question: messages, in the order in which they are sent.
type Answer = fn(&[u8]) -> Vec<Vec<u8>>;

fn response(question: &[u8], rcode: ResponseCode) -> Vec<u8> {
    let question = Message::from_bytes(question).expect("a question that others can read");
    assert_eq!(question.queries.len(), 1);
    assert!(question.queries[0].name().is_fqdn());
    let mut response = question;
    response.metadata.message_type = MessageType::Response;
    response.metadata.response_code = rcode;
    response.to_vec().unwrap()
}

fn good(question: &[u8]) -> Vec<Vec<u8>> {
    vec![response(question, ResponseCode::NoError)]
}

async fn dns_server(answer: Answer) -> SocketAddr {
    let udp = UdpSocket::bind((own_address(), 0)).await.unwrap();
    let at = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        let mut question = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut question).await.unwrap();
            for message in answer(&question[..length]) {
                udp.send_to(&message, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            for message in answer(&question) {
                stream.write_u16(message.len() as u16).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
            let _ = stream.read_u8().await;
        }
    });
    at
}

#[tokio::test]
async fn a_question_that_is_answered_is_good_over_udp_and_tcp() {
    let at = dns_server(good).await;
    for tcp in [false, true] {
        assert_eq!(attempt(&dns_check(at, &[0], tcp), at.ip()).await.0, Attempt::Success);
    }
}

#[tokio::test]
async fn the_rcode_decides() {
    let at = dns_server(|question| vec![response(question, ResponseCode::Refused)]).await;
    for tcp in [false, true] {
        assert_eq!(attempt(&dns_check(at, &[0, 3], tcp), at.ip()).await.0, failure("REFUSED"));
        assert_eq!(attempt(&dns_check(at, &[0, 5], tcp), at.ip()).await.0, Attempt::Success);
    }
}

#[tokio::test]
async fn what_comes_with_another_id_or_question_is_not_the_answer() {
    let forged: Answer = |question| {
        let (mut id, mut name) = (response(question, ResponseCode::NoError), good(question).remove(0));
        id[0] ^= 1;
        name[13] ^= 1;
        vec![id, name, vec![0; 3], response(question, ResponseCode::ServFail)]
    };
    let at = dns_server(forged).await;
    assert_eq!(attempt(&dns_check(at, &[0], false), at.ip()).await.0, failure("SERVFAIL"));
    let said = attempt(&dns_check(at, &[0], true), at.ip()).await.0;
    assert_eq!(said, failure("DNS: an answer to another question"));
}

#[tokio::test]
async fn a_question_that_comes_back_is_no_answer() {
    let at = dns_server(|question| vec![question.to_vec()]).await;
    for tcp in [false, true] {
        let said = attempt(&dns_check(at, &[0], tcp), at.ip()).await.0;
        assert_eq!(said, failure("DNS: the question came back as it was"));
    }
}

#[tokio::test]
async fn a_name_server_that_is_silent_or_not_there_is_bad() {
    let at = dns_server(|_| vec![]).await;
    for tcp in [false, true] {
        let said = attempt(&dns_check(at, &[0], tcp), at.ip()).await.0;
        assert_eq!(said, failure("DNS: no answer within 300ms"));
    }
    let gone = SocketAddr::new(own_address(), 1);
    let said = attempt(&dns_check(gone, &[0], false), gone.ip()).await.0;
    assert_eq!(said, failure("DNS: Connection refused (os error 111)"));
}

// Echoes.

/// What the kernel lets this process's group do. Where it lets nobody, `.ci/run` has the tests run again in a network of
/// their own where it does.
fn pings_are_allowed() -> bool {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    let bounds: Vec<u64> = range.split_whitespace().flat_map(str::parse).collect();
    let group = u64::from(nix::unistd::getegid().as_raw());
    matches!(bounds[..], [first, last] if (first..=last).contains(&group))
}

#[tokio::test]
async fn an_echo_comes_back_or_the_sysctl_that_would_allow_it_is_told() {
    let check = of_kind(CheckKind::Icmp, None);
    for address in [own_address(), Ipv6Addr::LOCALHOST.into()] {
        let said = attempt(&check, address).await.0;
        match &said {
            Attempt::Success => assert!(pings_are_allowed()),
            // A machine without IPv6.
            Attempt::LocalTrouble(text) if address.is_ipv6() && !text.contains("sysctl") => {}
            Attempt::LocalTrouble(text) => {
                let group = nix::unistd::getegid();
                assert!(text.contains(&format!("net.ipv4.ping_group_range=\"{group} {group}\"")), "{text}");
                println!("skipped: {text}");
            }
            Attempt::Failure(_) => panic!("{address}: {said:?}"),
        }
    }
}

#[tokio::test]
async fn an_address_that_nobody_has_is_silent() {
    if !pings_are_allowed() {
        println!("skipped: the kernel lets this group send no echo request");
        return;
    }
    // TEST-NET-1: nobody answers, or a router says so, or this machine has no way to it.
    let check = Check { timeout: SHORT, ..of_kind(CheckKind::Icmp, None) };
    let said = attempt(&check, Ipv4Addr::new(192, 0, 2, 1).into()).await.0;
    assert_ne!(said, Attempt::Success);
}

// Programs.

fn exec_check(command: &[&str], timeout: Duration) -> Check {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Check { timeout, ..of_kind(CheckKind::Exec(ExecCheck { command }), Some(8080)) }
}

async fn shell(script: &str) -> (Attempt, Option<String>) {
    attempt(&exec_check(&["/bin/sh", "-c", script], Duration::from_secs(10)), own_address()).await
}

#[tokio::test]
async fn a_program_is_told_the_address_and_the_port_and_no_shell_is_in_between() {
    let check = exec_check(&["/bin/echo", "{address} on {port}; $HOME {site} {}"], Duration::from_secs(10));
    let said = attempt(&check, "2001:db8::1".parse().unwrap()).await;
    assert_eq!(said, (Attempt::Success, Some("2001:db8::1 on 8080; $HOME {site} {}".to_owned())));
}

#[tokio::test]
async fn what_a_program_exits_with_decides_and_its_first_line_is_told() {
    let (said, words) = shell("echo; echo '  slow: 12 ms  '; echo more").await;
    assert_eq!((said, words), (Attempt::Success, Some("slow: 12 ms".to_owned())));
    assert_eq!(shell("exit 0").await, (Attempt::Success, None));
    assert_eq!(shell("echo out of stock >&2; exit 2").await.0, failure("exit 2: out of stock"));
    assert_eq!(shell("exit 1").await.0, failure("exit 1"));
    assert_eq!(shell("kill -9 $$").await.0, failure("ended by signal 9"));
}

#[tokio::test]
async fn what_a_program_says_without_end_is_bounded_and_cannot_act_on_a_terminal() {
    let (said, words) = shell("printf '\\033[31mred\\n'; head -c 3000000 /dev/zero").await;
    assert_eq!((said, words), (Attempt::Success, Some(" [31mred".to_owned())));
    let (_, words) = shell("head -c 100000 /dev/zero | tr '\\0' x").await;
    assert_eq!(words, Some("x".repeat(200)));
}

#[tokio::test]
async fn a_program_has_an_empty_environment_but_for_the_path_and_reads_nothing() {
    let (said, words) =
        shell("read line && exit 1; env | cut -d= -f1 | grep -vE '^(PATH|PWD|SHLVL|_)$'; true").await;
    assert_eq!((said, words), (Attempt::Success, None));
    assert_eq!(shell("test -n \"$PATH\"").await.0, Attempt::Success);
}

#[tokio::test]
async fn meaning_7_a_program_that_cannot_be_started_is_our_own_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let no_program = folder.path().join("file");
    fs::write(&no_program, "").unwrap();
    for program in [Path::new("/not/there"), &no_program, folder.path()] {
        let program = program.to_str().unwrap();
        let said = attempt(&exec_check(&[program], SHORT), own_address()).await.0;
        let Attempt::LocalTrouble(text) = said else { panic!("{said:?}") };
        assert!(text.starts_with(&format!("{program}: ")), "{text}");
    }
}

fn is_alive(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) && !state.contains(") Z ")
}

/// The number that a script wrote there.
async fn number_in(path: &Path) -> i32 {
    let read = || fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    until(|| read().is_some()).await;
    read().unwrap()
}

#[tokio::test]
async fn a_program_that_takes_too_long_has_failed_and_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (own, started) = (folder.path().join("own"), folder.path().join("started"));
    let script = format!("echo $$ >{}; sleep 600 & echo $! >{}; wait", own.display(), started.display());
    let begun = Instant::now();
    let check = exec_check(&["/bin/sh", "-c", &script], Duration::from_secs(1));
    assert_eq!(attempt(&check, own_address()).await.0, failure("not done within 1s"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    for path in [own, started] {
        let pid = number_in(&path).await;
        until(|| !is_alive(pid)).await;
    }
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let begun = Instant::now();
    let (said, words) = shell(&format!("sleep 600 & echo $! >{}; echo good", started.display())).await;
    assert_eq!((said, words), (Attempt::Success, Some("good".to_owned())));
    assert!(begun.elapsed() < Duration::from_secs(5), "it holds the output open");
    let pid = number_in(&started).await;
    until(|| !is_alive(pid)).await;
}

#[tokio::test]
async fn an_attempt_that_is_given_up_kills_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    let script = format!("echo $$ >{}; sleep 600", own.display());
    let check = exec_check(&["/bin/sh", "-c", &script], Duration::from_secs(600));
    let task = tokio::spawn(async move { attempt(&check, own_address()).await });
    let pid = number_in(&own).await;
    task.abort();
    until(|| !is_alive(pid)).await;
    // Nor does it stay as one that nobody waited for.
    until(|| !Path::new(&format!("/proc/{pid}")).exists()).await;
}

// Files.

struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new() -> Written {
        Written { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn attempt(&self, name: &str, address: IpAddr) -> (Attempt, Option<String>) {
        let file = FileCheck { path: self.path(name), max_age: Duration::from_secs(30) };
        attempt(&of_kind(CheckKind::File(file), None), address).await
    }

    async fn said(&self, text: &[u8]) -> (Attempt, Option<String>) {
        fs::write(self.path("file"), text).unwrap();
        self.attempt("file", own_address()).await
    }
}

#[tokio::test]
async fn the_first_word_of_a_file_decides_and_the_rest_of_the_line_is_told() {
    let written = Written::new();
    assert_eq!(written.said(b"up\n").await, (Attempt::Success, None));
    let words = Some("12 of 12 workers".to_owned());
    assert_eq!(written.said(b"up 12 of 12 workers\nmore\n").await, (Attempt::Success, words));
    assert_eq!(written.said(b"down  disk \x1b full").await.0, failure("disk   full"));
    let path = written.path("file");
    assert_eq!(written.said(b"down\n").await.0, failure(&format!("{} says down", path.display())));
}

#[tokio::test]
async fn the_address_may_be_part_of_the_path() {
    let written = Written::new();
    fs::write(written.path("of-192.0.2.1"), "down").unwrap();
    fs::write(written.path("of-192.0.2.2"), "up").unwrap();
    let first = written.attempt("of-{address}", Ipv4Addr::new(192, 0, 2, 1).into()).await.0;
    let second = written.attempt("of-{address}", Ipv4Addr::new(192, 0, 2, 2).into()).await.0;
    assert!(matches!(first, Attempt::Failure(_)));
    assert_eq!(second, Attempt::Success);
}

#[tokio::test]
async fn meaning_7_a_writer_that_is_silent_takes_no_address_away() {
    let written = Written::new();
    let path = written.path("file");
    let trouble = |text: &str| Attempt::LocalTrouble(text.replace("FILE", &path.display().to_string()));
    let missing = written.attempt("file", own_address()).await.0;
    assert_eq!(missing, trouble("the writer is silent: FILE: No such file or directory (os error 2)"));

    written.said(b"down").await;
    for away in [Duration::from_secs(40), Duration::from_secs(3600)] {
        let set = |time| fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        set(SystemTime::now() - away);
        let said = written.attempt("file", own_address()).await.0;
        assert_eq!(said, trouble(&format!("the writer is silent: FILE is {} s old", away.as_secs())));
        set(SystemTime::now() + away);
        let said = written.attempt("file", own_address()).await.0;
        assert!(matches!(said, Attempt::LocalTrouble(_)), "a time to come: {said:?}");
    }

    for (text, word) in [(&b""[..], ""), (b"u", "u"), (b"upwards", "upwards"), (b"DOWN", "DOWN")] {
        assert_eq!(
            written.said(text).await.0,
            trouble(&format!("FILE says \"{word}\", neither up nor down"))
        );
    }
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = written.attempt("file", own_address()).await.0;
    assert_eq!(said, trouble("the writer is silent: FILE is no file"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(written.attempt("file", own_address()).await.0, Attempt::LocalTrouble(_)));
}

#[tokio::test]
async fn a_large_file_is_read_in_part() {
    let written = Written::new();
    let text = [b"up ", &vec![b'x'; 1 << 20][..]].concat();
    assert_eq!(written.said(&text).await.1.map(|words| words.len()), Some(197));
}

/// Of a file that nobody may read; root may.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_our_own_trouble() {
    let written = Written::new();
    fs::write(written.path("file"), "down").unwrap();
    fs::set_permissions(written.path("file"), fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let said = written.attempt("file", own_address()).await.0;
    assert_eq!(matches!(said, Attempt::LocalTrouble(_)), !is_root, "{said:?}");
}
