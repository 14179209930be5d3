//! What an open loop offers: rates over time (a course), and how operations lie around them
//! (arrivals). Together they fix when each operation is due, before the first one is.
//!
//! ```text
//!   --rate ──► course ──┐
//!                       ├─► load ── at a stage's start ──► agenda: operation ↔ time
//!   --arrivals ► draw ──┘
//! ```

mod agenda;
mod arrivals;
mod course;

pub(crate) use agenda::Agenda;
pub(crate) use arrivals::Arrivals;
pub(crate) use course::{Course, Step};

use arrivals::Drawn;
use std::sync::Arc;
use std::time::Duration;

/// The course and the arrivals of one flow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) course: Course,
    /// Drawn arrivals; none: operations are evenly spaced.
    drawn: Option<Arc<Drawn>>,
}

impl Load {
    /// Evenly spaced operations along `course`.
    pub(crate) fn even(course: Course) -> Load {
        Load { course, drawn: None }
    }

    /// The same course with these arrivals, drawn for `warmup` and `measure` together. `None` if
    /// that is more operations than can be drawn: [`arrivals::DRAWN_MAX`].
    pub(crate) fn with_arrivals(
        &self,
        arrivals: Arrivals,
        stream: u64,
        (warmup, measure): (Duration, Duration),
    ) -> Option<Load> {
        let drawn = match arrivals {
            Arrivals::Uniform => None,
            Arrivals::Poisson { seed } => {
                let operations = self.course.operations(warmup, measure);
                Some(Arc::new(Drawn::new(seed, stream, operations)?))
            }
        };
        Some(Load { course: self.course.clone(), drawn })
    }

    /// As reports name it.
    pub(crate) fn words(&self) -> String {
        let unit = if self.course.is_constant() { "/s" } else { " a second" };
        match &self.drawn {
            Some(drawn) => format!("open, {}{unit}, Poisson with seed {}", self.course, drawn.seed()),
            None => format!("open, {}{unit}", self.course),
        }
    }
}
