//! A small world: three sites, a few clients, two zones that say which version they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use meridian::wire::message::Message;
use meridian::wire::{Name, Rtype};

use crate::geo;
use crate::question::Question;
use crate::server::{Home, PATIENCE, Server, UdpClient, ask_udp, in_words, udp_client};

/// From Sydney, unless a test moves it.
pub(crate) const SYDNEY: &str = "1.1.1.0/24";
/// From Frankfurt.
pub(crate) const FRANKFURT: &str = "9.9.9.0/24";
/// From Washington.
pub(crate) const WASHINGTON: &str = "8.8.8.0/24";

/// A home with all of it, in version 1.
pub(crate) fn home() -> Home {
    let home = Home::new();
    home.write("zones/example.com.yaml", zone(1));
    home.write("zones/example.org.zone", master_file(1));
    home.write("zones/sites.yaml", sites(1));
    write_geography(&home, false);
    home
}

/// `v` tells the version.
pub(crate) fn zone(version: u32) -> String {
    format!(
        "ttl: 60
soa: {{ primary: ns1, contact: hostmaster@example.com }}
records:
  \"@\": {{ NS: ns1 }}
  ns1: {{ A: 192.0.2.53 }}
  www: {{ service: web }}
  v: {{ TXT: \"{version}\" }}
"
    )
}

/// The same as a master file.
pub(crate) fn master_file(version: u32) -> String {
    format!(
        "$TTL 60
@ SOA ns1 hostmaster {version} 1h 10m 2w 5m
  NS ns1
ns1 A 192.0.2.53
v TXT \"{version}\"
"
    )
}

/// Sydney's address tells the version.
pub(crate) fn sites(version: u32) -> String {
    format!(
        "sites:
  syd: {{ location: [-33.87, 151.21], A: 192.0.2.{version} }}
  fra: {{ location: [50.11, 8.68], A: 192.0.2.102 }}
  iad: {{ location: [38.95, -77.45], A: 192.0.2.103 }}
services:
  web: {{ sites: [syd, fra, iad] }}
"
    )
}

/// Where clients are; Sydney's may have moved to Washington.
pub(crate) fn write_geography(home: &Home, has_moved: bool) {
    let row = |network: &str, country: &str, latitude: f32, longitude: f32, city: &str| geo::Row {
        network: network.parse().expect("a network"),
        record: geo::Record {
            country_code: Some(country.to_owned()),
            latitude: Some(latitude),
            longitude: Some(longitude),
            city: Some(city.to_owned()),
            ..geo::Record::default()
        },
    };
    let of_sydney = match has_moved {
        false => row(SYDNEY, "AU", -33.9, 151.2, "Sydney"),
        true => row(SYDNEY, "US", 38.9, -77.0, "Washington"),
    };
    let rows = [
        of_sydney,
        row(FRANKFURT, "DE", 50.1, 8.7, "Frankfurt"),
        row(WASHINGTON, "US", 38.9, -77.0, "Washington"),
    ];
    geo::write(&home.path("geodb"), "places", &rows);
}

/// A question in wire format.
pub(crate) fn question(name: &str, rtype: &str) -> Question {
    let name = Name::parse(name, Some(&Name::root())).expect("a name");
    Question::new(name, rtype.parse::<Rtype>().expect("a type"))
}

/// The same with a client subnet.
pub(crate) fn question_from(name: &str, rtype: &str, subnet: &str) -> Question {
    Question { subnet: Some(subnet.parse::<IpNetwork>().expect("a network")), ..question(name, rtype) }
}

/// What a name is, in a few words.
#[track_caller]
pub(crate) fn answer(server: &Server, name: &str, rtype: &str) -> String {
    in_words(&ask_udp(server.at, &question(name, rtype).to_wire()))
}

/// What somebody is told.
#[track_caller]
pub(crate) fn answer_from(server: &Server, name: &str, subnet: &str) -> String {
    in_words(&ask_udp(server.at, &question_from(name, "A", subnet).to_wire()))
}

/// Asks until the answer is as wanted; gives how long that took.
#[track_caller]
pub(crate) fn wait_for_answer(server: &Server, question: &Question, wanted: &str) -> Duration {
    let start = Instant::now();
    let mut client = udp_client(server.at);
    loop {
        let came = ask_with(&mut client, question).map(|message| in_words(&message));
        if came.as_deref() == Some(wanted) {
            return start.elapsed();
        }
        let log = || server.process.lines().join("\n");
        assert!(start.elapsed() < PATIENCE, "{wanted} never comes, but {came:?}:\n{}", log());
        thread::sleep(Duration::from_millis(5));
    }
}

/// None if no response came in time.
pub(crate) fn ask_with(client: &mut UdpClient, question: &Question) -> Option<Message> {
    client.exchange(&question.to_wire()).and_then(|response| Message::read(&response))
}

/// Clients who ask the same questions again and again, some thousand times a second, and want the same answers each time.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<Result<usize, String>>>,
}

/// How many ask.
const CLIENTS: usize = 2;
/// How often each asks every question before it reads the first response.
const AHEAD: usize = 8;

impl Load {
    pub(crate) fn start(at: SocketAddr, expected: Vec<(Question, String)>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let expected = Arc::new(expected);
        let client = |_| {
            let (stop, expected) = (Arc::clone(&stop), Arc::clone(&expected));
            thread::spawn(move || {
                let mut client = udp_client(at);
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    asked += ask_ahead(&mut client, &expected)?;
                    thread::sleep(Duration::from_millis(2));
                }
                Ok(asked)
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { stop, clients }
    }

    /// Ends it; gives how many were answered as they should, or else what one was answered, or that it was not.
    pub(crate) fn stop(self) -> Result<usize, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("it does not panic")).sum()
    }
}

/// Sends all, then reads as many responses, in whatever order.
fn ask_ahead(client: &mut UdpClient, expected: &[(Question, String)]) -> Result<usize, String> {
    let count = expected.len() * AHEAD;
    let ids: Vec<u16> =
        (0..count).map(|at| client.send(&expected[at % expected.len()].0.to_wire())).collect();
    let mut is_answered = vec![false; count];
    for read in 0..count {
        let lost = || format!("{} of {count} are not answered", count - read);
        let response = client.receive().ok_or_else(lost)?;
        let message = Message::read(&response).ok_or("a response that is no message")?;
        let at = ids.iter().position(|id| *id == message.id).ok_or("a response to nothing")?;
        let (question, wanted) = &expected[at % expected.len()];
        let came = in_words(&message);
        if came != *wanted || std::mem::replace(&mut is_answered[at], true) {
            return Err(format!("{} is {came}, not {wanted}, or that twice", question.name));
        }
    }
    Ok(count)
}
