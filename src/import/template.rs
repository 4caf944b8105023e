//! Names with places to fill in, as PowerDNS' geoip backend has them: `%co.%cn.www.example.com`.

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// The letters behind `%`.
    Place(String),
}

/// A name with places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

/// All places, the longer first where one begins like another.
const PLACES: [&str; 17] = [
    "mos", "wds", "lat", "lon", "loc", "cc", "co", "cn", "re", "ci", "as", "af", "ip", "na", "mp", "hh", "dd",
];

impl Template {
    /// Reads it; what is behind a `%` that nobody knows is given back.
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text.trim_end_matches('.');
        while let Some(at) = rest.find('%') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_ascii_lowercase()));
            }
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                parts.push(Part::Text("%".to_owned()));
                rest = after;
                continue;
            }
            let place = PLACES.iter().find(|place| rest.starts_with(**place));
            let place = place.ok_or_else(|| format!("%{}", rest.chars().take(2).collect::<String>()))?;
            parts.push(Part::Place((*place).to_owned()));
            rest = &rest[place.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_ascii_lowercase()));
        }
        Ok(Template { parts })
    }

    /// The places that it has.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(place.as_str()),
            Part::Text(_) => None,
        })
    }

    /// What stands in each place of a name that the template can become.
    pub(super) fn values(&self, name: &str) -> Option<Vec<(&str, String)>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        fill(&self.parts, &name)
    }
}

fn fill<'t>(parts: &'t [Part], name: &str) -> Option<Vec<(&'t str, String)>> {
    match parts.split_first() {
        None => name.is_empty().then(Vec::new),
        Some((Part::Text(text), rest)) => fill(rest, name.strip_prefix(text.as_str())?),
        Some((Part::Place(place), rest)) => {
            let longest = name.find('.').unwrap_or(name.len());
            let ends = (1..=longest).filter(|end| name.is_char_boundary(*end));
            ends.filter_map(|end| {
                let mut values = fill(rest, &name[end..])?;
                values.insert(0, (place.as_str(), name[..end].to_owned()));
                Some(values)
            })
            .next()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_it_can_become_tells_what_stands_in_its_places() {
        let template = Template::parse("%co.%cn.www.Example.com.").unwrap();
        let values = template.values("fin.eu.www.example.com").unwrap();
        assert_eq!(values, [("co", "fin".to_owned()), ("cn", "eu".to_owned())]);
        assert_eq!(template.values("fin.www.example.com"), None);
        assert_eq!(template.values("a.b.c.www.example.com"), None);
        let template = Template::parse("%cc-%re.x").unwrap();
        assert_eq!(template.values("us-tx.x").unwrap(), [("cc", "us".to_owned()), ("re", "tx".to_owned())]);
        assert_eq!(Template::parse("%qq.x"), Err("%qq".to_owned()));
        assert_eq!(Template::parse("a%%b").unwrap().values("a%b"), Some(Vec::new()));
    }
}
