//! Listeners for TLS, QUIC and HTTPS. Those that speak the same with the same certificate share a thread: handshakes cost
//! more than answers, and a flood of them at one listener keeps no other waiting.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch as flag;
use tracing::{error, info, warn};

use super::published::Published;
use super::servers::Servers;
use super::systemd::Passed;
use crate::config::Listener;
use crate::config::listen::{Certificate, Protocol};
use crate::finding::Findings;
use crate::nameserver::Transport;
use crate::transport::Stop;
use crate::transport::encrypted::{self, Identity, https, quic, tls};
use crate::transport::tcp::{self, Entrance, Limits};

/// Sockets that are bound and not read yet, with what they prove their names by.
#[derive(Default)]
pub(super) struct Encrypted {
    identities: HashMap<Certificate, Arc<Identity>>,
    groups: Vec<Group>,
}

/// What one thread serves.
struct Group {
    protocol: Protocol,
    identity: Arc<Identity>,
    /// Of TLS and HTTPS.
    entrances: Vec<Entrance>,
    /// Of QUIC.
    sockets: Vec<UdpSocket>,
}

impl Encrypted {
    /// Binds a listener, and gives its address; none if it is not for encrypted transports.
    pub(super) fn bind(
        &mut self,
        listener: &Listener,
        passed: &mut Passed,
    ) -> io::Result<Option<SocketAddr>> {
        let Some(certificate) = listener.protocol.certificate() else { return Ok(None) };
        let identity = match self.identities.get(certificate) {
            Some(identity) => Arc::clone(identity),
            None => read(certificate)?,
        };
        self.identities.insert(certificate.clone(), Arc::clone(&identity));
        let group = match self.groups.iter_mut().position(|group| group.protocol == listener.protocol) {
            Some(index) => &mut self.groups[index],
            None => {
                let protocol = listener.protocol.clone();
                let group = Group { protocol, identity, entrances: Vec::new(), sockets: Vec::new() };
                self.groups.push(group);
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        let (name, address) = match listener.protocol {
            Protocol::Quic(_) => {
                let mut sockets = passed.quic(listener.address)?;
                if sockets.is_empty() {
                    sockets.push(quic::bind(listener.address)?);
                }
                let address = sockets[0].local_addr()?;
                sockets.iter().try_for_each(|socket| passed.keep("quic", listener.address, socket))?;
                group.sockets.append(&mut sockets);
                ("QUIC", address)
            }
            _ => {
                let socket =
                    passed.tcp("tls", listener.address)?.map_or_else(|| tcp::bind(listener.address), Ok)?;
                passed.keep("tls", listener.address, &socket)?;
                let address = socket.local_addr()?;
                group.entrances.push(Entrance { listener: socket, proxy_from: listener.proxy_from.clone() });
                (if matches!(listener.protocol, Protocol::Tls(_)) { "TLS" } else { "HTTPS" }, address)
            }
        };
        info!("DNS over {name} at {address} with {}", group.identity.path().display());
        Ok(Some(address))
    }

    /// Threads that answer.
    pub(super) fn threads(&self) -> usize {
        self.groups.len()
    }

    /// Threads whose connections take a descriptor each.
    pub(super) fn stream_threads(&self) -> usize {
        self.groups.iter().filter(|group| !group.entrances.is_empty()).count()
    }

    pub(super) fn serve(
        self,
        servers: &mut Servers,
        published: &Arc<ArcSwap<Published>>,
        limits: Limits,
        stop: &flag::Receiver<Stop>,
    ) -> Result<(), String> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for group in self.groups {
            let Group { protocol, identity, entrances, sockets } = group;
            let (kind, transport) = match protocol {
                Protocol::Tls(_) => ("tls", Transport::Tls),
                Protocol::Quic(_) => ("quic", Transport::Quic),
                _ => ("https", Transport::Https),
            };
            let number = numbers.entry(kind).or_default();
            let name = format!("{kind}-{number}");
            *number += 1;
            let answerer = servers.answerer(published, transport);
            let counters = servers.transport(&name);
            let stop = stop.clone();
            let gate = servers.gate();
            servers.spawn(name, move || {
                let served = match &protocol {
                    Protocol::Quic(_) => {
                        gate();
                        // No connection takes a descriptor of its own.
                        let limits = Limits {
                            connections: limits.connections.max(Limits::default().connections),
                            ..limits
                        };
                        quic::serve(&sockets, &identity, answerer, limits, &counters, &stop)
                    }
                    Protocol::Https(_, path) => {
                        https::serve(entrances, &identity, path, answerer, limits, counters, stop)
                    }
                    _ => tls::serve(entrances, &identity, answerer, limits, counters, stop),
                };
                if let Err(error) = served {
                    error!("DNS over {} is not served: {error}", kind.to_uppercase());
                }
            })?;
        }
        if !self.identities.is_empty() {
            let identities: Vec<Arc<Identity>> = self.identities.into_values().collect();
            let stop = servers.stop_flag();
            servers.spawn("certificates".to_owned(), move || encrypted::keep(&identities, &stop))?;
        }
        Ok(())
    }
}

fn read(files: &Certificate) -> io::Result<Arc<Identity>> {
    let mut findings = Findings::new();
    let identity = Identity::read(&files.certificate, &files.key, &mut findings);
    let told = findings.iter().map(ToString::to_string);
    match identity {
        Some(identity) => {
            told.for_each(|text| warn!("{text}"));
            Ok(identity)
        }
        None => Err(io::Error::other(told.collect::<Vec<_>>().join("; "))),
    }
}
