//! From the flows of a scenario file to those of a plan.

use super::file::{Flow, Traffic, Way};
use super::value::{Quantities, Value, rate};
use crate::error::RunError;
use crate::load::{Course, Load};
use crate::plan::{FlowKind, FlowPlan, Pace, Path, Route};
use crate::settings::{By, Compat, Settings, Speech, Via};
use crate::stamp::STAMP_SIZE;

/// The largest payload: with its head it fits the gateway's default body of 64 KiB.
const PAYLOAD_SIZE_MAX: u32 = 60 << 10;
/// The operation of heartbeats, which carry no payload.
const HEARTBEAT: i32 = 2;

/// Builds one flow after the other.
pub(super) struct Builder<'a> {
    pub(super) settings: &'a Settings,
    pub(super) quantities: &'a Quantities<'a>,
    pub(super) connections: u32,
}

impl Builder<'_> {
    /// The plan of `flow`; `None`: the settings of its rate are not given, so it is left out.
    ///
    /// # Errors
    /// Settings that do not go together, or that the protocol does not have.
    pub(super) fn flow(&self, flow: &Flow) -> Result<Option<FlowPlan>, RunError> {
        let Some(pace) = self.pace(flow)? else { return Ok(None) };
        let (kind, path, audience_size, slots) = match flow.kind {
            Traffic::Echo => (FlowKind::Echo, Path::Echo, 1, 1),
            Traffic::Message => (FlowKind::Message, Path::Direct, 1, 1),
            Traffic::Push => (FlowKind::Push, self.push_path(flow), self.users(flow)?, 1),
            Traffic::Room => self.room(flow)?,
            Traffic::Broadcast => {
                let publishers = self.publishers(flow)?;
                (FlowKind::Broadcast, Path::Http(Route::All), self.connections, publishers.max(1))
            }
        };
        if let (Some(Speech::Raw | Speech::WsEcho), Path::Http(_)) = (self.settings.protocol, path) {
            return Err(RunError::new(
                format!("{} over HTTP needs goim's protocol", kind.name()),
                "leave --protocol out, or use echo, or room with --via socket",
            ));
        }
        let payload_size = self.payload_size(flow)?;
        let shuffled = flow.shuffled;
        Ok(Some(FlowPlan { stage: 0, shuffled, kind, path, pace, payload_size, audience_size, slots }))
    }

    /// Open at a rate, or closed at a depth.
    fn pace(&self, flow: &Flow) -> Result<Option<Pace>, RunError> {
        match (self.course(flow)?, self.quantities.number(flow.depth.as_ref())?) {
            (Some(_), Some(_)) => Err(RunError::new(
                "--rate and --depth together",
                "a loop is open (--rate) or closed (--depth); leave one out",
            )),
            (Some(course), None) => Ok(Some(Pace::Open { load: Load::even(course) })),
            (None, Some(depth)) if (1.0..=1024.0).contains(&depth) => {
                Ok(Some(Pace::Closed { depth: depth as u16 }))
            }
            (None, Some(depth)) => Err(RunError::new(
                format!("--depth {depth}"),
                "give 1 or more, and at most 1024 messages in one write",
            )),
            (None, None) if flow.rate.is_none() && flow.depth.is_none() => Err(RunError::new(
                format!("a flow of kind {:?} has neither rate nor depth", flow.kind),
                "give rate = \"rate\" or depth = \"depth\", or numbers",
            )),
            (None, None) => Ok(None),
        }
    }

    /// The flow's rates. Those of the setting `rate` are taken as they were given.
    fn course(&self, flow: &Flow) -> Result<Option<Course>, RunError> {
        let value = match &flow.rate {
            Some(Value::Words(words)) if words == "rate" => return Ok(self.settings.rate.clone()),
            value => self.quantities.number(value.as_ref())?,
        };
        let Some(per_second) = value else { return Ok(None) };
        Ok(Some(Course::constant(rate(per_second, &format!("rate of {:?}", flow.kind))?)))
    }

    fn payload_size(&self, flow: &Flow) -> Result<usize, RunError> {
        let size = self.settings.size.map_or(64, |count| count.0);
        let beats = flow.kind == Traffic::Echo && self.settings.echo_operation == Some(HEARTBEAT);
        match beats {
            true if size != 0 => Err(RunError::new("heartbeats carry no payload", "add --size 0")),
            true => Ok(0),
            false if (STAMP_SIZE as u32..=PAYLOAD_SIZE_MAX).contains(&size) => Ok(size as usize),
            false => Err(RunError::new(
                format!("--size {size}"),
                format!("a payload holds a stamp of {STAMP_SIZE} bytes and at most {PAYLOAD_SIZE_MAX}"),
            )),
        }
    }

    fn push_path(&self, flow: &Flow) -> Path {
        match (flow.via, self.settings.by.unwrap_or(By::Mids)) {
            (Some(Way::Service), _) => Path::Service,
            (_, By::Mids) => Path::Http(Route::Mids),
            (_, By::Keys) => Path::Http(Route::Keys),
        }
    }

    /// Users of one push.
    fn users(&self, flow: &Flow) -> Result<u32, RunError> {
        let named = self.settings.batch.map_or(1, |count| count.0);
        let users = match self.quantities.count(flow.users.as_ref())? {
            Some(users) if named > 0 => users,
            _ => named,
        };
        if users == 0 || users > 1000 {
            return Err(RunError::new(format!("--batch {users}"), "push to 1 to 1000 users at once"));
        }
        Ok(users.min(self.connections))
    }

    fn publishers(&self, flow: &Flow) -> Result<u16, RunError> {
        let given = self.quantities.count(flow.publishers.as_ref())?;
        let given = given.map(|count| u16::try_from(count).unwrap_or(u16::MAX));
        Ok(given.or(self.settings.publishers).unwrap_or(1))
    }

    fn room(&self, flow: &Flow) -> Result<(FlowKind, Path, u32, u16), RunError> {
        let goim = self.settings.compat == Some(Compat::Goim);
        let size = self.settings.room_size.map_or(self.connections, |count| count.0).min(self.connections);
        let publishers = self.publishers(flow)?;
        let over_http = match (flow.via, self.settings.via) {
            (Some(way), _) => way == Way::Http,
            (None, Some(via)) => via == Via::Http,
            (None, None) => goim,
        };
        if size == 0 {
            return Err(RunError::new("--room-size 0", "give the connections of one room"));
        }
        if goim && !over_http {
            return Err(RunError::new(
                "goim's clients cannot send to a room",
                "use --via http or --compat full",
            ));
        }
        if publishers == 0 || (!over_http && u32::from(publishers) > size) {
            return Err(RunError::new(
                format!("{publishers} publishers in rooms of {size}"),
                "give at least one, and no more than a room has members",
            ));
        }
        let path = if over_http { Path::Http(Route::Room) } else { Path::Publish };
        Ok((FlowKind::Room, path, size, publishers))
    }
}
