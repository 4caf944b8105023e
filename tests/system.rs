//! The program as a whole: processes, sockets, files and signals, as they are on the machine that it runs on.
//!
//! Every test has a server of its own in a folder of its own, at a port that the kernel chose; nothing is waited for but
//! events. What a response means is no matter here: that is what `scenarios` are for.

#[path = "support/capture.rs"]
mod capture;
#[path = "system/commands.rs"]
mod commands;
#[path = "system/damage.rs"]
mod damage;
#[path = "system/failover.rs"]
mod failover;
#[path = "system/gates.rs"]
mod gates;
#[path = "support/geo.rs"]
mod geo;
#[path = "support/heir.rs"]
mod heir;
#[path = "system/history.rs"]
mod history;
#[path = "system/last_good.rs"]
mod last_good;
#[path = "system/noise.rs"]
mod noise;
#[path = "system/observe.rs"]
mod observe;
#[path = "system/odd_packets.rs"]
mod odd_packets;
#[path = "system/operate.rs"]
mod operate;
#[path = "support/packet.rs"]
mod packet;
#[path = "system/packets.rs"]
mod packets;
#[path = "system/preview.rs"]
mod preview;
#[path = "system/proxy.rs"]
mod proxy;
#[path = "support/question.rs"]
mod question;
#[path = "system/reload.rs"]
mod reload;
#[path = "system/replace.rs"]
mod replace;
#[path = "system/replayed.rs"]
mod replayed;
#[path = "system/sample.rs"]
mod sample;
#[path = "support/server.rs"]
mod server;
#[path = "system/shells.rs"]
mod shells;
#[path = "system/tables.rs"]
mod tables;
#[path = "system/tcp.rs"]
mod tcp;
#[path = "system/wildcard.rs"]
mod wildcard;
#[path = "system/world.rs"]
mod world;
