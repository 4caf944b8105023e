//! Whether a snapshot may be published without anybody's word.

use std::sync::Arc;

use super::zones::Standing;
use super::{Reloader, Served};
use crate::change::gates::{self, Live};
use crate::finding::Findings;
use crate::health::board::Layout;
use crate::snapshot::Snapshot;

impl Reloader {
    /// Tells what is too much, if anything is. At the start there is nothing to hold it against.
    pub(super) fn is_held(&self, new: &(Served, Snapshot, Layout), findings: &mut Findings) -> bool {
        let Some(old) = &self.served else { return false };
        let (new, snapshot, layout) = new;
        let mut held = Findings::new();
        if let Some(most) = self.gates.names {
            for (name, zone) in new.zones.iter().filter(|(_, zone)| zone.standing == Standing::New) {
                let before = old.zones.get(name).and_then(|before| before.version.zone.as_ref());
                if let (Some(before), Some(zone_now)) = (before, &zone.version.zone)
                    && let Some(text) = gates::names(most, before, zone_now)
                {
                    held.unreadable(zone.version.path(), text);
                }
            }
        }
        let (before, now) = ((&*old.services, &*old.catchments), (&*new.services, &*new.catchments));
        for text in gates::sites(&|service, site| self.is_out(service, site), before, now) {
            held.unreadable(&new.root, text);
        }
        for (about, text) in gates::databases(self.gates.networks, &old.about, &new.about) {
            held.unreadable(&about.path, text);
        }
        if let Some(most) = self.gates.moves
            && old.geography.files != new.geography.files
        {
            let zones: Vec<_> = old.zones.iter().map(|(name, zone)| zone.to_publish(name)).collect();
            let (old_snapshot, old_layout) = Snapshot::new(self.number, &zones, Arc::clone(&old.catchments));
            let before = Live { snapshot: &old_snapshot, layout: &old_layout, services: &old.services };
            let now = Live { snapshot, layout, services: &new.services };
            for text in gates::moves(most, &before, &now) {
                let path = new.geography.files.first().map_or(new.root.as_path(), |(path, _)| path.as_path());
                held.unreadable(path, text);
            }
        }
        if held.is_empty() {
            return false;
        }
        for finding in held.iter() {
            let text = format!("held: {}; `meridian reload --force` if that is meant", finding.text);
            findings.unreadable(&finding.path, text);
        }
        true
    }
}
