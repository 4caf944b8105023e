//! `meridian explain`: why this answer.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::Places;
use super::ask::who_said_so;
use super::served::Served;
use crate::catchment::{Catch, ServiceIndex};
use crate::control::{self, findings_as_json};
use crate::finding::{Findings, Severity, did_you_mean};
use crate::geo::special::{embedded, v4_runs, v6_runs};
use crate::geo::{Databases, Place};
use crate::health::board::{Board, Share, Verdict};
use crate::health::spill;
use crate::nameserver::{Responded, Steered};
use crate::reload::Reloader;
use crate::reload::expect::{ask, take_down};
use crate::site::cost::cost;
use crate::site::rules::first_match;
use crate::site::{RuleAction, Service};
use crate::snapshot::Snapshot;
use crate::wire::message::{Message, query};
use crate::wire::{Name, Rtype};

/// Tell why a client gets the answer that it gets: the place, the rule, every site in order, the response.
///
/// From the same code that the server answers with. Zones and sites are those of the files, and sites count as up, but for --down;
/// with --running all of it is what it is to the running server.
#[derive(Debug, Args)]
#[command(after_help = "Example: meridian explain www.example.com AAAA --from 2a02:6b8::/32 --down lhr")]
pub(super) struct Explain {
    /// What is asked for.
    name: String,
    /// Its type.
    #[arg(default_value = "A")]
    rtype: String,
    /// The client: its address, or its subnet as a resolver sends it.
    #[arg(long, value_name = "ADDRESS[/LEN]")]
    from: IpNetwork,
    /// A site to take as down; may be given several times.
    #[arg(long, value_name = "SITE")]
    down: Vec<String>,
    /// Take zones, sites, verdicts, drains and forces from the running server, by its control socket and its history.
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    places: Places,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// All that there is to tell.
struct Explanation {
    place: Place,
    place_basis: &'static str,
    networks: Vec<(String, IpNetwork)>,
    service: Option<String>,
    rule: Option<(usize, String)>,
    ranking: Vec<Ranked>,
    chosen: Option<String>,
    scope: Option<u8>,
    ttl: Option<u32>,
    /// How long it takes at most until a dead site is told, and until its last client has left.
    failover: Option<(Duration, Duration)>,
    response: Message,
    /// What is wrong with the files.
    findings: Findings,
}

/// A site, in the client's order.
struct Ranked {
    site: String,
    km: Option<f64>,
    cost: Option<f64>,
    basis: &'static str,
    verdict: String,
    /// What operators and guards say of it, at the running server.
    causes: Vec<String>,
    /// How much of its clients it takes, from 0 to 1.
    share: f64,
    /// Kilometres that count besides its distance while it is full; none where the service does not spill.
    price_km: Option<f64>,
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        match self.explain() {
            Ok(explanation) => {
                let findings =
                    explanation.findings.clone().only(|finding| finding.severity == Severity::Error);
                if self.json {
                    super::print(&format!("{:#}\n", explanation.to_json()));
                } else {
                    // What is wrong with the files may well be why.
                    eprint!("{findings}");
                    let mut text = String::new();
                    let _ = explanation.write(&mut text);
                    super::print(&text);
                }
                ExitCode::SUCCESS
            }
            Err((text, code)) => {
                eprint!("{text}");
                code
            }
        }
    }

    fn explain(&self) -> Result<Explanation, (String, ExitCode)> {
        let wrong_usage = |text: String| (format!("{text}\n"), ExitCode::from(2));
        let name = Name::parse(&self.name, Some(&Name::root()))
            .map_err(|error| wrong_usage(format!("\"{}\" is {error}", self.name)))?;
        let rtype: Rtype = self.rtype.parse().map_err(|_| {
            let hint = did_you_mean(&self.rtype, Rtype::mnemonics());
            wrong_usage(format!("unknown type \"{}\"{hint}", self.rtype))
        })?;
        let from = IpNetwork::new(self.from.network(), self.from.prefix())
            .map_err(|error| wrong_usage(error.to_string()))?;
        let config = self.places.config().map_err(|code| (String::new(), code))?;
        let mut reloader = Reloader::of(&config, false);
        let status =
            self.running.then(|| control::tell(&config.control, &control::Command::Status)).transpose();
        let status = status.map_err(|error| {
            (format!("{}: {error}; is a server running?\n", config.control.display()), ExitCode::from(5))
        })?;
        let number = status.as_ref().and_then(|status| status["snapshot"].as_u64());
        let served = match number {
            Some(number) => Served::read(&config, &mut reloader, number)
                .map_err(|error| (format!("snapshot {number}: {error}\n"), ExitCode::from(1)))?,
            None => None,
        };
        if let (Some(number), None) = (number, &served) {
            eprintln!(
                "snapshot {number} is served, and history does not have it: zones and sites are those of the files"
            );
        }
        let (served, reload) = served.unzip();
        let reload = reload.unwrap_or_else(|| reloader.reload(false));
        let Some((snapshot, layout)) = reload.snapshot else {
            return Err((reload.findings.to_string(), ExitCode::from(1)));
        };
        let board = Board::new(layout);
        if let Some(status) = &status {
            control::publish_as(&board, status);
        }
        self.take_down(&snapshot, &board).map_err(wrong_usage)?;
        if !self.running || !self.down.is_empty() {
            spill::price(&board);
        }

        let is_address = from.prefix() == if from.is_ipv4() { 32 } else { 128 };
        // A resolver that sends no subnet is the client itself. The scope is what one that sends it would be told.
        let subnet = (!is_address).then_some(from);
        let with_subnet = ask(&snapshot, &board, from.ip(), &query(&name, rtype, Some(from)));
        let asked = ask(&snapshot, &board, from.ip(), &query(&name, rtype, subnet));
        let (Some((responded, response)), Some((told_subnet, _))) = (asked, with_subnet) else {
            return Err(("no response\n".to_owned(), ExitCode::from(1)));
        };
        let databases = Databases::open(&config.geodb, &mut Findings::new());
        let mut explanation = Explanation::of_client(from, &databases);
        explanation.ttl = response.answers().last().map(|record| record.ttl);
        explanation.response = response;
        explanation.scope = told_subnet.scope;
        explanation.findings = reload.findings;
        if let Some(Steered { service: index, .. }) = responded.steered {
            let service = &reloader.services()[usize::from(index)];
            explanation.add_service(from, service, index, &snapshot, &board, &responded);
            explanation.add_causes(status.as_ref(), &service.name);
            if let (Some(served), Some((number, place))) = (&served, &mut explanation.rule) {
                *place = served.place(&service.rules[*number - 1].at);
            }
        }
        Ok(explanation)
    }

    fn take_down(&self, snapshot: &Snapshot, board: &Board) -> Result<(), String> {
        let sites = || board.layout().shares.iter().map(|share| share.site.as_str());
        for site in &self.down {
            if !sites().any(|known| known == site) {
                return Err(format!("unknown site \"{site}\"{}", did_you_mean(site, sites())));
            }
            take_down(snapshot, board, site);
        }
        Ok(())
    }
}

impl Explanation {
    fn of_client(from: IpNetwork, databases: &Databases) -> Explanation {
        let address = located(from);
        let is_special = is_special(address);
        let matches = if is_special { Vec::new() } else { databases.matches(address) };
        let place = if is_special { Place::default() } else { databases.locate(address) };
        Explanation {
            place_basis: match &place {
                _ if is_special => "not globally reachable: no database is asked",
                place if place.point().is_none() => "unknown",
                place if place.point() == place.coordinates => "coordinates of the database",
                _ => "the point that stands for the country",
            },
            place,
            networks: matches
                .into_iter()
                .map(|found| (found.path.display().to_string(), found.network))
                .collect(),
            service: None,
            rule: None,
            ranking: Vec::new(),
            chosen: None,
            scope: None,
            ttl: None,
            failover: None,
            response: Message::default(),
            findings: Findings::new(),
        }
    }

    fn add_service(
        &mut self,
        from: IpNetwork,
        service: &Service,
        index: ServiceIndex,
        snapshot: &Snapshot,
        board: &Board,
        responded: &Responded,
    ) {
        let address = located(from);
        let rule = first_match(service, &self.place, |subnet| subnet.contains(address));
        self.service = Some(service.name.clone());
        let longest_ttl = self.ttl.unwrap_or(0).max(*service.ttl.end());
        self.failover = service.detection().zip(service.last_client(longest_ttl));
        self.rule = rule.map(|rule| (rule + 1, service.rules[rule].at.to_string()));
        let site_name = |site: u16| service.sites[usize::from(site)].name.clone();
        self.chosen = responded.steered.and_then(Steered::site).map(site_name);
        let of_rule = match rule.map(|rule| &service.rules[rule].action) {
            Some(RuleAction::Sites { sites, .. }) => sites.as_slice(),
            _ => &[],
        };
        let catchments = snapshot.catchments();
        let Catch { ranking, .. } = match address {
            IpAddr::V4(address) => catchments.lookup_v4(index, address),
            IpAddr::V6(address) => catchments.lookup_v6(index, address),
        };
        let ranking = catchments.ranking(index, ranking);
        let rest = ranking.rest.iter().filter(|site| !ranking.exact.contains(site));
        let compiled = snapshot.service(index);
        for &site in ranking.exact.iter().chain(rest) {
            let cost = self.place.point().and_then(|point| cost(point, &service.sites[usize::from(site)]));
            let verdicts = || compiled.addresses(site).iter().map(|address| board.verdict(address.verdict));
            // What the site as a whole is to this client: the best of what its addresses are.
            let verdict = match verdicts().find(|verdict| verdict.is_served()).or_else(|| verdicts().next()) {
                Some(Verdict::Unknown) | None if service.checks.is_empty() => Verdict::Up,
                verdict => verdict.unwrap_or(Verdict::Up),
            };
            let share = board.share(compiled.sites[usize::from(site)].share);
            self.ranking.push(Ranked {
                site: site_name(site),
                km: cost.map(|cost| cost.km),
                cost: cost.map(|cost| cost.cost),
                basis: match cost {
                    _ if of_rule.contains(&site) => "rule",
                    Some(_) => "distance",
                    None => "order",
                },
                verdict: verdict.to_string(),
                causes: Vec::new(),
                share: f64::from(share.0) / f64::from(Share::FULL.0),
                price_km: service
                    .spill
                    .then(|| spill::in_km(board.price(compiled.sites[usize::from(site)].share))),
            });
        }
    }

    /// What stands between the checks and the answers at the running server: operators' words and guards.
    fn add_causes(&mut self, status: Option<&Value>, service: &str) {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let Some(status) = status else { return };
        let of_service =
            list(&status["services"]).into_iter().find(|known| known["name"] == service).unwrap_or_default();
        for ranked in &mut self.ranking {
            let is_meant = |standing: &&Value| {
                standing["site"] == *ranked.site
                    && (standing["service"].is_null() || standing["service"] == service)
            };
            let said = list(&status["overrides"]);
            let said = said.iter().filter(is_meant).map(|standing| {
                format!("{} {}", standing["what"].as_str().unwrap_or_default(), who_said_so(standing))
            });
            let sites = list(&of_service["sites"]);
            let held = sites.iter().filter(|site| site["site"] == *ranked.site);
            let held = held.filter_map(|site| Some(format!("held: {}", site["held"].as_str()?)));
            ranked.causes = said.chain(held).collect();
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "place": {
                "country": self.place.country.map(|country| country.to_string()),
                "continent": self.place.continent().map(|continent| continent.to_string()),
                "subdivision": self.place.subdivision,
                "city": self.place.city,
                "latitude": self.place.point().map(|point| point.latitude),
                "longitude": self.place.point().map(|point| point.longitude),
                "radius_km": self.place.radius_km,
                "asn": self.place.asn,
                "basis": self.place_basis,
                "networks": self.networks.iter()
                    .map(|(file, network)| json!({ "file": file, "network": network.to_string() }))
                    .collect::<Vec<_>>(),
            },
            "service": self.service,
            "rule": self.rule.as_ref().map(|(number, at)| json!({ "number": number, "at": at })),
            "ranking": self.ranking.iter().map(|ranked| json!({
                "site": ranked.site,
                "km": ranked.km.map(f64::round),
                "cost": ranked.cost.map(f64::round),
                "basis": ranked.basis,
                "causes": ranked.causes,
                "verdict": ranked.verdict,
                "share": ranked.share,
                "price_km": ranked.price_km.map(f64::round),
            })).collect::<Vec<_>>(),
            "chosen": self.chosen,
            "scope": self.scope,
            "ttl": self.ttl,
            "detection_seconds": self.failover.map(|(detection, _)| detection.as_secs_f64()),
            "last_client_seconds": self.failover.map(|(_, last_client)| last_client.as_secs_f64()),
            "response": self.response.print(),
            "findings": findings_as_json(&self.findings),
        })
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "place     {} ({})", self.describe_place(), self.place_basis)?;
        for (file, network) in &self.networks {
            writeln!(out, "network   {network} in {file}")?;
        }
        if let Some(service) = &self.service {
            writeln!(out, "service   {service}")?;
            match &self.rule {
                Some((number, at)) => writeln!(out, "rule      number {number}, at {at}")?,
                None => writeln!(out, "rule      none")?,
            }
        }
        for (index, ranked) in self.ranking.iter().enumerate() {
            let title = if index == 0 { "ranking" } else { "" };
            let number = index + 1;
            let site = &ranked.site;
            let km = match (ranked.km, ranked.cost) {
                (Some(km), Some(cost)) if cost > km => format!("{km:.0} km, cost {cost:.0}"),
                (Some(km), _) => format!("{km:.0} km"),
                _ => String::new(),
            };
            let taken = match ranked.share {
                0.0 => " drained".to_owned(),
                share if share < 1.0 => format!(" takes {:.0}% of its clients", share * 100.0),
                _ => String::new(),
            };
            // What makes clients pass it over who are nearer to it than to the one that is chosen.
            let price = match ranked.price_km {
                Some(price) if price > 0.0 => format!(" and {price:.0} km while it is full"),
                _ => String::new(),
            };
            writeln!(
                out,
                "{title:9} {number:3}. {site:12} {:8} by {:8} {km}{price}{taken}",
                ranked.verdict, ranked.basis
            )?;
            for cause in &ranked.causes {
                writeln!(out, "{:14} {cause}", "")?;
            }
        }
        if self.service.is_some() {
            writeln!(out, "chosen    {}", self.chosen.as_deref().unwrap_or("none"))?;
        }
        if let Some(scope) = self.scope {
            writeln!(out, "scope     /{scope}")?;
        }
        if let Some(ttl) = self.ttl {
            writeln!(out, "ttl       {ttl}")?;
            if let Some((detection, last)) = self.failover {
                writeln!(out, "failover  {detection:?} to tell, the last client after {last:?}")?;
            }
        }
        write!(out, "\n{}", self.response.print())
    }

    fn describe_place(&self) -> String {
        let place = &self.place;
        let parts = [
            place.country.map(|country| country.to_string()),
            place.subdivision.as_ref().map(ToString::to_string),
            place.city.as_ref().map(ToString::to_string),
            place.point().map(|point| format!("{:.2} {:.2}", point.latitude, point.longitude)),
            place.asn.map(|asn| format!("AS{asn}")),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if known.is_empty() { "-".to_owned() } else { known.join(", ") }
    }
}

/// The address that the client is located by: IPv4 wherever one is embedded (meaning 2).
fn located(from: IpNetwork) -> IpAddr {
    match from.ip() {
        IpAddr::V6(address) => {
            embedded(address).map_or(IpAddr::V6(address), |found| IpAddr::V4(found.address))
        }
        address => address,
    }
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let number = u32::from(address);
            v4_runs().iter().any(|&(first, last)| (first..=last).contains(&number))
        }
        IpAddr::V6(address) => {
            let number = u128::from(address);
            v6_runs().iter().any(|&(first, last)| (first..=last).contains(&number))
        }
    }
}
