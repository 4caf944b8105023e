//! What the geo databases say of an address.

use crate::geo::{Continent, Country};

/// A point on the sphere, in degrees: latitude -90 to 90, longitude -180 to 180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}

/// What the databases say of an address; each part may be unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// ISO 3166-1.
    pub country: Option<Country>,
    /// The code after the hyphen of ISO 3166-2 where the database has codes, else its name.
    pub subdivision: Option<Box<str>>,
    /// In English, for people.
    pub city: Option<Box<str>>,
    /// As the database has them, before meaning 6 asks whether they are usable.
    pub coordinates: Option<Coordinates>,
    /// Kilometres within which the address is, where the database says.
    pub radius_km: Option<f64>,
    /// Autonomous system number.
    pub asn: Option<u32>,
}

impl Place {
    /// From the built-in table by the country; databases disagree on Turkey and Cyprus, one table does not.
    #[must_use]
    pub fn continent(&self) -> Option<Continent> {
        self.country.and_then(Country::continent)
    }
}
