//! What an open loop offers, where the settings say it for all flows: their length, their arrivals.

use crate::error::RunError;
use crate::plan::{FlowPlan, Pace, StagePlan};
use crate::settings::Settings;
use crate::settings::units::Span;

/// Refuses a window of no length, or one that ends before the rates do.
pub(super) fn check_duration(settings: &Settings) -> Result<(), RunError> {
    let Some(Span(given)) = settings.duration else { return Ok(()) };
    if given.is_zero() {
        return Err(RunError::new("--duration 0s measures nothing", "give how long to measure, such as 10s"));
    }
    match &settings.rate {
        Some(course) if course.length().is_some_and(|length| length > given) => Err(RunError::new(
            format!("--duration {} ends before --rate {course} does", Span(given)),
            "leave --duration out, and the run is as long as the rates",
        )),
        _ => Ok(()),
    }
}

/// Draws the arrivals of all flows.
pub(super) fn draw_arrivals(
    settings: &Settings,
    stages: &[StagePlan],
    flows: &mut [FlowPlan],
) -> Result<(), RunError> {
    let Some(arrivals) = settings.arrivals else { return Ok(()) };
    for (stream, flow) in flows.iter_mut().enumerate() {
        let phases = stages[flow.stage].phases;
        let Pace::Open { load } = &mut flow.pace else {
            return Err(RunError::new(
                format!("--arrivals {arrivals} in a closed loop"),
                "a closed loop sends when it has its answers; give --rate for an open one",
            ));
        };
        let drawn = load.with_arrivals(arrivals, stream as u64, (phases.warmup, phases.measure));
        *load = drawn.ok_or_else(|| {
            RunError::new(
                format!("--arrivals {arrivals} for more than 200 million operations"),
                "give a shorter --duration, a lower --rate, or --arrivals uniform",
            )
        })?;
    }
    Ok(())
}
