//! `meridian demo-sites`: web servers to take down.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Places;
use crate::reload::Reloader;
use crate::site::compile::address;
use crate::site::{Check, CheckKind};

/// Run a small web server for every checked site on a loopback address, to see failover.
///
/// Write a site's name and press Enter to stop it, once more to start it.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian demo-sites")]
pub(super) struct DemoSites {
    #[command(flatten)]
    places: Places,
}

/// Where each site is to be played.
type Sites = BTreeMap<String, Vec<SocketAddr>>;

impl DemoSites {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.places.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let mut reloader = Reloader::of(&config, false);
        let findings = reloader.reload(false).findings;
        let sites = loopback_sites(&reloader);
        if sites.is_empty() {
            eprint!("{findings}");
            eprintln!("no checked service has a site on 127.0.0.0/8");
            return ExitCode::from(1);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.and_then(|runtime| runtime.block_on(play(&sites))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(1)
            }
        }
    }
}

fn loopback_sites(reloader: &Reloader) -> Sites {
    let mut sites = Sites::new();
    for service in reloader.services() {
        for site in &service.sites {
            let addresses: Vec<IpAddr> = site
                .rrsets
                .iter()
                .flat_map(|rrset| rrset.rdatas.iter().filter_map(|rdata| address(rrset.rtype, rdata)))
                .filter(IpAddr::is_loopback)
                .collect();
            for port in service.checks.iter().filter_map(port_of_web_server) {
                let places = sites.entry(site.name.clone()).or_default();
                places.extend(addresses.iter().map(|address| SocketAddr::new(*address, port)));
                places.dedup();
            }
        }
    }
    sites.retain(|_, places| !places.is_empty());
    sites
}

/// Where a web server satisfies a check.
fn port_of_web_server(check: &Check) -> Option<u16> {
    check.port.filter(|_| matches!(check.kind, CheckKind::Tcp | CheckKind::Http(_) | CheckKind::Https(..)))
}

async fn play(sites: &Sites) -> io::Result<()> {
    let mut running: BTreeMap<&str, Vec<JoinHandle<()>>> = BTreeMap::new();
    for (name, places) in sites {
        running.insert(name, start(name, places).await?);
    }
    println!("write a site's name to stop it, once more to start it");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let Some((name, places)) = sites.get_key_value(line.trim()) else {
            if !line.trim().is_empty() {
                println!("there is no site {}; there are {}", line.trim(), join(sites.keys()));
            }
            continue;
        };
        match running.remove(name.as_str()) {
            Some(servers) => {
                servers.iter().for_each(JoinHandle::abort);
                for server in servers {
                    let _ = server.await;
                }
                println!("{name} is stopped");
            }
            None => {
                running.insert(name, start(name, places).await?);
            }
        }
    }
    // Without a terminal to listen to, they run until the process is stopped.
    std::future::pending().await
}

fn join<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

async fn start(name: &str, places: &[SocketAddr]) -> io::Result<Vec<JoinHandle<()>>> {
    let mut servers = Vec::new();
    for place in places {
        let listener = TcpListener::bind(place)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("{name} at {place}: {error}")))?;
        println!("{name} runs at http://{place}/");
        servers.push(tokio::spawn(serve(listener, name.to_owned())));
    }
    Ok(servers)
}

async fn serve(listener: TcpListener, name: String) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, name.clone()))),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// Whatever is asked for: this is who I am.
async fn answer(mut stream: TcpStream, name: String) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let length = name.len() + 1;
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}\n"
    );
    let _ = stream.write_all(response.as_bytes()).await;
}
