//! What the process may do once its sockets are bound: as which user, and with which files (Landlock). Who is told of no user
//! stays root by its number and its files, without what root may do.
//!
//! Both are given up for good before anything of the network is read and before any thread is started: the kernel holds a
//! thread and what it starts to them, never the threads that are there already.
//!
//! Files are granted by folder, for a file that is renamed over another is a file of its own that nobody granted. So what the
//! configuration names may be read together with the folder that it stands in, and with the folder of what it is a symbolic
//! link to. What links within these folders point to is granted by `readable:` alone. Left to the unit file: system calls
//! (seccomp), for what a C library calls is none of a program's business.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
    path_beneath_rules,
};
use nix::sys::prctl;
use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tracing::{debug, info, warn};

use super::Options;
use crate::change::checkout;
use crate::config::{Config, DEFAULT_PATH};

/// The newest whose meaning was tested; older kernels do what they can.
const TESTED: ABI = ABI::V6;

/// Where distributions keep the certificates that HTTPS checks trust, and what those are links to.
const MACHINE_ROOTS: [&str; 9] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/static/ssl",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/usr/share/ssl",
    "/var/lib/ca-certificates",
];

/// What programs are made of that are not one file, and where they look for it.
const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];

/// What is executed in the name of every other program, by its name in these folders.
const LOADERS: ([&str; 2], &str) = (["/lib", "/lib64"], "ld-");

/// Files and folders.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ ReadFile | ReadDir });

/// The state folder is ours: files and folders, no programs, no devices.
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// Of the query log's folder: files that are written, renamed and removed.
const LOG: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ WriteFile | Truncate | MakeReg | RemoveFile });

/// Of the control socket's folder only the socket is ours.
const SOCKET: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ MakeSock | RemoveFile });

/// What a server that stays root keeps of it: files that are not root's are read and written, of those that it is held to.
const LEFT_OF_ROOT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// The user to become, with its group.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
}

/// Makes the folders that the server writes to, for the user that it is going to be, while it may still do so.
///
/// # Errors
/// That there is no such user.
pub(super) fn give_up_root(config: &Config) -> Result<(), String> {
    let wanted = config.user.as_deref().map(find).transpose()?;
    if !geteuid().is_root() {
        if let Some(identity) = wanted.filter(|identity| identity.uid != geteuid()) {
            warn!("user: {} is of no effect: only root becomes somebody else", identity.name);
        }
        make_folders(config, None);
        return Ok(());
    }
    make_folders(config, wanted.as_ref());
    let Some(identity) = wanted else {
        warn!("runs as root; name a user (user: in meridian.yaml, or --user)");
        return Ok(());
    };
    become_user(&identity).map_err(|error| format!("cannot become user {}: {error}", identity.name))?;
    info!("runs as {}", identity.name);
    Ok(())
}

/// `NAME`, or `NAME:GROUP`.
fn find(written: &str) -> Result<Identity, String> {
    let (name, group) = match written.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (written, None),
    };
    let user = User::from_name(name).map_err(|error| format!("user: {name}: {error}"))?;
    let user = user.ok_or_else(|| format!("user: there is no user {name:?}"))?;
    if user.uid.is_root() {
        return Err("user: root is whom to stop being; name another".to_owned());
    }
    let gid = match group {
        None => user.gid,
        Some(group) => {
            let found = Group::from_name(group).map_err(|error| format!("user: group {group}: {error}"))?;
            found.ok_or_else(|| format!("user: there is no group {group:?}"))?.gid
        }
    };
    Ok(Identity { name: user.name, uid: user.uid, gid })
}

/// Where the query log is, if there is one.
fn log_folder(config: &Config) -> Option<&Path> {
    let folder = config.query_log.as_ref()?.file.parent()?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Folders that are not there. Nothing that was there before changes hands: it may be a link that somebody else put there.
fn make_folders(config: &Config, owner: Option<&Identity>) {
    let control = config.control.parent().unwrap_or(Path::new(""));
    for folder in [control, &config.state].into_iter().chain(log_folder(config)) {
        if folder.as_os_str().is_empty() || folder.exists() {
            continue;
        }
        let made = fs::create_dir_all(folder).and_then(|()| {
            owner.map_or(Ok(()), |to| lchown(folder, Some(to.uid.as_raw()), Some(to.gid.as_raw())))
        });
        // Whoever needs it tells; without the state folder, all else works.
        if let Err(error) = made {
            debug!("{}: {error}", folder.display());
        }
    }
}

/// Groups first, for afterwards it may not: then nothing of root is left, not even to come back to.
fn become_user(identity: &Identity) -> nix::Result<()> {
    let Identity { name, uid, gid } = identity;
    setgroups(&[])?;
    // Such as the group that may read the keys of certificates.
    initgroups(&CString::new(name.as_str()).map_err(|_| nix::errno::Errno::EINVAL)?, *gid)?;
    setresgid(*gid, *gid, *gid)?;
    setresuid(*uid, *uid, *uid)?;
    prctl::set_no_new_privs()?;
    let (uids, gids) = (getresuid()?, getresgid()?);
    let is_so = [uids.real, uids.effective, uids.saved] == [*uid; 3]
        && [gids.real, gids.effective, gids.saved] == [*gid; 3]
        && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err();
    if is_so { Ok(()) } else { Err(nix::errno::Errno::EPERM) }
}

/// Has the kernel keep this thread, and those that it starts, away from all files but those that the server is for, from
/// listening anywhere else, and from what root may do. The version of Landlock that the kernel has, or none if it has not.
pub(super) fn confine(config: &Config, options: &Options) -> Option<i32> {
    if !config.sandbox {
        info!("no sandbox, as it was told");
        return None;
    }
    let readable = readable(config, options);
    for folder in &readable {
        debug!("sandbox: may read {}", folder.display());
    }
    let confined = match restrict(&readable, config) {
        Ok(status) => tell(&status),
        Err(error) => {
            warn!("no sandbox: {error}");
            None
        }
    };
    if geteuid().is_root()
        && let Err(error) = give_up_capabilities()
    {
        warn!("keeps what root may do: {error}");
    }
    confined
}

/// Programs that root starts would have them again, but for `no_new_privs`.
fn give_up_capabilities() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let left = capabilities(None)?.permitted & LEFT_OF_ROOT;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: left, permitted: left, inheritable })
}

fn tell(status: &RestrictionStatus) -> Option<i32> {
    let LandlockStatus::Available { effective_abi, kernel_abi } = status.landlock else {
        info!("no sandbox: this kernel has no Landlock");
        return None;
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        warn!("no sandbox: the kernel does not enforce it");
        return None;
    }
    let abi = kernel_abi.unwrap_or(effective_abi as i32);
    let mut enforced = vec!["files"];
    if abi >= ABI::V4 as i32 {
        enforced.push("TCP listening");
    }
    if abi >= ABI::V6 as i32 {
        enforced.push("signals");
    }
    info!("sandbox: {} are confined (Landlock ABI {abi})", enforced.join(", "));
    Some(abi)
}

fn restrict(readable: &BTreeSet<PathBuf>, config: &Config) -> Result<RestrictionStatus, RulesetError> {
    let control = config.control.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut scopes = BitFlags::from(Scope::Signal);
    // A service manager that listens there wants to be told all the same.
    if std::env::var_os("NOTIFY_SOCKET").is_none_or(|path| !path.as_encoded_bytes().starts_with(b"@")) {
        scopes |= Scope::AbstractUnixSocket;
    }
    // Whoever may run no program needs no libraries either.
    let programs = &config.executable;
    let (loaders, libraries, nothing): (_, &[&str], &[&str]) = match programs.is_empty() {
        true => (Vec::new(), &[], &[]),
        false => (loaders(), &LIBRARIES, &["/dev/null"]),
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TESTED))?
        // Checks connect to whatever they are told; nothing but what is bound by now is to be listened at.
        .handle_access(AccessNet::BindTcp)?
        .scope(scopes)?
        .create()?
        .add_rules(path_beneath_rules(readable, READ))?
        .add_rules(path_beneath_rules([config.state.as_path()], OWN))?
        .add_rules(path_beneath_rules(log_folder(config), LOG))?
        .add_rules(path_beneath_rules([control.unwrap_or(Path::new("."))], SOCKET))?
        .add_rules(path_beneath_rules(programs.iter().chain(&loaders), READ | AccessFs::Execute))?
        .add_rules(path_beneath_rules(libraries, READ))?
        .add_rules(path_beneath_rules(nothing, AccessFs::ReadFile | AccessFs::WriteFile))?
        .restrict_self()
}

/// Of every C library that is installed.
fn loaders() -> Vec<PathBuf> {
    let (folders, beginning) = LOADERS;
    let entries = folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let named =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(beginning.as_bytes()));
    named.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// Everything that may be read: what is named, where it stands, and where it really stands.
fn readable(config: &Config, options: &Options) -> BTreeSet<PathBuf> {
    let mut granted = BTreeSet::new();
    for path in named(config, options) {
        granted.extend(fs::canonicalize(&path));
        for path in [Ok(path.clone()), fs::canonicalize(&path)].into_iter().flatten() {
            let folder = match path.parent() {
                Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
                Some(folder) => folder,
                None => continue,
            };
            // The whole machine is not what somebody meant who put a file there.
            granted.extend(fs::canonicalize(folder).ok().filter(|folder| folder.parent().is_some()));
        }
    }
    let trusted = MACHINE_ROOTS.into_iter().map(PathBuf::from);
    // As rustls-native-certs has it.
    let by_environment = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let commits = checkout::logs(&config.zones);
    granted.extend(trusted.chain(by_environment).chain(config.readable.iter().cloned()).chain(commits));
    granted
}

/// Every path that the configuration names to be read.
fn named(config: &Config, options: &Options) -> Vec<PathBuf> {
    let file = match options.config_path.as_os_str().is_empty() {
        true => Path::new(DEFAULT_PATH),
        false => &options.config_path,
    };
    let mut paths = vec![file.to_owned(), config.zones.clone()];
    paths.extend(config.geodb.iter().chain(&config.answers.secrets).cloned());
    for files in config.listen.iter().filter_map(|listener| listener.protocol.certificate()) {
        paths.extend([files.certificate.clone(), files.key.clone()]);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QueryLog;
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};
    use std::thread;

    #[test]
    fn what_is_named_is_readable_with_its_folder_and_that_of_what_it_is_a_link_to() {
        let home = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(home.path()).unwrap();
        for folder in ["etc", "releases/1", "keys/archive"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        symlink("../releases/1", root.join("etc/zones")).unwrap();
        let config = Config {
            zones: root.join("etc/zones"),
            geodb: vec![root.join("not/there.mmdb"), "/one-that-stands-at-the-root.mmdb".into()],
            readable: vec![root.join("keys")],
            ..Config::default()
        };
        let options = Options { config_path: root.join("etc/meridian.yaml"), ..Options::default() };
        let all = readable(&config, &options);
        for folder in ["etc", "releases", "releases/1", "keys"] {
            assert!(all.contains(&root.join(folder)), "{folder} in {all:?}");
        }
        for path in [Path::new("/"), &root, &root.join("not")] {
            assert!(!all.contains(path), "{} in {all:?}", path.display());
        }
    }

    /// In a thread of its own, for there is no way back.
    #[test]
    fn a_confined_thread_and_those_that_it_starts_open_and_listen_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for folder in ["etc/zones", "state", "run", "log"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("etc/zones/file"), "text").unwrap();
        let config = Config {
            zones: path("etc/zones"),
            state: path("state"),
            control: path("run/meridian.sock"),
            query_log: Some(QueryLog { file: path("log/q.log"), sample: 1, max_size: 1 << 20, keep: 1 }),
            ..Config::default()
        };
        let options = Options { config_path: path("etc/meridian.yaml"), ..Options::default() };
        let before = TcpListener::bind("127.0.0.1:0").unwrap();
        let try_all = |abi: i32| {
            assert_eq!(fs::read_to_string(path("etc/zones/file")).unwrap(), "text");
            fs::write(path("state/new"), "text").unwrap();
            fs::rename(path("state/new"), path("state/file")).unwrap();
            fs::write(path("log/q.log"), "text").unwrap();
            fs::rename(path("log/q.log"), path("log/q.log.1")).unwrap();
            fs::remove_file(path("log/q.log.1")).unwrap();
            UnixListener::bind(path("run/meridian.sock")).unwrap();
            fs::remove_file(path("run/meridian.sock")).unwrap();
            TcpStream::connect(before.local_addr().unwrap()).unwrap();
            let is_denied = |error: io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            is_denied(File::open("/etc/hostname").unwrap_err());
            is_denied(fs::read_dir("/proc/self/fd").unwrap_err());
            is_denied(fs::write(path("etc/zones/new"), "text").unwrap_err());
            is_denied(fs::write(path("run/new"), "text").unwrap_err());
            is_denied(Command::new("/bin/true").spawn().unwrap_err());
            if abi >= 4 {
                is_denied(TcpListener::bind("127.0.0.1:0").unwrap_err());
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| match confine(&config, &options) {
                Some(abi) => thread::scope(|scope| {
                    scope.spawn(|| try_all(abi)).join().unwrap();
                    try_all(abi);
                }),
                None => println!("skipped: this kernel has no Landlock"),
            });
        });
        // All others are as free as they were.
        assert!(TcpListener::bind("127.0.0.1:0").is_ok());
    }

    #[test]
    fn what_is_listed_may_be_run_and_is_confined_like_the_server() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for folder in ["zones", "state", "run", "programs"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let script = |body: &str| {
            // By another process: what this one has open to write, a process that another test starts might hold open.
            fs::write(path("script"), format!("#!/bin/sh\n{body}\n")).unwrap();
            let mut install = Command::new("install");
            install.args(["-m", "755"]).args([path("script"), path("programs/check")]);
            assert!(install.status().unwrap().success());
        };
        let config = Config {
            zones: path("zones"),
            state: path("state"),
            control: path("run/meridian.sock"),
            executable: vec![path("programs"), "/bin/sh".into()],
            ..Config::default()
        };
        let options = Options { config_path: path("meridian.yaml"), ..Options::default() };
        let run = || Command::new(path("programs/check")).stdin(Stdio::null()).output().unwrap();
        script("echo good");
        thread::scope(|scope| {
            scope.spawn(|| {
                if confine(&config, &options).is_none() {
                    println!("skipped: this kernel has no Landlock");
                    return;
                }
                assert_eq!(run().stdout, b"good\n");
            });
        });
        // What it starts must be listed too, and it reads and writes what the server may.
        script("/bin/true || echo denied >/dev/stdout; cat /etc/hostname; echo >/tmp/x || exit 7");
        thread::scope(|scope| {
            scope.spawn(|| {
                if confine(&config, &options).is_some() {
                    let output = run();
                    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"denied\n"[..]));
                    assert!(Command::new("/bin/true").status().is_err());
                }
            });
        });
    }

    #[test]
    fn a_user_is_found_by_name_and_root_is_refused() {
        assert!(find("root").unwrap_err().contains("root"));
        assert!(find("nobody-of-that-name").unwrap_err().contains("no user"));
        let Ok(nobody) = find("nobody") else { return };
        assert_eq!(find("nobody:root").unwrap(), Identity { gid: Gid::from_raw(0), ..nobody });
    }
}
