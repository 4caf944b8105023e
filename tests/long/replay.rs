//! A million queries of real clients through `meridian diff`, out of each kind of file: figures for README.md beside this.
//! `cargo test --release --test replay_time -- --nocapture`

#[path = "../support/capture.rs"]
mod capture;
#[path = "../support/server.rs"]
mod server;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use capture::{dnstap, pcap, query_packet, tapped};
use meridian::wire::message::query;
use meridian::wire::{Name, Rtype};
use server::Home;

const QUERIES: u64 = 1_000_000;
/// What was promised.
const MOST_TIME: Duration = Duration::from_secs(10);

/// The same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What somebody asked: mostly for what is steered, by resolvers all over the world, one in two for a subnet.
struct Asked {
    name: String,
    rtype: Rtype,
    source: Ipv4Addr,
    subnet: Option<Ipv4Addr>,
}

fn asked(numbers: &mut Numbers) -> Asked {
    let (name, rtype) = match numbers.below(10) {
        0..4 => ("www.example.com.".to_owned(), Rtype::A),
        4..6 => ("WwW.eXample.com.".to_owned(), Rtype::AAAA),
        6 => ("example.com.".to_owned(), Rtype::MX),
        7 => ("mail.example.com.".to_owned(), Rtype::A),
        // Nobody asks twice for these.
        8 => (format!("x{}.example.com.", numbers.below(1 << 40)), Rtype::A),
        _ => ("blog.example.com.".to_owned(), Rtype::A),
    };
    let mut block =
        || Ipv4Addr::from((numbers.below(223) as u32 + 1) << 24 | (numbers.below(1 << 16) as u32) << 8);
    let (source, subnet) = (block(), block());
    Asked { name, rtype, source, subnet: (numbers.below(2) == 0).then_some(subnet) }
}

impl Asked {
    fn line(&self) -> String {
        let subnet = self.subnet.map_or_else(String::new, |subnet| format!(",\"subnet\":\"{subnet}/24\""));
        let (source, name, rtype) = (self.source, &self.name, self.rtype);
        format!(
            "{{\"time\":\"2026-11-26T17:02:52.123Z\",\"transport\":\"udp\",\"client\":\"{source}/24\"{subnet},\"qname\":\"{name}\",\"qtype\":\"{rtype}\",\"rcode\":\"NOERROR\",\"service\":\"web\",\"site\":\"syd\",\"scope\":24}}\n"
        )
    }

    fn message(&self) -> Vec<u8> {
        let name = Name::parse(&self.name, None).expect("a name");
        let subnet = self.subnet.map(|subnet| format!("{subnet}/24").parse().expect("a subnet"));
        query(&name, self.rtype, subnet)
    }
}

#[test]
fn a_million_queries_take_less_than_ten_seconds() {
    let home = Home::of_sample();
    fs::create_dir(home.path("next")).expect("a folder");
    for entry in fs::read_dir(home.path("zones")).expect("the sample").flatten() {
        fs::copy(entry.path(), home.path("next").join(entry.file_name())).expect("a copy");
    }
    let amsterdam = "  ams: { location: [52.37, 4.90], A: 192.0.2.70, AAAA: \"2001:db8:31::70\" }\n  jnb:";
    home.replace("next/sites.yaml", "  jnb:", amsterdam);
    home.replace("next/sites.yaml", "fra, jnb", "fra, ams, jnb");

    let mut numbers = Numbers(0x7265_706c_6179_6564);
    let queries: Vec<Asked> = (0..QUERIES).map(|_| asked(&mut numbers)).collect();
    let mut log = BufWriter::new(File::create(home.path("queries.log")).expect("a file"));
    queries.iter().for_each(|asked| log.write_all(asked.line().as_bytes()).expect("it is written"));
    log.flush().expect("it is written");
    let packets: Vec<Vec<u8>> =
        queries.iter().map(|asked| query_packet(IpAddr::V4(asked.source), &asked.message())).collect();
    home.write("queries.pcap", pcap(capture::ETHERNET, &packets, false));
    drop(packets);
    let frames: Vec<Vec<u8>> =
        queries.iter().map(|asked| tapped(1, IpAddr::V4(asked.source), &asked.message())).collect();
    home.write("queries.dnstap", dnstap(&frames, false));
    drop(frames);

    let different = ["queries.log", "queries.pcap", "queries.dnstap"].map(|name| {
        let start = Instant::now();
        let told =
            home.run(&["diff", "next", "--against", "zones", "--queries", name, "--json"]).expect(0).json();
        let took = start.elapsed();
        let megabytes = fs::metadata(home.path(name)).expect("it is there").len() / 1_000_000;
        println!(
            "{name}, {megabytes} MB: {QUERIES} queries, {} differ, {took:.2?}",
            told["queries"]["different"]
        );
        assert_eq!(told["queries"]["queries"], QUERIES);
        assert!(took < MOST_TIME, "{name}: {took:?}");
        told["queries"]["different"].as_u64().expect("a number")
    });
    assert!(different[0] > 0 && different.iter().all(|count| *count == different[0]), "{different:?}");
}
