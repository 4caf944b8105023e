//! Where clients are and what follows from it: database files -> places -> catchments.
//!
//! Databases are small and written here, by another crate than the one that reads them; two samples of a real one lie
//! under `geodb/`. Whatever is asked is asked in two ways that must agree: of the address itself
//! (`Databases::locate`), and of the table that the whole address space was compiled into.

#[path = "geography/damage.rs"]
mod damage;
#[path = "geography/law.rs"]
mod law;
#[path = "geography/layers.rs"]
mod layers;
#[path = "geography/nearest.rs"]
mod nearest;
#[path = "geography/reserved.rs"]
mod reserved;
#[path = "geography/support.rs"]
mod support;
#[path = "geography/vendors.rs"]
mod vendors;
#[path = "../benches/world/mod.rs"]
#[allow(unreachable_pub)] // it belongs to the benches
mod world;
