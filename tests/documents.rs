//! What README.md and docs/ show is run, and what it prints is compared with what they show; their samples are checked.
//!
//! In a block marked `console` a line that begins with `$ ` is a command, and what follows it is its output. `cargo run --release --`
//! stands for the binary, `dig` is played by the client here, `cat`, `cp` and `sed` are the machine's own, and port 5300 is wherever the server listens.
//! Times, process and user numbers are those of the page. A comment in the text, `<!-- writes: WORDS -->`, is typed into the command that still runs.
//! What ends in `&` goes on in the background until `kill %N` or `wait %N`, which prints what it has printed; what listens there on port 5301 is asked there.
//! A command that fails is followed by `echo $?`. A block marked `file=PATH` is a file of the reader's, there from the beginning.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use meridian::wire::message::{Message, query};
use meridian::wire::{Name, Rtype, rdata};

/// For anything that must come in the end.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Step {
    Command { line: usize, words: String, output: Vec<String> },
    Writes(String),
}

/// A block of a page: what it is marked with, and its lines with the number of the first.
struct Block {
    mark: String,
    line: usize,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), blocks.last_mut()) {
            (Some(_), _) if is_open => is_open = false,
            (Some(mark), _) => {
                is_open = true;
                blocks.push(Block { mark: mark.to_owned(), line: index + 2, lines: Vec::new() });
            }
            (None, Some(block)) if is_open => block.lines.push(line.to_owned()),
            _ => {
                if let Some(words) =
                    line.strip_prefix("<!-- writes: ").and_then(|rest| rest.strip_suffix(" -->"))
                {
                    blocks.push(Block {
                        mark: "writes".to_owned(),
                        line: index + 1,
                        lines: vec![words.to_owned()],
                    });
                }
            }
        }
    }
    blocks
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in blocks(text) {
        match block.mark.as_str() {
            "writes" => steps.push(Step::Writes(block.lines.concat())),
            "console" => {
                for (index, line) in block.lines.iter().enumerate() {
                    match (line.strip_prefix("$ "), steps.last_mut()) {
                        (Some(words), _) => {
                            let words = words.to_owned();
                            steps.push(Step::Command { line: block.line + index, words, output: Vec::new() });
                        }
                        (None, Some(Step::Command { output, .. })) => output.push(line.clone()),
                        _ => panic!("line {}: output without a command", block.line + index),
                    }
                }
            }
            _ => {}
        }
    }
    steps
}

/// A copy of what the repository ships, and a server that serves it.
struct Clone {
    folder: tempfile::TempDir,
    /// Where the web servers of the sample listen here; 8080 may be somebody's.
    web_port: u16,
    server: Child,
    port: u16,
    /// What goes on, in the background or in another terminal; the first is `%1`, as in a shell, which gives numbers again when
    /// all that is behind them is over.
    jobs: Vec<Option<Job>>,
    /// How the last command exited.
    code: i32,
}

/// A command that has not ended.
struct Job {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Where it listens, if it was told to.
    port: Option<u16>,
}

impl Clone {
    /// With files of the reader's.
    fn new(files: &[Block]) -> Clone {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["zones", "geodb"] {
            copy(&root().join(name), &folder.path().join(name));
        }
        let web_port = TcpListener::bind("127.0.0.11:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let sites = folder.path().join("zones/sites.yaml");
        let text = fs::read_to_string(&sites).expect("the sample's sites");
        fs::write(&sites, text.replace("8080", &web_port.to_string())).expect("the sample's sites");
        for block in files {
            let path = folder.path().join(block.mark.trim_start_matches("file="));
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, block.lines.join("\n") + "\n").expect("a file");
        }
        let mut server = meridian(folder.path());
        let (server, port) = listening(server.args(["serve", "--listen", "127.0.0.1:0"]));
        Clone { folder, web_port, server, port, jobs: Vec::new(), code: 0 }
    }

    fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Writes(words) => {
                let job =
                    self.jobs.iter_mut().flatten().last().ok_or("nothing runs that could be written to")?;
                writeln!(job.input, "{words}").map_err(|error| error.to_string())
            }
            Step::Command { words, output, line } => {
                let played = self.command(words, output);
                played.map_err(|came| {
                    format!("line {line}: $ {words}\n--- shown\n{}\n--- came\n{came}", output.join("\n"))
                })
            }
        }
    }

    /// What came instead, if it is not what is shown.
    fn command(&mut self, words: &str, shown: &[String]) -> Result<(), String> {
        let words = words.replace("cargo run --release --", "meridian");
        let words = split(&words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let code = std::mem::take(&mut self.code);
        if words == ["echo", "$?"] {
            return same(&[code.to_string()], shown);
        }
        if code != 0 {
            return Err(format!("the command before exited {code}, which is not shown"));
        }
        match words.as_slice() {
            ["dig", arguments @ ..] => self.dig_until(arguments, shown),
            ["meridian", "demo-sites"] => self.start(&["demo-sites"], shown),
            ["meridian", arguments @ .., "&"] => self.start(arguments, shown),
            ["kill" | "wait", job] => self.end_job(words[0], job, shown),
            // What is served is written down a little later.
            ["meridian", "history", ..] => self.until(|| Ok(self.run(&words)?.0), shown),
            ["meridian" | "cat" | "cp" | "sed", ..] => {
                let (came, code) = self.run(&words)?;
                self.code = code;
                same(&came, shown)
            }
            _ => Err("no such command here".to_owned()),
        }
    }

    /// What a command prints, and how it exits.
    fn run(&self, words: &[&str]) -> Result<(Vec<String>, i32), String> {
        let mut command = match words[0] {
            "meridian" => meridian(self.folder.path()),
            other => Command::new(other),
        };
        let command = command.args(&words[1..]).current_dir(self.folder.path());
        let output = command
            .env_remove("SUDO_USER")
            .env("USER", "alice")
            .output()
            .map_err(|error| error.to_string())?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((text.lines().map(str::to_owned).collect(), output.status.code().unwrap_or(-1)))
    }

    /// Runs a command that goes on, once it has printed what is shown; a server once it listens.
    fn start(&mut self, arguments: &[&str], shown: &[String]) -> Result<(), String> {
        let mut command = meridian(self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, port) = match arguments {
            [first @ .., "--listen", "127.0.0.1:5301", "2>", "preview.log"] => {
                let (child, port) = listening(command.args(first).args(["--listen", "127.0.0.1:0"]));
                (child, Some(port))
            }
            _ => (command.args(arguments).spawn().map_err(|error| error.to_string())?, None),
        };
        let lines = lines_of(child.stdout.take().ok_or("no output")?);
        let input = child.stdin.take().ok_or("no input")?;
        let came = shown.iter().map_while(|_| lines.recv_timeout(PATIENCE).ok());
        let came: Vec<String> = came.map(|line| line.replace(&self.web_port.to_string(), "8080")).collect();
        self.jobs.push(Some(Job { child, input, lines, port }));
        same(&came, shown)
    }

    /// What it has printed since is shown.
    fn end_job(&mut self, how: &str, job: &str, shown: &[String]) -> Result<(), String> {
        let number = job.strip_prefix('%').and_then(|number| number.parse::<usize>().ok());
        let job = number.and_then(|number| self.jobs.get_mut(number.checked_sub(1)?)?.take());
        let mut job = job.ok_or("no such job")?;
        while self.jobs.pop_if(|job| job.is_none()).is_some() {}
        if how == "kill" {
            job.child.kill().map_err(|error| error.to_string())?;
        }
        let came: Vec<String> = job.lines.iter().collect();
        let status = job.child.wait().map_err(|error| error.to_string())?;
        self.code = if how == "kill" { 0 } else { status.code().unwrap_or(-1) };
        same(&came, shown)
    }

    /// As a person does, who asks again: health takes its time.
    fn dig_until(&self, arguments: &[&str], shown: &[String]) -> Result<(), String> {
        self.until(|| self.dig(arguments), shown)
    }

    fn until(&self, look: impl Fn() -> Result<Vec<String>, String>, shown: &[String]) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let result = same(&look()?, shown);
            if result.is_ok() || start.elapsed() > PATIENCE {
                return result;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `dig @127.0.0.1 -p 5300 NAME [TYPE] [+subnet=PREFIX] +short`.
    fn dig(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let (mut name, mut rtype, mut subnet) = (None, Rtype::A, None);
        let mut port = self.port;
        for argument in arguments {
            match *argument {
                "5301" => {
                    port =
                        self.jobs.iter().flatten().find_map(|job| job.port).ok_or("nothing listens there")?;
                }
                "@127.0.0.1" | "-p" | "5300" | "+short" => {}
                option if option.starts_with('+') => {
                    let prefix =
                        option.strip_prefix("+subnet=").ok_or_else(|| format!("unknown option {option}"))?;
                    subnet = Some(prefix.parse::<IpNetwork>().map_err(|error| error.to_string())?);
                }
                word if name.is_none() => {
                    name = Some(Name::parse(word, Some(&Name::root())).map_err(|error| error.to_string())?);
                }
                word => rtype = word.parse().map_err(|_| format!("unknown type {word}"))?,
            }
        }
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let question = query(&name.ok_or("no name")?, rtype, subnet);
        socket.send_to(&question, ("127.0.0.1", port)).map_err(|error| error.to_string())?;
        let mut response = [0; 4096];
        let length = socket.recv(&mut response).map_err(|error| error.to_string())?;
        let message = Message::read(&response[..length]).ok_or("no message")?;
        Ok(message.answers().iter().map(|record| rdata::print(record.rtype, &record.rdata)).collect())
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        for child in self.jobs.iter_mut().flatten().map(|job| &mut job.child).chain([&mut self.server]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn meridian(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.current_dir(folder);
    command
}

/// A server of its own, and the port that it tells it listens on.
fn listening(command: &mut Command) -> (Child, u16) {
    let mut server =
        command.env("RUST_LOG", "info").stderr(Stdio::piped()).spawn().expect("the server starts");
    let log = lines_of(server.stderr.take().expect("its log"));
    let port_of = |line: String| line.rsplit_once("listening on 127.0.0.1:")?.1.trim().parse().ok();
    let port = std::iter::from_fn(|| log.recv_timeout(PATIENCE).ok()).find_map(port_of);
    // From here on nobody reads the log, which must not matter to the server.
    (server, port.expect("the server tells where it listens"))
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

/// As a shell does where there are quotes and nothing else.
fn split(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match letter {
            ' ' if quote.is_none() => words.push(String::new()),
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            _ => words.last_mut().expect("there is one").push(letter),
        }
    }
    words
}

fn same(came: &[String], shown: &[String]) -> Result<(), String> {
    let trimmed = |lines: &[String]| lines.join("\n").trim_end().to_owned();
    if without_now(&trimmed(came)) == without_now(&trimmed(shown)) { Ok(()) } else { Err(trimmed(came)) }
}

/// The same of any time and any user.
fn without_now(text: &str) -> String {
    const TIME: &str = "dddd-dd-dd dd:dd:dd";
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_time = rest.len() >= TIME.len()
            && rest.bytes().zip(TIME.bytes()).all(|(octet, form)| match form {
                b'd' => octet.is_ascii_digit(),
                form => octet == form,
            });
        let length = match rest.strip_prefix("uid ") {
            _ if is_time => TIME.len(),
            Some(number) => 4 + number.bytes().take_while(u8::is_ascii_digit).count(),
            None => 0,
        };
        match length {
            0 => {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
            }
            length => {
                out.push_str("(now)");
                rest = &rest[length..];
            }
        }
    }
    out
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn every_command_prints_what_the_pages_show() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let steps = steps(&text);
        if steps.is_empty() {
            continue;
        }
        let files: Vec<Block> =
            blocks(&text).into_iter().filter(|block| block.mark.starts_with("file=")).collect();
        let mut clone = Clone::new(&files);
        for step in &steps {
            if let Err(text) = clone.play(step) {
                panic!("{}: {text}", page.display());
            }
        }
        assert_eq!(clone.code, 0, "{}: the last command failed, which is not shown", page.display());
    }
}

/// A YAML block whose first line is a comment with a path is that file; those of one page belong together.
#[test]
fn the_samples_of_the_pages_are_valid() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let mut files = BTreeMap::new();
        for block in blocks(&text).into_iter().filter(|block| block.mark == "yaml") {
            let path = block.lines.first().and_then(|line| line.strip_prefix("# ")).unwrap_or_else(|| {
                panic!("{}:{}: a sample needs the name of its file", page.display(), block.line)
            });
            assert!(files.insert(path.to_owned(), block.lines.join("\n")).is_none(), "{path} is there twice");
        }
        if files.is_empty() {
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        copy(&root().join("geodb"), &folder.path().join("geodb"));
        // A page may be about one file of several; without any zone there is nothing that could be served.
        if !files.keys().any(|path| path.starts_with("zones/")) {
            copy(&root().join("zones"), &folder.path().join("zones"));
        } else if !files.values().any(|text| text.contains("\nrecords:")) {
            let zone = "soa: { primary: ns1 }\nrecords: { \"@\": { NS: ns1 }, ns1: { A: 192.0.2.53 } }\n";
            files.insert("zones/example.net.yaml".to_owned(), zone.to_owned());
        }
        for (path, text) in &files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder"))
                .and_then(|()| fs::write(&path, text))
                .expect("a file");
        }
        let output = meridian(folder.path()).arg("check").output().expect("a check");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("good: "), "{}: {text}", page.display());
        count += files.len();
    }
    assert!(count > 0);
}

/// Both commands that the README promises to be enough are there, word for word.
#[test]
fn the_readme_has_two_commands() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    assert!(text.contains("\n    cargo run --release -- serve\n") && text.contains("\n    cargo test\n"));
    let run = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(run.lines().any(|line| line == "cargo test"));
}

#[test]
fn links_within_the_repository_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with('#') {
                let path = page.parent().unwrap_or(root()).join(target.split('#').next().unwrap_or_default());
                assert!(path.exists(), "{}: {target}", page.display());
            }
        }
    }
}
