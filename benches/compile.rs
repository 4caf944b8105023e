//! How long catchments take to compile, and how large they are. Seconds, not microseconds: timed by hand, best of three.
//! The peak is of the whole process after the first time, database and all; it means something for the first row only, so
//! name the row that you want to know it of.
//!
//! `MERIDIAN_CITY_DB=v4.mmdb:v6.mmdb cargo bench --bench compile -- 20x300` for a full city database.

use std::hint::black_box;
use std::time::Instant;

use meridian::catchment::compile::survey;

#[path = "world/mod.rs"]
mod world;

fn main() {
    let only: Option<String> = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    println!(
        "{:>8} {:>6} {:>9} {:>10} {:>11} {:>9} {:>10} {:>8}",
        "services", "sites", "seconds", "IPv4", "IPv6", "rankings", "tables MB", "peak MB"
    );
    for (services, sites) in [(1, 6), (1, 30), (1, 300), (20, 300)] {
        if only.as_ref().is_some_and(|only| *only != format!("{services}x{sites}")) {
            continue;
        }
        measure(services, sites);
    }
}

fn measure(services: usize, count: usize) {
    let sites = world::sites(count);
    let services = match services {
        1 => vec![std::sync::Arc::new(world::service("all", sites))],
        many => world::services(many, &sites),
    };
    let mut best = f64::INFINITY;
    let mut size = None;
    let mut peak = 0;
    for _ in 0..3 {
        let (databases, _) = world::databases();
        let start = Instant::now();
        let survey = survey(&services, &databases, false);
        drop(databases);
        let catchments = black_box(survey.assemble(&services));
        best = best.min(start.elapsed().as_secs_f64());
        size = Some(catchments.size());
        peak = if peak == 0 { world::memory("VmHWM") } else { peak };
    }
    if let Some(size) = size {
        println!(
            "{:>8} {count:>6} {best:>9.2} {:>10} {:>11} {:>9} {:>10.1} {:>8}",
            services.len(),
            size.v4_ranges,
            size.v6_ranges,
            size.rankings,
            size.octets as f64 / 1e6,
            peak >> 20,
        );
    }
}
