//! What a site costs a place. Everything that orders sites goes through here: today it is kilometres and a
//! handicap; a table of measured round trips would take their place here and nowhere else.

use crate::geo::Coordinates;
use crate::site::Site;

/// The mean radius of the earth (IUGG).
pub const EARTH_RADIUS_KM: f64 = 6371.0088;

/// What it costs to be served by a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Distance on the sphere.
    pub km: f64,
    /// What is compared: the distance and the site's handicap.
    pub cost: f64,
}

/// A point as a vector of length 1: the dot product of two of them is the cosine of their angle, so that most
/// comparisons need no more than three multiplications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitVector([f64; 3]);

impl UnitVector {
    /// The vector from the earth's centre to a point.
    #[must_use]
    pub fn new(point: Coordinates) -> UnitVector {
        let (latitude, longitude) = (point.latitude.to_radians(), point.longitude.to_radians());
        UnitVector([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()])
    }

    /// Falls as the distance grows.
    #[inline]
    #[must_use]
    pub fn closeness(&self, other: &UnitVector) -> f64 {
        self.0[0] * other.0[0] + self.0[1] * other.0[1] + self.0[2] * other.0[2]
    }

    /// Distance on the sphere in kilometres, from the chord, which unlike the arc cosine is exact for
    /// neighbours too.
    #[must_use]
    pub fn km(&self, other: &UnitVector) -> f64 {
        let square: f64 = self.0.iter().zip(other.0).map(|(a, b)| (a - b) * (a - b)).sum();
        2.0 * EARTH_RADIUS_KM * (square.sqrt() / 2.0).min(1.0).asin()
    }
}

/// Where distances are compared with prices (`spill`), they are told in steps of so many kilometres: fine enough for who goes
/// where, coarse enough for neighbours to be alike.
pub const STEP_KM: f64 = 50.0;

/// The steps in some kilometres.
#[must_use]
pub fn steps(km: f64) -> u16 {
    (km / STEP_KM).round() as u16
}

/// What a site costs whoever is at a point; none for a site that stands nowhere.
#[must_use]
pub fn cost(from: Coordinates, site: &Site) -> Option<Cost> {
    let km = UnitVector::new(from).km(&UnitVector::new(site.location?));
    Some(Cost { km, cost: km + site.handicap_km })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn haversine_km(a: Coordinates, b: Coordinates) -> f64 {
        let (phi, psi) = (a.latitude.to_radians(), b.latitude.to_radians());
        let half = ((psi - phi) / 2.0).sin().powi(2)
            + phi.cos() * psi.cos() * ((b.longitude - a.longitude).to_radians() / 2.0).sin().powi(2);
        2.0 * EARTH_RADIUS_KM * half.sqrt().min(1.0).asin()
    }

    fn km(a: Coordinates, b: Coordinates) -> f64 {
        UnitVector::new(a).km(&UnitVector::new(b))
    }

    fn points() -> impl Strategy<Value = Coordinates> {
        (-90.0..90.0_f64, -180.0..180.0_f64)
            .prop_map(|(latitude, longitude)| Coordinates { latitude, longitude })
    }

    #[test]
    fn sydney_is_17_000_km_from_london_and_the_date_line_is_no_wall() {
        let at = |latitude, longitude| Coordinates { latitude, longitude };
        assert!((km(at(-33.87, 151.21), at(51.47, -0.45)) - 17_016.0).abs() < 20.0);
        assert!(km(at(0.0, 179.9), at(0.0, -179.9)) < 23.0);
    }

    proptest! {
        #[test]
        fn the_distance_is_the_haversines(a in points(), b in points()) {
            prop_assert!((km(a, b) - haversine_km(a, b)).abs() < 1e-3);
        }

        #[test]
        fn closeness_orders_as_kilometres_do(from in points(), a in points(), b in points()) {
            let [from, a, b] = [from, a, b].map(UnitVector::new);
            if (from.km(&a) - from.km(&b)).abs() > 0.001 {
                prop_assert_eq!(from.closeness(&a) > from.closeness(&b), from.km(&a) < from.km(&b));
            }
        }
    }
}
