//! A sample -> a line of JSON. What cannot be told is left out.

use serde::Serialize;

use super::Sample;
use crate::health::board::{Board, SiteOfService};
use crate::nameserver::NoSite;
use crate::nameserver::limit::Deed;
use crate::wire::Name;
use crate::wire::message::rcode_name;

/// In the order in which it is written.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    transport: &'static str,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_site: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
}

/// Writes it, and the end of the line. Names are in presentation format: no octet that a client sent stands there as it came.
pub(super) fn write(line: &mut Vec<u8>, sample: &Sample, board: Option<&Board>) {
    let qname = Name::from_wire(&sample.qname[..usize::from(sample.qname_length)]).ok();
    let place = sample.steered.zip(board).and_then(|(place, board)| {
        let of: &SiteOfService = board.layout().shares.get(place.slot as usize)?;
        Some((of, place.no_site))
    });
    let written = Line {
        time: rfc_3339(sample.at_ms),
        transport: sample.transport.name(),
        client: sample.client.to_string(),
        subnet: sample.subnet.map(|subnet| subnet.to_string()),
        qtype: qname.is_some().then(|| sample.qtype.to_string()),
        qname: qname.map(|name| name.to_string()),
        rcode: sample.rcode.map(|rcode| rcode_name(rcode.0)),
        service: place.map(|(of, _)| of.service.as_str()),
        site: place.filter(|(_, no_site)| no_site.is_none()).map(|(of, _)| of.site.as_str()),
        no_site: place.and_then(|(_, no_site)| no_site).map(NoSite::name),
        rule: sample.rule,
        scope: sample.scope,
        truncated: sample.is_truncated,
        limited: sample.limited.map(|deed| match deed {
            Deed::Truncated => "truncated",
            Deed::Dropped => "dropped",
            Deed::Nothing => "would_have",
        }),
    };
    // Into memory, and of what is always JSON.
    let _ = serde_json::to_writer(&mut *line, &written);
    line.push(b'\n');
}

/// In UTC, to the millisecond. By way of a calendar whose years begin in March, so that the leap day is last.
fn rfc_3339(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millisecond) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nameserver::Transport;
    use crate::nameserver::response::Rcode;
    use crate::wire::Rtype;
    use crate::wire::name::LONGEST;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc_3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc_3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc_3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc_3339(1_798_761_599_001), "2026-12-31T23:59:59.001Z");
        assert_eq!(rfc_3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn what_a_client_sent_stays_within_its_text() {
        let mut qname = [0; LONGEST];
        let wire = b"\x08a\"\\.\n\x00\xff}\x02\x1b[\0";
        qname[..wire.len()].copy_from_slice(wire);
        let sample = Sample {
            board: None,
            at_ms: 0,
            client: "192.0.2.0/24".parse().unwrap(),
            subnet: None,
            transport: Transport::Udp,
            qname,
            qname_length: wire.len() as u8,
            qtype: Rtype(65_280),
            rcode: Some(Rcode::REFUSED),
            steered: None,
            rule: None,
            scope: None,
            is_truncated: false,
            limited: Some(Deed::Nothing),
        };
        let mut line = Vec::new();
        write(&mut line, &sample, None);
        let expected = concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","transport":"udp","client":"192.0.2.0/24","#,
            r#""qname":"a\\\"\\\\\\.\\010\\000\\255}.\\027[.","qtype":"TYPE65280","rcode":"REFUSED","limited":"would_have"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
