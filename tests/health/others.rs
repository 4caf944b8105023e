//! Checks of servers that others wrote, from Debian's packages: nginx, Squid and HAProxy, BIND and Knot. One that is not
//! installed is told and passed over.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meridian::health::judge::Attempt;
use meridian::health::probe::Probe;
use meridian::site::{Check, CheckKind, DnsCheck, HttpCheck, TlsCheck};
use meridian::wire::{Name, Rtype};
use tokio::time::{sleep, timeout};

use crate::server::{PATIENCE, Server, good, of_kind, own_address};
use crate::tls::Authority;

/// A server in a folder of its own; dropped, it is killed.
struct Other {
    child: Child,
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Drop for Other {
    fn drop(&mut self) {
        // Gently at first: those that have processes of their own take them along.
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Other {
    /// Starts a program with a file that is made in its folder; none, and a word, where it is not installed.
    fn start(
        name: &'static str,
        arguments: &[&str],
        configuration: impl Fn(&Path) -> String,
    ) -> Option<Other> {
        let program = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"]
            .into_iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.exists());
        let Some(program) = program else {
            println!("skipped: {name} is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        // Some give up root and write there as somebody else.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let file = folder.path().join("configuration");
        fs::write(&file, configuration(folder.path())).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Other { child, folder, name })
    }

    /// Until an attempt says so.
    async fn says(&mut self, check: &Check, address: IpAddr, wanted: &Attempt) {
        let probe = Probe::new(check);
        let mut last = None;
        let asked = async {
            while last.as_ref() != Some(wanted) {
                sleep(Duration::from_millis(5)).await;
                last = Some(probe.attempt(address).await);
            }
        };
        if timeout(PATIENCE, asked).await.is_err() {
            let ended = self.child.try_wait();
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            panic!("{} says {last:?} and never {wanted:?} ({ended:?})\n{log}", self.name);
        }
    }
}

/// An address of this test's own, with a port that is free there.
fn place() -> SocketAddr {
    TcpListener::bind((own_address(), 0)).unwrap().local_addr().unwrap()
}

fn http(path: &str, body: Option<&str>) -> HttpCheck {
    HttpCheck {
        path: path.to_owned(),
        host: Some("www.example.com".to_owned()),
        status: vec![(200, 299)],
        body: body.map(str::to_owned),
        load: None,
    }
}

fn http_check(at: SocketAddr, path: &str, body: Option<&str>) -> Check {
    of_kind(CheckKind::Http(http(path, body)), Some(at.port()))
}

fn https_check(at: SocketAddr, path: &str, tls: TlsCheck) -> Check {
    of_kind(CheckKind::Https(http(path, None), tls), Some(at.port()))
}

fn failure(text: &str) -> Attempt {
    Attempt::Failure(text.to_owned())
}

fn refused() -> Attempt {
    failure("connect: Connection refused (os error 111)")
}

#[tokio::test]
async fn nginx() {
    let (plain, encrypted, authority) = (place(), place(), Authority::new());
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let configuration = |folder: &Path| {
        let (certificate, key) = authority.sign("www.example.com");
        fs::write(folder.join("certificate.pem"), certificate).unwrap();
        fs::write(folder.join("key.pem"), key).unwrap();
        let large = format!("{}all is well{}", "x".repeat(60_000), "x".repeat(1_000_000));
        fs::write(folder.join("large.txt"), large).unwrap();
        let folder = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
            .concat();
        format!(
            "daemon off; pid {folder}/pid; error_log stderr; events {{}}
             http {{ access_log off; gzip on; gzip_types text/plain; root {folder}; {temporary}
               server {{
                 listen {plain}; listen {encrypted} ssl; server_name www.example.com;
                 ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
                 location = /healthz {{ return 200 'all is well'; }}
                 location = /ill {{ return 503; }}
                 location = /silent {{ return 444; }}
               }}
               server {{ listen {plain} default_server; server_name _; return 404; }}
             }}"
        )
    };
    let Some(mut nginx) = Other::start("nginx", &["-e", "stderr", "-c"], configuration) else { return };
    let address = plain.ip();
    nginx.says(&http_check(plain, "/healthz", Some("is well")), address, &Attempt::Success).await;
    nginx.says(&http_check(plain, "/large.txt", Some("all is well")), address, &Attempt::Success).await;
    let missing = failure("the body has no \"not there\"");
    nginx.says(&http_check(plain, "/large.txt", Some("not there")), address, &missing).await;
    nginx.says(&http_check(plain, "/ill", None), address, &failure("status 503")).await;
    let mut other = http_check(plain, "/healthz", None);
    if let CheckKind::Http(http) = &mut other.kind {
        http.host = None;
    }
    nginx.says(&other, address, &failure("status 404")).await;
    let said = Probe::new(&http_check(plain, "/silent", None)).attempt(address).await;
    assert!(matches!(&said, Attempt::Failure(text) if text.starts_with("HTTP: ")), "{said:?}");

    let address = encrypted.ip();
    let check = https_check(encrypted, "/healthz", tls.clone());
    nginx.says(&check, address, &Attempt::Success).await;
    let probe = Probe::new(&check);
    assert_eq!(probe.attempt(address).await, Attempt::Success);
    assert!(probe.remarks().certificate.is_some());
    let pinned = https_check(encrypted, "/healthz", TlsCheck { pin: vec![[0; 32]], ..tls.clone() });
    let said = Probe::new(&pinned).attempt(address).await;
    assert!(matches!(&said, Attempt::Failure(text) if text.contains("not a pinned one")), "{said:?}");
    // Plain HTTP at a port that speaks TLS, which nginx calls a bad request.
    nginx.says(&http_check(encrypted, "/healthz", None), address, &failure("status 400")).await;
    drop(nginx);
    assert_eq!(Probe::new(&http_check(plain, "/healthz", None)).attempt(plain.ip()).await, refused());
}

#[tokio::test]
async fn squid_as_a_reverse_proxy() {
    let (at, origin) = (place(), Server::start(good()).await);
    let configuration = |folder: &Path| {
        format!(
            "http_port {at} accel defaultsite=www.example.com\n\
             cache_peer {} parent {} 0 no-query originserver name=origin connect-timeout=1 seconds\n\
             http_access allow all\ncache deny all\ncache_effective_user proxy\nshutdown_lifetime 0 seconds\n\
             pid_filename none\naccess_log none\ncache_log stdio:{folder}/cache.log\ncoredump_dir {folder}\n",
            origin.at.ip(),
            origin.at.port(),
            folder = folder.display()
        )
    };
    let Some(mut squid) = Other::start("squid", &["-N", "-f"], configuration) else { return };
    let check = http_check(at, "/", None);
    squid.says(&check, at.ip(), &Attempt::Success).await;
    origin.kill().await;
    squid.says(&check, at.ip(), &failure("status 503")).await;
    drop(squid);
    assert_eq!(Probe::new(&check).attempt(at.ip()).await, refused());
}

#[tokio::test]
async fn haproxy() {
    let (plain, encrypted, authority) = (place(), place(), Authority::new());
    let origin = Server::start(good()).await;
    let configuration = |folder: &Path| {
        let (certificate, key) = authority.sign("www.example.com");
        fs::write(folder.join("both.pem"), certificate + &key).unwrap();
        format!(
            "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n retries 0\n\
             frontend web\n bind {plain}\n bind {encrypted} ssl crt {}/both.pem\n monitor-uri /healthz\n \
             monitor fail if {{ nbsrv(origin) lt 1 }}\n default_backend origin\n\
             backend origin\n server one {} check inter 50ms fall 1 rise 1\n",
            folder.display(),
            origin.at
        )
    };
    let Some(mut haproxy) = Other::start("haproxy", &["-db", "-f"], configuration) else { return };
    let tls = TlsCheck { sni: None, verify: true, ca: authority.ca(), pin: vec![] };
    let through = https_check(encrypted, "/", tls.clone());
    let health = https_check(encrypted, "/healthz", tls);
    haproxy.says(&http_check(plain, "/healthz", None), plain.ip(), &Attempt::Success).await;
    haproxy.says(&http_check(plain, "/", None), plain.ip(), &Attempt::Success).await;
    haproxy.says(&through, encrypted.ip(), &Attempt::Success).await;
    haproxy.says(&health, encrypted.ip(), &Attempt::Success).await;
    // The proxy lives on, and says what it knows.
    origin.kill().await;
    haproxy.says(&health, encrypted.ip(), &failure("status 503")).await;
    haproxy.says(&through, encrypted.ip(), &failure("status 503")).await;
    drop(haproxy);
    assert_eq!(Probe::new(&health).attempt(encrypted.ip()).await, refused());
}

fn dns_check(at: SocketAddr, name: &str, tcp: bool) -> Check {
    let name = Name::parse(name, None).unwrap();
    let dns = DnsCheck { name, rtype: Rtype::SOA, rcodes: vec![0], tcp };
    Check { timeout: Duration::from_secs(2), ..of_kind(CheckKind::Dns(dns), Some(at.port())) }
}

const ZONE: &str = "@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\nns 60 A 192.0.2.1\n";

async fn name_server(mut server: Other, at: SocketAddr) {
    for tcp in [false, true] {
        server.says(&dns_check(at, "example.com.", tcp), at.ip(), &Attempt::Success).await;
        server.says(&dns_check(at, "nowhere.example.com.", tcp), at.ip(), &failure("NXDOMAIN")).await;
        server.says(&dns_check(at, "example.net.", tcp), at.ip(), &failure("REFUSED")).await;
    }
    drop(server);
    let said = Probe::new(&dns_check(at, "example.com.", false)).attempt(at.ip()).await;
    assert_eq!(said, failure("DNS: Connection refused (os error 111)"));
}

#[tokio::test]
async fn bind_answers_questions() {
    // It listens at addresses that an interface has, and would ask the root for keys.
    let at = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let configuration = |folder: &Path| {
        fs::write(folder.join("zone"), ZONE).unwrap();
        format!(
            "options {{ directory \"{0}\"; pid-file \"{0}/pid\"; session-keyfile \"{0}/session\"; recursion no;
               dnssec-validation no; notify no;
               listen-on port {1} {{ {2}; }}; listen-on-v6 {{ none; }}; }};
             controls {{ }};
             zone example.com {{ type primary; file \"zone\"; }};",
            folder.display(),
            at.port(),
            at.ip()
        )
    };
    let Some(server) = Other::start("named", &["-g", "-c"], configuration) else { return };
    name_server(server, at).await;
}

#[tokio::test]
async fn knot_answers_questions() {
    let at = place();
    let configuration = |folder: &Path| {
        fs::write(folder.join("zone"), ZONE).unwrap();
        format!(
            "server:\n  listen: {}@{}\n  rundir: {2}\ndatabase:\n  storage: {2}\nzone:\n  - domain: example.com\n    file: {2}/zone\n",
            at.ip(),
            at.port(),
            folder.display()
        )
    };
    let Some(server) = Other::start("knotd", &["-c"], configuration) else { return };
    name_server(server, at).await;
}
