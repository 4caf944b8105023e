//! What is shipped, as the first command serves it.

use meridian::wire::message::Message;

use crate::question::subnet_option;
use crate::server::{Home, Server, ask_tcp, ask_udp, in_words};
use crate::world::question_from;

#[test]
fn the_shipped_sample_sends_everybody_to_the_nearest_site() {
    let server = Server::start(Home::of_sample());
    for (name, rtype, subnet, expected) in [
        ("www.example.com", "A", "1.1.1.0/24", "192.0.2.10"),
        ("www.example.com", "AAAA", "2a02:6b8::/32", "2001:db8:49::30"),
        ("shop.www.example.com", "A", "8.8.8.0/24", "192.0.2.50"),
    ] {
        let question = question_from(name, rtype, subnet);
        let from_udp = ask_udp(server.at, &question.to_wire());
        let from_tcp = ask_tcp(server.at, &question.to_wire());
        assert_eq!(Message { id: from_udp.id, ..from_tcp }, from_udp);
        assert_eq!(in_words(&from_udp), expected, "{name} from {subnet}");
        assert_eq!(from_udp.flags & 0x8400, 0x8400, "QR and AA");

        let explained =
            server.home.run(&["explain", name, rtype, "--from", subnet, "--json"]).expect(0).json();
        let scope = explained["scope"].as_u64().and_then(|scope| u8::try_from(scope).ok()).expect("a scope");
        assert_ne!(scope, 0);
        let mut echoed = subnet_option(subnet.parse().expect("a network"));
        echoed[3] = scope;
        assert_eq!(client_subnet(&from_udp), Some(echoed), "{name} from {subnet}");
    }
    server.stop();
}

/// The option's value.
fn client_subnet(message: &Message) -> Option<Vec<u8>> {
    let options = &message.edns.as_ref()?.options;
    options.iter().find(|(code, _)| *code == 8).map(|(_, value)| value.clone())
}
