//! The flows of each scenario.

use super::rate;
use crate::error::RunError;
use crate::plan::{FlowKind, FlowPlan, Pace, Path, Route};
use crate::settings::{By, Compat, Settings, Speech, Via};
use crate::stamp::STAMP_SIZE;

/// The largest payload: with its head it fits the gateway's default body of 64 KiB.
const PAYLOAD_SIZE_MAX: u32 = 60 << 10;

/// The flows of `scenario` over `connections` measured connections.
pub(super) fn flows(
    scenario: &str,
    settings: &Settings,
    connections: u32,
) -> Result<Vec<FlowPlan>, RunError> {
    let size = settings.size.map_or(64, |count| count.0);
    let heartbeats = scenario == "echo" && settings.echo_operation == Some(2);
    let builder = match heartbeats {
        true if size != 0 => return Err(RunError::new("heartbeats carry no payload", "add --size 0")),
        true => Builder { settings, connections, size: 0 },
        false => Builder::new(settings, connections, size)?,
    };
    let flows = match scenario {
        "echo" => vec![builder.echo(builder.pace(1, None)?)],
        "push" => vec![builder.push(builder.pace(16, None)?)?],
        "room" => vec![builder.room(builder.pace(1, (settings.depth.is_none()).then_some(10.0))?)?],
        "slow-reader" => vec![builder.room(builder.pace(1, Some(100.0))?)?],
        "broadcast" => vec![builder.broadcast(builder.pace(1, settings.depth.is_none().then_some(10.0))?)],
        "mix" => builder.mix()?,
        _ => Vec::new(),
    };
    let goim_only = flows.iter().find(|flow| matches!(flow.path, Path::Http(_)));
    match (settings.protocol, goim_only) {
        (Some(Speech::Raw | Speech::WsEcho), Some(flow)) => Err(RunError::new(
            format!("{} over HTTP needs goim's protocol", flow.kind.name()),
            "leave --protocol out, or use echo, or room with --via socket",
        )),
        _ => Ok(flows),
    }
}

/// Builds one flow after the other.
pub(super) struct Builder<'a> {
    settings: &'a Settings,
    connections: u32,
    size: usize,
}

impl<'a> Builder<'a> {
    /// A builder for payloads of `size` bytes.
    ///
    /// # Errors
    /// A size that no stamp fits, or no frame.
    pub(super) fn new(settings: &'a Settings, connections: u32, size: u32) -> Result<Builder<'a>, RunError> {
        if !(STAMP_SIZE as u32..=PAYLOAD_SIZE_MAX).contains(&size) {
            return Err(RunError::new(
                format!("--size {size}"),
                format!("a payload holds a stamp of {STAMP_SIZE} bytes and at most {PAYLOAD_SIZE_MAX}"),
            ));
        }
        Ok(Builder { settings, connections, size: size as usize })
    }

    /// Open at `--rate` (or `default`), closed at `--depth` (or `depth`).
    fn pace(&self, depth: u16, default: Option<f64>) -> Result<Pace, RunError> {
        match (self.settings.rate, self.settings.depth) {
            (Some(_), Some(_)) => Err(RunError::new(
                "--rate and --depth together",
                "a loop is open (--rate) or closed (--depth); leave one out",
            )),
            (Some(given), None) => Ok(Pace::Open { rate: rate(given, "--rate")? }),
            (None, Some(0)) => Err(RunError::new("--depth 0", "give 1 or more")),
            (None, Some(depth)) if depth > 1024 => {
                Err(RunError::new(format!("--depth {depth}"), "give at most 1024 messages in one write"))
            }
            (None, Some(depth)) => Ok(Pace::Closed { depth }),
            (None, None) => match default {
                Some(default) => Ok(Pace::Open { rate: rate(default, "--rate")? }),
                None => Ok(Pace::Closed { depth }),
            },
        }
    }

    pub(super) fn echo(&self, pace: Pace) -> FlowPlan {
        FlowPlan {
            stage: 0,
            shuffled: false,
            kind: FlowKind::Echo,
            path: Path::Echo,
            pace,
            payload_size: self.size,
            audience_size: 1,
            slots: 1,
        }
    }

    pub(super) fn push(&self, pace: Pace) -> Result<FlowPlan, RunError> {
        let batch = self.settings.batch.map_or(1, |count| count.0);
        if batch == 0 || batch > 1000 {
            return Err(RunError::new(format!("--batch {batch}"), "push to 1 to 1000 users at once"));
        }
        let route = match self.settings.by.unwrap_or(By::Mids) {
            By::Mids => Route::Mids,
            By::Keys => Route::Keys,
        };
        Ok(FlowPlan {
            stage: 0,
            shuffled: false,
            kind: FlowKind::Push,
            path: Path::Http(route),
            pace,
            payload_size: self.size,
            audience_size: batch.min(self.connections),
            slots: 1,
        })
    }

    pub(super) fn room(&self, pace: Pace) -> Result<FlowPlan, RunError> {
        let goim = self.settings.compat == Some(Compat::Goim);
        let size = self.settings.room_size.map_or(self.connections, |count| count.0).min(self.connections);
        let publishers = self.settings.publishers.unwrap_or(1);
        let via = self.settings.via.unwrap_or(if goim { Via::Http } else { Via::Socket });
        if size == 0 {
            return Err(RunError::new("--room-size 0", "give the connections of one room"));
        }
        if goim && via == Via::Socket {
            return Err(RunError::new(
                "goim's clients cannot send to a room",
                "use --via http or --compat full",
            ));
        }
        if publishers == 0 || (via == Via::Socket && u32::from(publishers) > size) {
            return Err(RunError::new(
                format!("{publishers} publishers in rooms of {size}"),
                "give at least one, and no more than a room has members",
            ));
        }
        let path = match via {
            Via::Socket => Path::Publish,
            Via::Http => Path::Http(Route::Room),
        };
        Ok(FlowPlan {
            stage: 0,
            shuffled: false,
            kind: FlowKind::Room,
            path,
            pace,
            payload_size: self.size,
            audience_size: size,
            slots: publishers,
        })
    }

    pub(super) fn broadcast(&self, pace: Pace) -> FlowPlan {
        FlowPlan {
            stage: 0,
            shuffled: false,
            kind: FlowKind::Broadcast,
            path: Path::Http(Route::All),
            pace,
            payload_size: self.size,
            audience_size: self.connections,
            slots: self.settings.publishers.unwrap_or(1).max(1),
        }
    }

    /// Every kind whose rate was given; all of them, at modest rates, when none was.
    fn mix(&self) -> Result<Vec<FlowPlan>, RunError> {
        let given = self.settings;
        let rates = match is_whole_mix(given) {
            true => [Some(1000.0), Some(200.0), Some(10.0), Some(1.0)],
            false => [given.echo_rate, given.push_rate, given.room_rate, given.broadcast_rate],
        };
        let open = |per_second: f64, flag: &str| Ok(Pace::Open { rate: rate(per_second, flag)? });
        let mut flows = Vec::new();
        if let Some(per_second) = rates[0] {
            flows.push(self.echo(open(per_second, "--echo-rate")?));
        }
        if let Some(per_second) = rates[1] {
            flows.push(self.push(open(per_second, "--push-rate")?)?);
        }
        if let Some(per_second) = rates[2] {
            flows.push(self.room(open(per_second, "--room-rate")?)?);
        }
        if let Some(per_second) = rates[3] {
            flows.push(self.broadcast(open(per_second, "--broadcast-rate")?));
        }
        Ok(flows)
    }
}

/// Whether a mix was asked for without naming its parts: then it has all six kinds of traffic.
pub(super) fn is_whole_mix(given: &Settings) -> bool {
    let rates = [given.echo_rate, given.push_rate, given.room_rate, given.broadcast_rate, given.churn_rate];
    rates.iter().all(Option::is_none) && given.slow_connections.is_none()
}
