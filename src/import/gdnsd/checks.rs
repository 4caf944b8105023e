//! `service_types` -> checks.

use super::{Reader, texts};
use crate::import::{Check, leave_out};
use crate::yaml::{Mapping, Node};

impl Reader<'_> {
    /// `service_types` of a resource, which are named at the top.
    pub(super) fn read_checks(&mut self, resource: &Mapping<'_>) -> Vec<Check> {
        let Some(names) = resource.get("service_types") else { return Vec::new() };
        let mut checks = Vec::new();
        for item in names.items() {
            let name = item.scalar().unwrap_or_default();
            if ["up", "none", "default"].contains(&name) {
                continue;
            }
            let found = self.mappings("service_types").into_iter().find_map(|mapping| mapping.get(name));
            let Some(mapping) = found.and_then(|node| node.mapping("a service type", self.findings)) else {
                leave_out(self.findings, &item.at, format!("no service type is called \"{name}\""));
                continue;
            };
            checks.extend(self.read_check(name, &mapping));
        }
        checks
    }

    pub(super) fn read_check(&mut self, name: &str, mapping: &Mapping<'_>) -> Option<Check> {
        let text = |key: &str, default: &str| {
            mapping.get(key).and_then(Node::scalar).map_or_else(|| default.to_owned(), str::to_owned)
        };
        let mut known = vec!["plugin", "interval", "timeout", "up_thresh", "down_thresh"];
        let mut check = match text("plugin", "http_status").as_str() {
            "http_status" => {
                known.extend(["vhost", "url_path", "ok_codes", "port"]);
                let mut keys = vec![("path", vec![text("url_path", "/")])];
                keys.extend(
                    mapping.get("vhost").and_then(Node::scalar).map(|host| ("host", vec![host.to_owned()])),
                );
                let codes = texts(mapping.get("ok_codes"));
                keys.push(("status", if codes.is_empty() { vec!["200".to_owned()] } else { codes }));
                Check { kind: "http", keys, times: vec![("port", text("port", "80"))] }
            }
            "tcp_connect" => {
                known.push("port");
                Check { kind: "tcp", keys: Vec::new(), times: vec![("port", text("port", ""))] }
            }
            "extmon" => {
                known.push("cmd");
                let words = texts(mapping.get("cmd"));
                let words: Vec<String> =
                    words.iter().map(|word| word.replace("%%ITEM%%", "{address}")).collect();
                Check { kind: "exec", keys: vec![("command", words)], times: Vec::new() }
            }
            "null" | "static" => return None,
            other => {
                leave_out(
                    self.findings,
                    mapping.at,
                    format!("service type \"{name}\": no check here is like {other}"),
                );
                return None;
            }
        };
        self.leave_out_others(mapping, &known);
        // What gdnsd does where nothing is said, for the defaults here are others.
        check.times.push(("every", format!("{}s", text("interval", "10"))));
        check
            .times
            .push(("timeout", format!("{}s", text("timeout", if check.kind == "http" { "3" } else { "5" }))));
        check.times.push(("fall", text("down_thresh", "10")));
        check.times.push(("rise", text("up_thresh", "20")));
        Some(check)
    }
}
