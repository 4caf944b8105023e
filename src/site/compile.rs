//! Services -> what the query path reads of them: records in wire format by type and site, each address with
//! its slot on the board.
//!
//! A steered RRset is put together from the records of the chosen sites, record by record, so that a
//! dead address can be left out; the sets that can come about are finite and known here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::health::board::{Layout, ServiceSlots, SiteOfService, Target};
use crate::site::{AllDown, Check, MinUp, Service, Site, SiteRrset};
use crate::wire::{Rtype, number, rdata};
use crate::zone::compile::QNAME_POINTER;

/// The slot of what is no address: boards have no such slot, and so call it up.
pub const NO_ADDRESS: u32 = u32::MAX;

/// A service as the query path reads it. The indexes of sites are those of the service.
#[derive(Debug)]
pub struct CompiledService {
    /// As the user wrote it.
    pub name: String,
    /// How many sites an answer holds.
    pub sites_per_answer: usize,
    /// How many addresses of a type must be up for a site to count.
    min_up: MinUp,
    /// A site that lacks the asked type is NODATA, not passed over.
    pub same_site: bool,
    /// Whether its sites may cost more than their distance.
    pub spills: bool,
    /// Whether the client subnet option is used.
    pub ecs: bool,
    /// What is answered when no site is eligible.
    pub when_all_down: WhenAllDown,
    /// Seconds: bounds the TTL of what health caused.
    pub ttl: u32,
    /// Stands for the service in the hash that decides shares: the same on every machine (meaning 10).
    pub hash: u64,
    /// By site.
    pub sites: Box<[CompiledSite]>,
    /// By type, in ascending order.
    types: Box<[Rtype]>,
    /// By type, then site.
    rrsets: Box<[Span]>,
    /// By type.
    last_resort: Box<[Span]>,
    records: Box<[SiteRecord]>,
    hints: Box<[Hints]>,
    octets: Box<[u8]>,
}

/// [`AllDown`] without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAllDown {
    /// The client's first site.
    Preferred,
    /// Every site.
    All,
    /// Records of their own.
    LastResort,
    /// NODATA.
    NoData,
    /// SERVFAIL.
    ServFail,
}

/// A site within a service.
#[derive(Debug)]
pub struct CompiledSite {
    /// Its slot among the board's shares.
    pub share: u32,
    /// Its part among sites that share.
    pub weight: u16,
    /// Stands for the site in the hash that decides shares.
    pub hash: u64,
    addresses: Span,
}

/// A run of records.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: u32,
    /// The one after its last.
    end: u32,
}

/// One record of a site in wire format, its owner a pointer to QNAME.
#[derive(Clone, Copy, Debug)]
pub struct SiteRecord {
    start: u32,
    length: u16,
    /// Of the address that it holds; [`NO_ADDRESS`] for any other record.
    pub verdict: u32,
    /// Index into the service's hints plus one, 0 for a record that has none to be filled in.
    hints: u32,
}

/// Where address hints go into a record of HTTPS or SVCB (RFC 9460 7.3): octets from its start, in ascending order of keys. 0
/// where the record has hints of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// For the site's IPv4 addresses.
    pub v4_at: u16,
    /// For its IPv6 addresses.
    pub v6_at: u16,
}

impl SiteRecord {
    /// Whether both hold the same record, be it of two sites.
    #[inline]
    #[must_use]
    pub fn is_equal_to(&self, other: &SiteRecord) -> bool {
        self.start == other.start
    }
}

/// Index of a type within a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeIndex {
    number: usize,
    /// Where the type's sites begin among the RRsets.
    first: usize,
}

impl CompiledService {
    /// The type among those that at least one site has.
    #[inline]
    #[must_use]
    pub fn find_type(&self, rtype: Rtype) -> Option<TypeIndex> {
        let number = self.types.iter().position(|&known| known == rtype)?;
        Some(TypeIndex { number, first: number * self.sites.len() })
    }

    /// All types that at least one site has.
    #[must_use]
    pub fn types(&self) -> &[Rtype] {
        &self.types
    }

    /// A site's records of a type; empty when it has none.
    #[inline]
    #[must_use]
    pub fn records(&self, rtype: TypeIndex, site: u16) -> &[SiteRecord] {
        // It never wraps, and an index beyond the end would be told; where hundreds of sites are down, each step counts.
        self.span(self.rrsets[rtype.first.wrapping_add(usize::from(site))])
    }

    /// The records of a type that are answered when nothing else is left.
    #[must_use]
    pub fn last_resort(&self, rtype: TypeIndex) -> &[SiteRecord] {
        self.span(self.last_resort[rtype.number])
    }

    /// All address records of a site.
    #[must_use]
    pub fn addresses(&self, site: u16) -> &[SiteRecord] {
        self.span(self.sites[usize::from(site)].addresses)
    }

    /// How many of these addresses, all of one type, must be up for their site to count: never more than there are.
    #[inline]
    #[must_use]
    pub fn min_up(&self, addresses: &[SiteRecord]) -> usize {
        let is_v6 = addresses.first().is_some_and(|first| usize::from(first.length) == HEAD + 16);
        let wanted = if is_v6 { self.min_up.v6 } else { self.min_up.v4 };
        usize::from(wanted).min(addresses.len())
    }

    /// Whether a type is that of service bindings.
    #[inline]
    #[must_use]
    pub fn is_binding(&self, rtype: TypeIndex) -> bool {
        matches!(self.types[rtype.number], Rtype::HTTPS | Rtype::SVCB)
    }

    /// Whether a record of HTTPS or SVCB is about the name that it stands at (RFC 9460 2.5.2).
    #[must_use]
    pub fn is_about_its_owner(&self, record: &SiteRecord) -> bool {
        let octets = self.octets(record);
        rdata::is_about_its_owner(Rtype(u16::from_be_bytes([octets[2], octets[3]])), &octets[HEAD..])
    }

    /// Where hints go into a record, if any do.
    #[inline]
    #[must_use]
    pub fn hints(&self, record: &SiteRecord) -> Option<Hints> {
        record.hints.checked_sub(1).map(|index| self.hints[index as usize])
    }

    /// A record's octets.
    #[inline]
    #[must_use]
    pub fn octets(&self, record: &SiteRecord) -> &[u8] {
        let start = record.start as usize;
        &self.octets[start..start + usize::from(record.length)]
    }

    fn span(&self, span: Span) -> &[SiteRecord] {
        &self.records[span.first as usize..span.end as usize]
    }
}

/// Compiles the services of a snapshot, and lays out the board that their verdicts will be published on.
#[must_use]
pub fn compile(services: &[Arc<Service>]) -> (Vec<CompiledService>, Layout) {
    let mut slots = Slots::default();
    let compiled = services.iter().map(|service| Compiler::new(service, &mut slots).compile()).collect();
    (compiled, slots.layout)
}

/// Gives each site of a service a slot, and each of its addresses. What operators and guards decide, they decide for a site of a
/// service: so no two share slots, whatever they have in common. Equal checks of equal addresses are made once all the same.
#[derive(Default)]
struct Slots {
    layout: Layout,
}

impl Slots {
    /// Gives the slot of a service's first site, and those of all addresses, by the index of the site.
    fn add(&mut self, service: &Service) -> (u32, HashMap<(usize, IpAddr), u32>) {
        let Layout { targets, shares, services } = &mut self.layout;
        let first_share = shares.len() as u32;
        let mut of_sites = Vec::with_capacity(service.sites.len());
        let mut slots = HashMap::new();
        for (index, site) in service.sites.iter().enumerate() {
            let first = targets.len() as u32;
            let checks: Arc<[Check]> =
                service.checks.iter().map(|check| check.for_site(&site.name)).collect();
            for rrset in site.rrsets.iter().filter(|rrset| is_of_addresses(rrset)) {
                for address in rrset.rdatas.iter().filter_map(|rdata| address(rrset.rtype, rdata)) {
                    slots.entry((index, address)).or_insert_with(|| {
                        targets.push(Target { address, checks: Arc::clone(&checks), need: service.need });
                        targets.len() as u32 - 1
                    });
                }
            }
            of_sites.push(first..targets.len() as u32);
            shares.push(SiteOfService { service: service.name.clone(), site: site.name.clone() });
        }
        services.push(ServiceSlots {
            name: service.name.clone(),
            first_share,
            targets: of_sites,
            min_up: service.min_up,
            guards: service.guards,
            windows: service.sites.iter().map(|site| site.maintenance.clone()).collect(),
            slow_start: service.slow_start,
            ttl: service.ttl.clone(),
            is_checked: !service.checks.is_empty(),
            market: None,
        });
        (first_share, slots)
    }
}

struct Compiler<'a> {
    service: &'a Service,
    /// The slot of its first site.
    first_share: u32,
    slots: HashMap<(usize, IpAddr), u32>,
    records: Vec<SiteRecord>,
    hints: Vec<Hints>,
    octets: Vec<u8>,
    /// Where each record's octets stand: equal ones once. With hints to be filled in, the addresses that go there tell
    /// records apart too.
    starts: HashMap<Distinct<'a>, u32>,
}

/// Type, RDATA in canonical form, and the addresses to be filled in.
type Distinct<'a> = (Rtype, Vec<u8>, Vec<&'a [u8]>);

impl<'a> Compiler<'a> {
    fn new(service: &'a Service, slots: &'a mut Slots) -> Compiler<'a> {
        let (first_share, slots) = slots.add(service);
        Compiler {
            service,
            first_share,
            slots,
            records: Vec::new(),
            hints: Vec::new(),
            octets: Vec::new(),
            starts: HashMap::new(),
        }
    }

    fn compile(mut self) -> CompiledService {
        let service = self.service;
        let last_resort: &[SiteRrset] = match &service.all_down {
            AllDown::LastResort(rrsets) => rrsets,
            _ => &[],
        };
        let mut types: Vec<Rtype> =
            service.sites.iter().flat_map(|site| &site.rrsets).map(|rrset| rrset.rtype).collect();
        types.sort_unstable();
        types.dedup();
        let mut rrsets = Vec::with_capacity(types.len() * service.sites.len());
        for &rtype in &types {
            for (index, site) in service.sites.iter().enumerate() {
                let rrset = site.rrsets.iter().filter(|rrset| rrset.rtype == rtype);
                rrsets.push(self.add(rrset, Some((index, site))));
            }
        }
        let last_resort = types
            .iter()
            .map(|&rtype| self.add(last_resort.iter().filter(|rrset| rrset.rtype == rtype), None))
            .collect();
        let sites = service
            .sites
            .iter()
            .enumerate()
            .map(|(index, site)| CompiledSite {
                share: self.first_share + index as u32,
                weight: site.weight,
                hash: hash_text(&site.name),
                addresses: self
                    .add(site.rrsets.iter().filter(|rrset| is_of_addresses(rrset)), Some((index, site))),
            })
            .collect();
        CompiledService {
            name: service.name.clone(),
            sites_per_answer: usize::from(service.sites_per_answer.max(1)),
            min_up: service.min_up,
            same_site: service.same_site,
            spills: service.spill,
            ecs: service.ecs,
            when_all_down: match service.all_down {
                AllDown::Preferred => WhenAllDown::Preferred,
                AllDown::All => WhenAllDown::All,
                AllDown::LastResort(_) => WhenAllDown::LastResort,
                AllDown::NoData => WhenAllDown::NoData,
                AllDown::ServFail => WhenAllDown::ServFail,
            },
            ttl: *service.ttl.start(),
            hash: hash_text(&service.name),
            sites,
            types: types.into(),
            rrsets: rrsets.into(),
            last_resort,
            records: self.records.into(),
            hints: self.hints.into(),
            octets: self.octets.into(),
        }
    }

    /// Records of a site, or, without one, of the last resort, which is neither checked nor filled in.
    fn add<'r>(
        &mut self,
        rrsets: impl Iterator<Item = &'r SiteRrset>,
        site: Option<(usize, &'a Site)>,
    ) -> Span {
        let first = self.records.len() as u32;
        for rrset in rrsets {
            for rdata in &rrset.rdatas {
                let slot =
                    |(index, _): (usize, _)| self.slots.get(&(index, address(rrset.rtype, rdata)?)).copied();
                let verdict = site.and_then(slot).unwrap_or(NO_ADDRESS);
                self.add_record(rrset.rtype, rdata, verdict, site.map(|(_, site)| site));
            }
        }
        Span { first, end: self.records.len() as u32 }
    }

    fn add_record(&mut self, rtype: Rtype, rdata: &[u8], verdict: u32, site: Option<&'a Site>) {
        let mut hints = 0;
        let mut hinted = Vec::new();
        if let (Some(site), Some(found)) = (site, find_hints(rtype, rdata)) {
            self.hints.push(found);
            hints = self.hints.len() as u32;
            let addresses = site.rrsets.iter().filter(|rrset| is_of_addresses(rrset));
            hinted.extend(addresses.flat_map(|rrset| &rrset.rdatas).map(|rdata| &rdata[..]));
            hinted.sort_unstable();
        }
        let octets = &mut self.octets;
        let key = (rtype, rdata::canonical(rtype, rdata).into_owned(), hinted);
        let start = *self.starts.entry(key).or_insert_with(|| {
            let start = octets.len() as u32;
            octets.extend_from_slice(&QNAME_POINTER);
            octets.extend_from_slice(&rtype.0.to_be_bytes());
            octets.extend_from_slice(&number::IN.to_be_bytes());
            octets.extend_from_slice(&self.service.ttl.start().to_be_bytes());
            octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            octets.extend_from_slice(rdata);
            start
        });
        // The data is bounded where sites are read.
        self.records.push(SiteRecord { start, length: HEAD as u16 + rdata.len() as u16, verdict, hints });
    }
}

/// A record about its own owner's addresses gets those of the very site that answers (RFC 9460 7.3), as far as it does not
/// bring hints of its own.
fn find_hints(rtype: Rtype, rdata: &[u8]) -> Option<Hints> {
    if !matches!(rtype, Rtype::HTTPS | Rtype::SVCB) {
        return None;
    }
    let place =
        |key| rdata::place_of_param(rdata, key).map_or(0, |at| u16::try_from(HEAD + at).unwrap_or_default());
    let hints = Hints { v4_at: place(rdata::IPV4HINT), v6_at: place(rdata::IPV6HINT) };
    (hints != Hints::default()).then_some(hints)
}

fn is_of_addresses(rrset: &SiteRrset) -> bool {
    matches!(rrset.rtype, Rtype::A | Rtype::AAAA)
}

/// The address in A or AAAA RDATA.
#[must_use]
pub fn address(rtype: Rtype, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
        Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
        _ => None,
    }
}

/// Owner, type, class, TTL and RDLENGTH of a record, before its data.
pub const HEAD: usize = 12;

/// FNV-1a, 64 bit: fixed for ever, since the share of every client hangs on it.
fn hash_text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
