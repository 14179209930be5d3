//! Medians and their spread.

use serde::{Deserialize, Serialize};

/// The middle of some figures and the quarter on each side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half lie below.
    pub median: f64,
    /// A quarter lies below.
    pub low: f64,
    /// A quarter lies above.
    pub high: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let position = share * (figures.len() - 1) as f64;
            let (below, above) = (figures[position.floor() as usize], figures[position.ceil() as usize]);
            below + (above - below) * position.fract()
        };
        (!figures.is_empty()).then(|| Spread { median: at(0.5), low: at(0.25), high: at(0.75) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_figures() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, low: 3.0, high: 3.0 }));
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0, f64::NAN]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, low: 1.75, high: 3.25 });
    }
}
