//! A folder that is not served yet, answered from beside the server.

use std::fs;

use crate::server::{Server, address_in};
use crate::world::{self, FRANKFURT, SYDNEY, answer_from, question, question_from, wait_for_answer};

#[test]
fn a_preview_answers_from_its_folder_with_the_verdicts_of_the_server() {
    let server = Server::start(world::home());
    fs::create_dir(server.home.path("next")).expect("a folder");
    for (name, text) in [
        ("example.com.yaml", world::zone(7)),
        ("sites.yaml", world::sites(7)),
        ("example.org.zone", world::master_file(1)),
    ] {
        server.home.write(&format!("next/{name}"), text);
    }
    let arguments = ["serve", "--config", "meridian.yaml", "--preview", "next", "--listen", "127.0.0.1:0"];
    let process = server.home.spawn(&arguments);
    let at = address_in(&process.wait_for_line("listening on "));
    process.wait_for_line("ready: a preview of next");
    let preview = Server { process, home: crate::server::Home::new(), at };
    wait_for_answer(&preview, &question("v.example.com", "TXT"), "\"7\"");
    assert_eq!(answer_from(&preview, "www.example.com", SYDNEY), "192.0.2.7");

    // What operators and checks say of the server's sites counts here, too.
    server.tell(&["force", "syd", "down"]).expect(0);
    wait_for_answer(&preview, &question_from("www.example.com", "A", SYDNEY), "192.0.2.103");
    server.tell(&["unforce", "syd"]).expect(0);
    wait_for_answer(&preview, &question_from("www.example.com", "A", SYDNEY), "192.0.2.7");

    // It follows its own folder, and the server does not.
    server.home.save("next/example.com.yaml", world::zone(8));
    wait_for_answer(&preview, &question("v.example.com", "TXT"), "\"8\"");
    assert_eq!(world::answer(&server, "v.example.com", "TXT"), "\"1\"");
    assert_eq!(answer_from(&server, "www.example.com", FRANKFURT), "192.0.2.102");
    assert_eq!(server.status()["snapshot"], 1);
    server.stop();
}

#[test]
fn a_preview_does_without_a_server() {
    let home = world::home();
    let process = home.spawn(&["serve", "--preview", "zones", "--listen", "127.0.0.1:0"]);
    let at = address_in(&process.wait_for_line("listening on "));
    process.wait_for_line("sites are up that have none");
    let preview = Server { process, home, at };
    wait_for_answer(&preview, &question_from("www.example.com", "A", SYDNEY), "192.0.2.1");
    assert!(!preview.home.path("run").exists(), "it keeps nothing");
}
