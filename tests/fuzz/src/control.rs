//! Lines at the control socket, and the orders in them, against a service of four sites.
//!
//! Holds: what is understood is understood the same from the line that it is written as; whatever is ordered, a site is never drained
//! and forced up at once, what was refused changes nothing, and what expires is gone.

use std::sync::Arc;
use std::time::Duration;

use meridian::control::Command;
use meridian::health::board::{Layout, ServiceSlots, Share, SiteOfService, Target};
use meridian::health::overrides::{Forced, Overrides};
use meridian::site::{Guards, MinUp};

/// A line each, a minute apart.
pub fn control(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let layout = layout();
    let mut overrides = Overrides::default();
    for (minute, line) in (0_u64..).zip(text.lines()) {
        let now = 1_700_000_000_000 + minute * 60_000;
        let Ok(command) = Command::from_line(line) else { continue };
        assert_eq!(Command::from_line(&command.to_line()).as_ref(), Ok(&command));
        let Command::Order(order) = command else { continue };
        let before = overrides.list().to_vec();
        if overrides.follow(&order, &layout, now).is_err() {
            assert_eq!(overrides.list(), before);
        }
        overrides.expire(now);
        assert!(overrides.list().iter().all(|standing| standing.until.is_none_or(|until| until > now)));
        for site in &layout.shares {
            if overrides.forced(&site.site, &site.service) == Some(Forced::Up) {
                assert_eq!(overrides.share(&site.site, &site.service, now), Share::FULL);
            }
        }
    }
}

fn layout() -> Layout {
    let names = ["syd", "fra", "iad", "sin"];
    let target = |site: u8| Target { address: [192, 0, 2, site].into(), checks: Arc::from([]), need: 0 };
    Layout {
        targets: (0..4).map(target).collect(),
        shares: names.map(|site| SiteOfService { service: "web".to_owned(), site: site.to_owned() }).to_vec(),
        services: vec![ServiceSlots {
            name: "web".to_owned(),
            first_share: 0,
            targets: (0..4).map(|slot| slot..slot + 1).collect(),
            min_up: MinUp::of_both(1),
            guards: Guards::default(),
            windows: vec![Vec::new(); 4],
            slow_start: Duration::ZERO,
            ttl: 30..=30,
            is_checked: false,
            market: None,
        }],
    }
}
