//! What the server tells of itself: answers by site, metrics, the query log.

use serde_json::{Value, json};

use crate::server::{Server, ask_tcp};
use crate::world::{self, FRANKFURT, SYDNEY, WASHINGTON, answer_from, question_from, wait_for_answer};

/// Of the only service: answers by site, and those without one.
fn answers(status: &Value) -> (Vec<(&str, u64)>, &Value) {
    let service = &status["services"][0];
    let sites = service["sites"].as_array().expect("a list");
    (sites.iter().map(of_site).collect(), &service["answers_without_site"])
}

fn of_site(site: &Value) -> (&str, u64) {
    (site["site"].as_str().expect("a name"), site["answers"].as_u64().expect("a count"))
}

#[test]
fn answers_are_counted_by_site_and_the_counts_outlive_reloads() {
    let home = world::home();
    let sites = |of_service: &str| {
        world::sites(1).replace("web: { sites: [syd, fra, iad] }", &format!("web: {{ {of_service} }}"))
    };
    home.write(
        "zones/sites.yaml",
        sites("sites: [syd, fra, iad], rules: [{ subnet: 9.9.9.0/24, deny: true }]"),
    );
    let server = Server::start(home);
    for _ in 0..3 {
        answer_from(&server, "www.example.com", SYDNEY);
    }
    ask_tcp(server.at, &question_from("www.example.com", "A", WASHINGTON).to_wire());
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), "NOERROR");
    answer_from(&server, "www.example.com", SYDNEY);
    let before = server.status();
    let without = json!({ "denied": 1, "no_data": 0, "nothing_up": 0, "last_resort": 0 });
    assert_eq!(answers(&before), (vec![("syd", 4), ("fra", 0), ("iad", 1)], &without));

    // The next snapshot has other sites in another order: slots of one mean nothing in the other.
    server.home.save("zones/sites.yaml", sites("sites: [iad, syd]"));
    wait_for_answer(&server, &question_from("www.example.com", "A", FRANKFURT), "192.0.2.103");
    server.wait_for_status("with both counts", |status| {
        let (sites, denied) = answers(status);
        // Whatever was asked until the new snapshot came was denied.
        matches!(sites[..], [("iad", 2), ("syd", 4)]) && denied["denied"].as_u64() >= Some(1)
    });
    let denied = server.status()["services"][0]["answers_without_site"]["denied"].clone();
    server.home.save("zones/sites.yaml", sites("sites: [fra, iad, syd]"));
    wait_for_answer(&server, &question_from("www.example.com", "A", FRANKFURT), "192.0.2.102");
    let status = server.status();
    let (sites, without) = answers(&status);
    assert_eq!((sites[0], sites[2], &without["denied"]), (("fra", 1), ("syd", 4), &denied));
    server.stop();
}
