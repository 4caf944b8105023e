//! What the geo databases say of an address.

use serde::{Deserialize, Serialize};

use crate::geo::{Continent, Country};

/// An accuracy radius from here on is a country, not a city (meaning 6).
const VAGUE_KM: f64 = 500.0;

/// A point on the sphere, in degrees: latitude -90 to 90, longitude -180 to 180.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinates {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}

/// Where an address is, as far as distances and countries are told.
pub(crate) type Whereabouts = (Option<Country>, Option<Coordinates>);

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
    /// From the built-in table by the country; databases disagree on some, one table does not.
    #[must_use]
    pub fn continent(&self) -> Option<Continent> {
        self.country.and_then(Country::continent)
    }

    /// The point that distances are told from: the coordinates where they are of a city, else the country's
    /// point; databases put what they only know the country of somewhere in its middle (meaning 6).
    #[must_use]
    pub fn point(&self) -> Option<Coordinates> {
        let is_vague = (self.city.is_none() && self.subdivision.is_none())
            || self.radius_km.is_some_and(|radius| radius >= VAGUE_KM);
        let of_country = || self.country.and_then(Country::point);
        if is_vague { of_country().or(self.coordinates) } else { self.coordinates.or_else(of_country) }
    }

    /// Whether anything is known but the ASN.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.country.is_some()
            || self.subdivision.is_some()
            || self.city.is_some()
            || self.coordinates.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64) -> Option<Coordinates> {
        Some(Coordinates { latitude, longitude })
    }

    #[test]
    fn coordinates_of_a_city_are_used_and_vague_ones_give_way_to_the_countrys_point() {
        let country = Country::from_code("US");
        let point = country.and_then(Country::point);
        let city =
            Place { country, city: Some("Reno".into()), coordinates: at(39.5, -119.8), ..Place::default() };
        assert_eq!(city.point(), at(39.5, -119.8));
        assert_eq!(Place { city: None, ..city.clone() }.point(), point);
        assert_eq!(Place { radius_km: Some(500.0), ..city.clone() }.point(), point);
        assert_eq!(Place { coordinates: None, ..city }.point(), point);
        assert_eq!(Place::default().point(), None);
    }
}
