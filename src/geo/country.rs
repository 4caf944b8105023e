//! Countries (ISO 3166-1 alpha-2): continent, and the point that stands for the whole of each.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::geo::Coordinates;

/// A country's two letters, in capitals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Country([u8; 2]);

/// The seven continents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // their names are all there is to say
pub enum Continent {
    Africa,
    Antarctica,
    Asia,
    Europe,
    NorthAmerica,
    Oceania,
    SouthAmerica,
}

/// Code, continent, latitude and longitude of the population-weighted medoid: the inhabited place that all others are
/// nearest to. From GeoNames (CC BY 4.0) and countries-list (MIT); see NOTICE.
const TABLE: &str = include_str!("countries.csv");

static COUNTRIES: LazyLock<Vec<(Country, Continent, Coordinates)>> = LazyLock::new(|| {
    let row = |line: &str| {
        let mut parts = line.split(',');
        let country = Country(parts.next()?.as_bytes().try_into().ok()?);
        let continent = Continent::from_code(parts.next()?)?;
        let latitude = parts.next()?.parse().ok()?;
        let longitude = parts.next()?.parse().ok()?;
        Some((country, continent, Coordinates { latitude, longitude }))
    };
    let mut rows: Vec<_> = TABLE.lines().filter_map(row).collect();
    rows.sort_unstable_by_key(|(country, ..)| *country);
    rows
});

impl Country {
    /// A country by its code, in capitals or not; none if there is no such country.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Country> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        let country = Country(letters.map(|letter| letter.to_ascii_uppercase()));
        country.row().map(|_| country)
    }

    /// All of them, in order of their codes.
    pub fn all() -> impl Iterator<Item = Country> {
        COUNTRIES.iter().map(|(country, ..)| *country)
    }

    /// Its place among all, from 0: what tables hold instead of the letters.
    #[must_use]
    pub fn number(self) -> Option<u8> {
        let found = COUNTRIES.binary_search_by_key(&self, |(country, ..)| *country).ok()?;
        u8::try_from(found).ok()
    }

    /// All codes, in order.
    pub fn codes() -> impl Iterator<Item = String> {
        COUNTRIES.iter().map(|(country, ..)| country.to_string())
    }

    /// The continent that the country is counted to.
    #[must_use]
    pub fn continent(self) -> Option<Continent> {
        self.row().map(|(_, continent, _)| *continent)
    }

    /// The point that stands for the whole country.
    #[must_use]
    pub fn point(self) -> Option<Coordinates> {
        self.row().map(|(.., point)| *point)
    }

    fn row(self) -> Option<&'static (Country, Continent, Coordinates)> {
        let found = COUNTRIES.binary_search_by_key(&self, |(country, ..)| *country).ok()?;
        COUNTRIES.get(found)
    }
}

/// What people write for a code that is none.
#[must_use]
pub fn code_hint(code: &str) -> &'static str {
    match code.to_ascii_uppercase().as_str() {
        "UK" => "; the United Kingdom is \"GB\"",
        "EL" => "; Greece is \"GR\"",
        "EU" => "; Europe is a continent, as in continent: [EU]",
        _ => "; two letters of ISO 3166-1 such as \"NO\" are expected",
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0[0] as char, self.0[1] as char)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Continent {
    /// The usual two letters.
    pub const CODES: [&'static str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

    /// A continent by its two letters, in capitals or not.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Continent> {
        Some(match code.to_ascii_uppercase().as_str() {
            "AF" => Continent::Africa,
            "AN" => Continent::Antarctica,
            "AS" => Continent::Asia,
            "EU" => Continent::Europe,
            "NA" => Continent::NorthAmerica,
            "OC" => Continent::Oceania,
            "SA" => Continent::SouthAmerica,
            _ => return None,
        })
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Continent::Africa => "AF",
            Continent::Antarctica => "AN",
            Continent::Asia => "AS",
            Continent::Europe => "EU",
            Continent::NorthAmerica => "NA",
            Continent::Oceania => "OC",
            Continent::SouthAmerica => "SA",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_country_on_the_globe() {
        assert_eq!(COUNTRIES.len(), TABLE.lines().count());
        assert_eq!(COUNTRIES.len(), 250);
        for (country, _, point) in COUNTRIES.iter() {
            assert!(point.latitude.abs() <= 90.0 && point.longitude.abs() <= 180.0, "{country}");
        }
    }

    #[test]
    fn codes_are_found_in_either_case_and_others_are_not() {
        assert_eq!(Country::from_code("no").map(|country| country.to_string()).as_deref(), Some("NO"));
        assert_eq!(Country::from_code("NO").and_then(Country::continent), Some(Continent::Europe));
        assert_eq!(Country::from_code("UK"), None);
        assert_eq!(Country::from_code("Norway"), None);
    }
}
