//! What a running server's sites are to it, for a program that answers beside it.

use serde_json::Value;

use crate::health::board::{Board, ServiceSlots, Share, Verdict};
use crate::health::spill;

/// Fills a board with the verdicts, shares and prices of a [status](super::status_reply). Services and sites that the server does not have
/// stay as they are.
pub fn publish_as(board: &Board, status: &Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let layout = board.layout();
    for service in list(&status["services"]) {
        let of_name = |slots: &ServiceSlots| service["name"] == *slots.name;
        let Some(number) = layout.services.iter().position(of_name) else { continue };
        let slots = &layout.services[number];
        let mut is_priced = false;
        for site in list(&service["sites"]) {
            let sites = layout.sites(slots).iter().zip(&slots.targets).enumerate();
            for (index, (_, targets)) in sites.filter(|(_, (known, _))| site["site"] == *known.site) {
                let verdict = |value: &Value| value.as_str().and_then(Verdict::from_name);
                // An operator's word is for a site, whatever its addresses are going to be.
                let forced =
                    site["verdicts"].as_object().and_then(|verdicts| verdict(verdicts.values().next()?));
                let forced =
                    forced.filter(|verdict| matches!(verdict, Verdict::ForcedUp | Verdict::ForcedDown));
                for slot in targets.clone() {
                    let address = layout.targets[slot as usize].address.to_string();
                    // Of an address that the server does not have, nothing is known.
                    let known = forced.or_else(|| verdict(&site["verdicts"][&address]));
                    board.set_verdict(slot, known.unwrap_or(Verdict::Unknown));
                }
                if let Some(share) = site["share"].as_f64() {
                    let share = Share((share * f64::from(Share::FULL.0)).round() as u16);
                    board.set_share(slots.first_share + index as u32, share);
                }
                let price = site["price_km"].as_f64().map_or(0, spill::from_km);
                board.set_price(slots.first_share + index as u32, price);
                is_priced |= price > 0;
            }
        }
        board.set_priced(number as u16, is_priced);
    }
}
