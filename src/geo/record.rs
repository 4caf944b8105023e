//! One database record -> a place, whatever vendor wrote it.
//!
//! Vendors name and nest the same facts differently (MaxMind and DB-IP nest, ip-location-db and IPinfo are flat), and
//! store numbers as doubles, floats or texts. What a record holds tells its schema; the database's type
//! does not. What is absent, empty or out of range is unknown.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::geo::{Coordinates, Country, Place};

/// A record of any shape.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'d> {
    Text(&'d str),
    Number(f64),
    List(Vec<Value<'d>>),
    Map(Vec<(&'d str, Value<'d>)>),
    /// Nothing that a place is told by.
    Other,
}

impl<'d> Value<'d> {
    pub(super) fn into_place(self) -> Place {
        Place {
            country: self.country(),
            subdivision: self.first_text(&[
                &["subdivisions", "0", "iso_code"],
                &["subdivisions", "0", "names", "en"],
                &["region_code"],
                &["state1"],
                &["region"],
                &["geo", "region_code"],
                &["geo", "region"],
            ]),
            city: self.first_text(&[&["city", "names", "en"], &["city"], &["geo", "city"]]),
            coordinates: self.coordinates(),
            radius_km: self.radius_km(),
            asn: self.asn(),
        }
    }

    /// `country` is a map, a code or a name; a text of two letters is a code.
    fn country(&self) -> Option<Country> {
        const PATHS: [&[&str]; 5] = [
            &["country", "iso_code"],
            &["registered_country", "iso_code"],
            &["country_code"],
            &["country"],
            &["geo", "country_code"],
        ];
        // IPinfo's files of ASNs tell where the AS is registered, under the key that others have for where the address
        // is; a `name` beside the `asn` gives them away.
        let is_of_as = self.text(&["asn"]).is_some() && self.text(&["name"]).is_some();
        let of_address = PATHS.iter().filter(|path| !is_of_as || **path != ["country"]);
        of_address.filter_map(|path| self.text(path)).find_map(Country::from_code)
    }

    fn coordinates(&self) -> Option<Coordinates> {
        let pairs: [[&[&str]; 2]; 4] = [
            [&["location", "latitude"], &["location", "longitude"]],
            [&["latitude"], &["longitude"]],
            [&["lat"], &["lng"]],
            [&["geo", "latitude"], &["geo", "longitude"]],
        ];
        let (latitude, longitude) = pairs
            .iter()
            .find_map(|[latitude, longitude]| Some((self.number(latitude)?, self.number(longitude)?)))?;
        let is_on_the_globe = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        // 0, 0 is how several files say that they do not know.
        let is_told = latitude != 0.0 || longitude != 0.0;
        (is_on_the_globe && is_told).then_some(Coordinates { latitude, longitude })
    }

    /// Nested files tell kilometres, flat ones metres.
    fn radius_km(&self) -> Option<f64> {
        let kilometres = self.number(&["location", "accuracy_radius"]);
        let metres = || self.number(&["radius"]).or_else(|| self.number(&["geo", "radius"]));
        kilometres.or_else(|| metres().map(|metres| metres / 1000.0)).filter(|radius| *radius >= 0.0)
    }

    /// A number, or a text as `AS13335`.
    fn asn(&self) -> Option<u32> {
        const PATHS: [&[&str]; 5] = [
            &["autonomous_system_number"],
            &["traits", "autonomous_system_number"],
            &["asn"],
            &["asn", "asn"],
            &["as", "asn"],
        ];
        PATHS.iter().find_map(|path| match self.at(path)? {
            Value::Number(number) if *number >= 1.0 && *number <= f64::from(u32::MAX) => Some(*number as u32),
            Value::Text(text) => {
                text.trim_start_matches(['A', 'S', 'a', 's']).parse().ok().filter(|asn| *asn > 0)
            }
            _ => None,
        })
    }

    fn first_text(&self, paths: &[&[&str]]) -> Option<Box<str>> {
        paths.iter().find_map(|path| self.text(path)).map(Box::from)
    }

    fn text(&self, path: &[&str]) -> Option<&str> {
        match self.at(path)? {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn number(&self, path: &[&str]) -> Option<f64> {
        match self.at(path)? {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
        .filter(|number| number.is_finite())
    }

    fn at(&self, path: &[&str]) -> Option<&Value<'d>> {
        path.iter().try_fold(self, |value, step| match value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key == step).map(|(_, value)| value),
            Value::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value<'de>, D::Error> {
        AnyShape { depth: 0 }.deserialize(deserializer)
    }
}

/// No vendor tells anything deeper than `subdivisions`, its items, their `names` and those in English. A damaged record
/// may nest 512 deep, more than a thread has stack for, or unfold by pointers: what is skipped does neither.
const DEEPEST: u8 = 8;

/// Reads a value of any shape, at a depth.
struct AnyShape {
    depth: u8,
}

impl AnyShape {
    fn deeper(&self) -> AnyShape {
        AnyShape { depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for AnyShape {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        if self.depth > DEEPEST {
            return IgnoredAny::deserialize(deserializer).map(|_| Value::Other);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyShape {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(text))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_f32<E>(self, number: f32) -> Result<Value<'de>, E> {
        Ok(Value::Number(f64::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper())? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value_seed(self.deeper())?));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text)
    }

    fn map<'d, const N: usize>(entries: [(&'d str, Value<'d>); N]) -> Value<'d> {
        Value::Map(entries.into())
    }

    #[test]
    fn every_vendors_record_gives_the_same_place() {
        let nested = map([
            ("country", map([("iso_code", text("AU"))])),
            ("subdivisions", Value::List(vec![map([("iso_code", text("NSW"))])])),
            ("city", map([("names", map([("en", text("Sydney"))]))])),
            (
                "location",
                map([
                    ("latitude", Value::Number(-33.5)),
                    ("longitude", Value::Number(151.25)),
                    ("accuracy_radius", Value::Number(20.0)),
                ]),
            ),
            ("traits", map([("autonomous_system_number", Value::Number(13335.0))])),
        ]);
        let flat = map([
            ("country_code", text("AU")),
            ("state1", text("NSW")),
            ("city", text("Sydney")),
            ("latitude", Value::Number(-33.5)),
            ("longitude", Value::Number(151.25)),
            ("radius", Value::Number(20_000.0)),
            ("autonomous_system_number", Value::Number(13335.0)),
        ]);
        let texts = map([
            ("country", text("AU")),
            ("region", text("NSW")),
            ("city", text("Sydney")),
            ("lat", text("-33.5")),
            ("lng", text("151.25")),
            ("radius", text("20000")),
            ("asn", text("AS13335")),
        ]);
        let named = map([
            ("country", text("Australia")),
            ("country_code", text("AU")),
            ("region", text("New South Wales")),
            ("region_code", text("NSW")),
            ("city", text("Sydney")),
            ("latitude", Value::Number(-33.5)),
            ("longitude", Value::Number(151.25)),
            ("radius", Value::Number(20_000.0)),
            ("asn", text("AS13335")),
        ]);
        let place = nested.into_place();
        assert_eq!(place.country.map(|country| country.to_string()).as_deref(), Some("AU"));
        assert_eq!((place.radius_km, place.asn), (Some(20.0), Some(13335)));
        for other in [flat, texts, named] {
            assert_eq!(other.into_place(), place);
        }
    }

    #[test]
    fn what_is_empty_out_of_range_or_of_another_kind_is_unknown() {
        let record = map([
            ("country_code", text("")),
            ("city", text("")),
            ("latitude", Value::Number(999.0)),
            ("longitude", Value::Number(0.0)),
            ("asn", Value::Other),
        ]);
        assert_eq!(record.into_place(), Place::default());
    }
}
