//! Broken files while the server runs and is being asked: each is told with its place, nobody gets another answer, and
//! what is mended is served.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::server::{Home, Server};
use crate::world::{self, FRANKFURT, Load, SYDNEY, question, question_from, wait_for_answer};

/// One way to break a file.
struct Damage {
    how: Box<dyn Fn(&Home)>,
    /// What the log says of it: the place, and the beginning of what is wrong.
    told: &'static str,
}

/// A file with another text.
fn text(file: &'static str, text: impl AsRef<[u8]> + 'static, told: &'static str) -> Damage {
    Damage { how: Box::new(move |home| home.save(file, &text)), told }
}

fn deleted(file: &'static str, told: &'static str) -> Damage {
    let how = move |home: &Home| fs::remove_file(home.path(file)).expect("it is there");
    Damage { how: Box::new(how), told }
}

/// Whoever opens it waits for ever.
fn a_fifo(file: &'static str, told: &'static str) -> Damage {
    let how = move |home: &Home| {
        fs::remove_file(home.path(file)).expect("it is there");
        let made = Command::new("mkfifo").arg(home.path(file)).status();
        assert!(made.is_ok_and(|status| status.success()));
    };
    Damage { how: Box::new(how), told }
}

/// What a file is broken against.
struct Stage {
    server: Server,
    /// The exit code of `meridian reload` while it is broken.
    code: i32,
    /// The zone that is kept then, and no other.
    kept: Option<&'static str>,
    com: u32,
    org: u32,
    sites: u32,
    has_moved: bool,
}

impl Stage {
    fn new(code: i32, kept: Option<&'static str>) -> Stage {
        let server = Server::start(world::home());
        Stage { server, code, kept, com: 1, org: 1, sites: 1, has_moved: false }
    }

    fn of_sydney(&self) -> String {
        match self.has_moved {
            false => format!("192.0.2.{}", self.sites),
            true => "192.0.2.103".to_owned(),
        }
    }

    fn ask(&self) -> Load {
        Load::start(
            self.server.at,
            vec![
                (question("v.example.com", "TXT"), format!("\"{}\"", self.com)),
                (question("v.example.org", "TXT"), format!("\"{}\"", self.org)),
                (question_from("www.example.com", "A", SYDNEY), self.of_sydney()),
                (question_from("www.example.com", "A", FRANKFURT), "192.0.2.102".to_owned()),
            ],
        )
    }

    /// Breaks a file, and sees that all is as it was.
    #[track_caller]
    fn break_it(&self, damage: &Damage) {
        let server = &self.server;
        let load = self.ask();
        let mark = server.process.mark();
        (damage.how)(&server.home);
        let line = server.process.wait_for_line_after(mark, damage.told);
        assert!(line.contains("ERROR"), "{line}");
        let outcome = match self.code {
            1 => "files changed: what is wrong keeps its last good version",
            _ => "files changed: nothing was taken over; everything stays as it was",
        };
        server.process.wait_for_line_after(mark, outcome);

        let told = server.tell(&["reload"]).expect(self.code);
        assert!(told.stdout.contains(damage.told), "{}", told.stdout);
        let status = server.status();
        let zones = status["zones"].as_array().expect("a list");
        let kept: Vec<&str> = zones
            .iter()
            .filter(|zone| zone["state"] == "kept")
            .map(|zone| zone["name"].as_str().expect("a name").trim_end_matches('.'))
            .collect();
        assert_eq!(kept, self.kept.into_iter().collect::<Vec<_>>(), "after {}", damage.told);
        assert_ne!(status["findings"], serde_json::json!([]));
        match load.stop() {
            Ok(asked) => assert!(asked > 0),
            Err(error) => panic!("after {}: {error}", damage.told),
        }
    }

    /// After the file was mended and what it says is served.
    #[track_caller]
    fn is_well(&self) {
        self.server.tell(&["reload"]).expect(0);
        let status = self.server.status();
        assert!(
            status["zones"].as_array().is_some_and(|zones| zones.iter().all(|zone| zone["state"] == "good"))
        );
        assert_eq!(status["findings"], serde_json::json!([]));
    }
}

#[test]
fn a_broken_yaml_zone_keeps_its_last_good_version() {
    const FILE: &str = "zones/example.com.yaml";
    let mut stage = Stage::new(1, Some("example.com"));
    for damage in [
        text(FILE, "records: {{{\n\0\u{7f} no yaml", "zones/example.com.yaml:2:1: no YAML"),
        text(
            FILE,
            world::zone(1).replace("ttl: 60", "tttl: 60"),
            "zones/example.com.yaml:1:1: unknown key \"tttl\"",
        ),
        text(
            FILE,
            world::zone(1).replace(": web", ": wep"),
            "zones/example.com.yaml:6:19: unknown service \"wep\"",
        ),
        text(FILE, world::zone(1).replace("2.53", "2.530"), "zones/example.com.yaml:5:13: "),
        a_fifo(FILE, "zones/example.com.yaml: "),
        deleted(FILE, "zones/example.com.yaml: is gone"),
    ] {
        stage.break_it(&damage);
        stage.com += 1;
        stage.server.home.save(FILE, world::zone(stage.com));
        wait_for_answer(&stage.server, &question("v.example.com", "TXT"), &format!("\"{}\"", stage.com));
        stage.is_well();
    }
    stage.server.stop();
}

#[test]
fn a_broken_master_file_keeps_its_last_good_version() {
    const FILE: &str = "zones/example.org.zone";
    let mut stage = Stage::new(1, Some("example.org"));
    for damage in [
        text(FILE, "\u{1}\u{2} ((( \"\n\n", "zones/example.org.zone:1:"),
        text(FILE, world::master_file(1).replace("v TXT", "v TXTT"), "zones/example.org.zone:5:3: "),
        text(FILE, world::master_file(1) + "$INCLUDE no.inc\n", "zones/example.org.zone:6:"),
        text(FILE, world::master_file(1).replace("2.53", "2.530"), "zones/example.org.zone:4:7: "),
        a_fifo(FILE, "zones/example.org.zone: "),
        deleted(FILE, "zones/example.org.zone: is gone"),
    ] {
        stage.break_it(&damage);
        stage.org += 1;
        stage.server.home.save(FILE, world::master_file(stage.org));
        wait_for_answer(&stage.server, &question("v.example.org", "TXT"), &format!("\"{}\"", stage.org));
        stage.is_well();
    }
    stage.server.stop();
}

#[test]
fn broken_sites_keep_everything_as_it_was() {
    const FILE: &str = "zones/sites.yaml";
    let mut stage = Stage::new(3, None);
    for damage in [
        text(FILE, "sites: [\n\u{1}", "zones/sites.yaml:2:1: no YAML"),
        text(
            FILE,
            world::sites(1).replace("  fra: { location", "  fra: { lokation"),
            "zones/sites.yaml:3:10: unknown key \"lokation\"",
        ),
        text(
            FILE,
            world::sites(1).replace("[syd, fra", "[syd, fro"),
            "zones/sites.yaml:6:23: unknown site \"fro\"",
        ),
        text(
            FILE,
            world::sites(1).replace("[50.11, 8.68]", "[150.11, 8.68]"),
            "zones/sites.yaml:3:20: a latitude is from -90 to 90",
        ),
        a_fifo(FILE, "zones/sites.yaml: "),
        deleted(FILE, "zones/sites.yaml: is gone"),
    ] {
        stage.break_it(&damage);
        stage.sites += 1;
        stage.server.home.save(FILE, world::sites(stage.sites));
        wait_for_answer(&stage.server, &question_from("www.example.com", "A", SYDNEY), &stage.of_sydney());
        stage.is_well();
    }
    stage.server.stop();
}

#[test]
fn a_broken_geo_database_keeps_everything_as_it_was() {
    const FILE: &str = "geodb/places-ipv4.mmdb";
    let mut stage = Stage::new(3, None);
    for damage in [
        Damage {
            how: Box::new(|home| truncate(&home.path(FILE))),
            told: "geodb/places-ipv4.mmdb: no MMDB file",
        },
        Damage {
            how: Box::new(|home| home.write(FILE, [0x5a; 10_000])),
            told: "geodb/places-ipv4.mmdb: no MMDB file",
        },
        Damage {
            how: Box::new(|home| {
                fs::remove_file(home.path(FILE)).expect("it is there");
                fs::create_dir(home.path(FILE)).expect("a folder is made");
            }),
            told: "geodb/places-ipv4.mmdb: no regular file",
        },
        a_fifo(FILE, "geodb/places-ipv4.mmdb: no regular file"),
        deleted(FILE, "geodb/places-ipv4.mmdb: is gone"),
    ] {
        stage.break_it(&damage);
        stage.has_moved = !stage.has_moved;
        let path = stage.server.home.path(FILE);
        if path.is_dir() {
            fs::remove_dir(&path).expect("it is empty");
        } else if path.exists() {
            fs::remove_file(&path).expect("it is there");
        }
        world::write_geography(&stage.server.home, stage.has_moved);
        wait_for_answer(&stage.server, &question_from("www.example.com", "A", SYDNEY), &stage.of_sydney());
        stage.is_well();
    }
    stage.server.stop();
}

/// To half of its length, under whoever reads it.
fn truncate(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
    let length = file.metadata().expect("it is open").len();
    file.set_len(length / 2).expect("it can be written");
}

#[test]
fn a_broken_configuration_keeps_everything_as_it_was() {
    const FILE: &str = "meridian.yaml";
    let stage = Stage::new(3, None);
    let good = stage.server.home.read(FILE);
    for damage in [
        text(FILE, "listen: [[[\n", "meridian.yaml:"),
        text(FILE, format!("{good}zone: zones\n"), "meridian.yaml:3:1: unknown key \"zone\""),
        text(
            FILE,
            good.replace("127.0.0.1:0", "127.0.0.1"),
            "meridian.yaml:1:9: \"127.0.0.1\" is no address with a port",
        ),
        text(FILE, good.replace("workers: 2", "workers: two"), "meridian.yaml:2:10: "),
        a_fifo(FILE, "meridian.yaml: "),
        deleted(FILE, "meridian.yaml: is gone"),
    ] {
        stage.break_it(&damage);
        let mark = stage.server.process.mark();
        stage.server.home.save(FILE, &good);
        stage.server.process.wait_for_line_after(mark, "files changed: nothing is new");
        stage.is_well();
    }
    stage.server.stop();
}

#[test]
fn a_folder_of_zones_that_is_away_for_a_while_keeps_everything_as_it_was() {
    for is_empty in [false, true] {
        let mut stage = Stage::new(3, None);
        let [zones, aside] = ["zones", "aside"].map(|name| stage.server.home.path(name));
        let load = stage.ask();
        let mark = stage.server.process.mark();
        fs::rename(&zones, &aside).expect("it is there");
        if is_empty {
            fs::create_dir(&zones).expect("a folder is made");
        }
        stage.server.process.wait_for_line_after(mark, "files changed: ");
        let told = stage.server.tell(&["reload"]);
        assert!(matches!(told.code, Some(1 | 3)), "{told:?}");
        load.stop().expect("nobody gets another answer");

        let _ = fs::remove_dir(&zones);
        fs::rename(&aside, &zones).expect("it is there");
        stage.com += 1;
        stage.server.home.save("zones/example.com.yaml", world::zone(stage.com));
        wait_for_answer(&stage.server, &question("v.example.com", "TXT"), &format!("\"{}\"", stage.com));
        stage.is_well();
        stage.server.stop();
    }
}
