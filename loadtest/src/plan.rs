//! A fully resolved run: every number and every flow. Made by `scenario` from the settings, read by
//! everything else.

use crate::load::Load;
use crate::permutation::Permutation;
use crate::schedule::Rate;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The protocol of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolKind {
    /// goim frames, over TCP or WebSocket.
    Goim,
    /// Plain bytes, cut into messages of one fixed size.
    Raw,
    /// WebSocket binary messages without frames inside.
    WebSocketRaw,
}

/// The IO backend that drives the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendKind {
    Epoll,
    IoUring,
    /// Our own TCP/IP stack over a device of DPDK's, past the kernel.
    Dpdk,
}

/// The kind of a flow, as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowKind {
    Echo,
    Push,
    Room,
    Broadcast,
    Message,
}

impl FlowKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            FlowKind::Echo => "echo",
            FlowKind::Push => "push",
            FlowKind::Room => "room",
            FlowKind::Broadcast => "broadcast",
            FlowKind::Message => "message",
        }
    }
}

/// Connections that push, of [`Path::Service`].
pub(crate) const SERVICES: u32 = 8;

/// How a flow's messages enter the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// A frame that the server answers or echoes on the same connection.
    Echo,
    /// SendMessage to a room (or bare bytes that the server fans out).
    Publish,
    /// SendMessage from one client to one user.
    Direct,
    /// SendMessage to users from [`SERVICES`] connections, as services that push keep open.
    Service,
    /// goim's HTTP push.
    Http(Route),
}

/// The route of goim's HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Mids,
    Keys,
    Room,
    All,
}

/// When the next operation happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pace {
    /// `depth` at once, the next when all of them are answered.
    Closed { depth: u16 },
    /// By the clock.
    Open { load: Load },
}

/// One stream of operations through the measured connections.
///
/// Connection `c` belongs to audience `c / audience_size`. `slots` senders send to each audience;
/// for [`Path::Publish`] they are the audience's first connections; for [`Path::Direct`] every
/// connection sends, and senders and receivers are drawn by shuffles; for [`Path::Service`] the
/// first connections of the run take turns.
#[derive(Clone, Debug)]
pub(crate) struct FlowPlan {
    /// The stage it runs in, an index into [`RunPlan::stages`].
    pub(crate) stage: usize,
    pub(crate) kind: FlowKind,
    pub(crate) path: Path,
    pub(crate) pace: Pace,
    pub(crate) payload_size: usize,
    pub(crate) audience_size: u32,
    pub(crate) slots: u16,
    /// Audiences take turns in a shuffled order, not one after the other.
    pub(crate) shuffled: bool,
}

impl FlowPlan {
    /// The shuffle of the audiences' turns.
    pub(crate) fn turns(&self, connections: u32) -> Permutation {
        Permutation::new(self.audiences(connections), 0x7475_726e)
    }

    /// Audiences among `connections` connections.
    pub(crate) fn audiences(&self, connections: u32) -> u32 {
        connections.div_ceil(self.audience_size)
    }

    /// Members of `audience`: the last one may be smaller.
    pub(crate) fn members(&self, audience: u32, connections: u32) -> u32 {
        let first = audience.saturating_mul(self.audience_size);
        connections.saturating_sub(first).min(self.audience_size)
    }
}

/// How connections are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectPlan {
    /// By the clock; `None`: as fast as `in_flight` allows.
    pub(crate) rate: Option<Rate>,
    /// Handshakes under way at a time, by worker.
    pub(crate) in_flight: usize,
    /// From the first packet to the answer to the auth frame.
    pub(crate) timeout: Duration,
    /// Further attempts after a failed one.
    pub(crate) retries: u8,
}

/// Connections that come and go in addition to the measured ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChurnPlan {
    pub(crate) connections: u32,
    pub(crate) rate: Rate,
}

/// The identities of the clients.
#[derive(Clone, Debug)]
pub(crate) struct IdentityPlan {
    pub(crate) first_mid: i64,
    pub(crate) platform: String,
    pub(crate) token: String,
    pub(crate) room_type: String,
    /// Connections of one room; 0: no room.
    pub(crate) room_size: u32,
    /// Rooms of each connection in addition to its first: joined after the login.
    pub(crate) further_rooms: u8,
    /// Measured connections; those beyond them (slow, churning) are spread over the same rooms.
    pub(crate) measured: u32,
    pub(crate) push_operation: i32,
    pub(crate) echo_operation: i32,
}

impl IdentityPlan {
    /// Rooms that connections log in to; `None` without rooms.
    fn rooms(&self) -> Option<u32> {
        Some(self.measured.checked_next_multiple_of(self.room_size)?.checked_div(self.room_size)?.max(1))
    }

    /// Number of the room that connection `index` logs in to; `None` without rooms.
    pub(crate) fn room(&self, index: u32) -> Option<u32> {
        let rooms = self.rooms()?;
        Some(if index < self.measured { index / self.room_size } else { index % rooms })
    }

    /// Number of the `nth` room (from 1) that connection `index` joins after its login. For each
    /// `nth` there are as many such rooms as rooms of logins, of about the same size, with
    /// different members each time.
    pub(crate) fn further_room(&self, index: u32, nth: u8) -> Option<u32> {
        let rooms = self.rooms()?;
        let nth = u32::from(nth);
        Some(nth * rooms + index / nth.max(1) % rooms)
    }
}

/// Times of the phases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) warmup: Duration,
    pub(crate) measure: Duration,
    pub(crate) settle_max: Duration,
}

/// What happens to the connections in a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StageKind {
    /// Connections stay; the stage's flows run, if it has any.
    Hold,
    /// Connections close and come back, in a shuffled order.
    Churn { rate: Rate },
    /// All close at once. It ends when all are closed, on both sides.
    Disconnect,
    /// All come back. It ends when all are ready.
    Reconnect,
}

impl StageKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            StageKind::Hold => "hold",
            StageKind::Churn { .. } => "churn",
            StageKind::Disconnect => "disconnect",
            StageKind::Reconnect => "reconnect",
        }
    }
}

/// One part of a run, over the connections that the one before left.
#[derive(Clone, Debug)]
pub(crate) struct StagePlan {
    pub(crate) name: String,
    pub(crate) kind: StageKind,
    /// For [`StageKind::Disconnect`] and [`StageKind::Reconnect`], `measure` is the longest that
    /// they may take.
    pub(crate) phases: Phases,
    /// The window ends as soon as everything that was sent has arrived.
    pub(crate) until_delivered: bool,
    /// Time after it in which the server gets no requests.
    pub(crate) rest: Duration,
    /// Connection requests per second from unused addresses, in addition to everything else.
    pub(crate) syn_rate: Option<u32>,
    /// Goals that it is judged by alone, as text.
    pub(crate) goals: Vec<String>,
}

/// The addresses of the server and of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) server: SocketAddr,
    pub(crate) server_name: String,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) http_name: String,
    pub(crate) websocket_path: String,
    pub(crate) sources: Vec<IpAddr>,
}

/// The generator as a host of its own on a link.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "dpdk"),
    expect(dead_code, reason = "checked everywhere, used where DPDK is built in")
)]
pub(crate) struct LinkPlan {
    /// DPDK's virtual device, with its arguments.
    pub(crate) device: String,
    /// Prefix length of the link that the sources and the server are on.
    pub(crate) prefix_length: u8,
    pub(crate) huge_pages: bool,
    /// At most so long an idle worker sleeps.
    pub(crate) idle_sleep_max: Duration,
    pub(crate) eal_args: Vec<String>,
}

/// How the generator itself is built.
#[derive(Clone, Debug)]
pub(crate) struct Machinery {
    pub(crate) backend: BackendKind,
    /// With [`BackendKind::Dpdk`].
    pub(crate) link: Option<LinkPlan>,
    pub(crate) workers: u32,
    /// At most so many threads are shared by the workers; where backends cannot share one, each
    /// worker has its own.
    pub(crate) threads: u32,
    pub(crate) pin: Vec<usize>,
    /// HTTP connections of each worker that pushes.
    pub(crate) http_connections: u32,
    /// Requests without an answer on one HTTP connection, at most.
    pub(crate) http_pipeline: usize,
    /// Workers that push.
    pub(crate) http_workers: u32,
    /// The part of the workers that this process has; `None`: all.
    pub(crate) part: Option<Part>,
}

/// One of several processes that share the workers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) index: u32,
    /// Processes; the workers are a multiple of them.
    pub(crate) of: u32,
}

impl Part {
    /// Whether worker `number` of `workers` belongs to it.
    fn has(self, number: u32, workers: u32) -> bool {
        number / (workers / self.of.max(1)).max(1) == self.index
    }
}

/// The run.
#[derive(Clone, Debug)]
pub(crate) struct RunPlan {
    /// The scenario's name.
    pub(crate) scenario: String,
    pub(crate) run: u32,
    pub(crate) endpoints: Endpoints,
    pub(crate) machinery: Machinery,
    pub(crate) protocol: ProtocolKind,
    pub(crate) websocket: bool,
    pub(crate) identity: IdentityPlan,
    /// Measured connections.
    pub(crate) connections: u32,
    /// Connections that stop reading, after the measured ones.
    pub(crate) slow_connections: u32,
    pub(crate) churn: Option<ChurnPlan>,
    pub(crate) connect: ConnectPlan,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) flows: Vec<FlowPlan>,
    /// At least one.
    pub(crate) stages: Vec<StagePlan>,
}

impl RunPlan {
    /// Whether `stage` is the last one, or comes after it.
    pub(crate) fn is_last(&self, stage: usize) -> bool {
        stage + 1 >= self.stages.len()
    }

    /// The name of a flow: its kind, or its stage where there are several, or both.
    pub(crate) fn flow_name(&self, flow: &FlowPlan) -> String {
        let is_alone = self.flows.iter().filter(|other| other.stage == flow.stage).count() == 1;
        match self.stages.get(flow.stage) {
            Some(stage) if self.stages.len() > 1 && is_alone => stage.name.clone(),
            Some(stage) if self.stages.len() > 1 => format!("{} {}", stage.name, flow.kind.name()),
            _ => flow.kind.name().to_owned(),
        }
    }

    /// Connections of all roles.
    pub(crate) fn connections_total(&self) -> u32 {
        self.connections + self.slow_connections + self.churn.map_or(0, |churn| churn.connections)
    }

    /// Connections of all roles in this process.
    pub(crate) fn connections_here(&self) -> u32 {
        self.duties().iter().map(Duty::count).sum()
    }

    /// The workers of the run that are in this process, each with its role and share.
    pub(crate) fn duties(&self) -> Vec<Duty> {
        let mut duties = Vec::new();
        let workers = self.machinery.workers;
        let part = self.machinery.part;
        let here = |number: &u32| part.is_none_or(|part| part.has(*number, workers));
        // What is one worker's is the first process's.
        let first_here = part.is_none_or(|part| part.index == 0);
        for number in (0..workers).filter(here) {
            duties.push(Duty { role: Role::Measured, first: number, step: workers, end: self.connections });
        }
        let slow_end = self.connections + self.slow_connections;
        if self.slow_connections > 0 && first_here {
            duties.push(Duty { role: Role::Slow, first: self.connections, step: 1, end: slow_end });
        }
        if let Some(churn) = self.churn {
            let churners = if self.connections == 0 { workers } else { 1 };
            if self.connections == 0 {
                duties.clear();
            }
            let end = slow_end + churn.connections;
            let own = |number: &u32| if churners == 1 { first_here } else { here(number) };
            for number in (0..churners).filter(own) {
                duties.push(Duty { role: Role::Churn, first: slow_end + number, step: churners, end });
            }
        }
        duties
    }
}

/// The purpose of a worker's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Carry the flows and are checked.
    Measured,
    /// Stop reading when the traffic starts.
    Slow,
    /// Come and go.
    Churn,
}

/// A worker's role and its connections: `first`, `first + step`, … below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Duty {
    pub(crate) role: Role,
    pub(crate) first: u32,
    pub(crate) step: u32,
    pub(crate) end: u32,
}

impl Duty {
    /// How many connections that is.
    pub(crate) fn count(&self) -> u32 {
        self.end.saturating_sub(self.first).div_ceil(self.step)
    }

    /// The run-wide index of a worker's own connection.
    pub(crate) fn global(&self, local: u32) -> u32 {
        self.first + local * self.step
    }

    /// The worker's own index of a run-wide one, if it is among its connections.
    pub(crate) fn local(&self, global: u32) -> Option<u32> {
        let offset = global.checked_sub(self.first)?;
        (global < self.end && offset.is_multiple_of(self.step)).then(|| offset / self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_rooms_are_others_of_about_the_same_size() {
        let identity = IdentityPlan {
            first_mid: 0,
            platform: String::new(),
            token: String::new(),
            room_type: String::new(),
            room_size: 10,
            further_rooms: 3,
            measured: 1000,
            push_operation: 1000,
            echo_operation: 500,
        };
        let mut sizes = vec![0; 400];
        for index in 0..1000 {
            let further = (1..=3).map(|nth| identity.further_room(index, nth));
            let rooms: Vec<u32> = std::iter::once(identity.room(index)).chain(further).flatten().collect();
            assert_eq!(rooms.iter().map(|room| room / 100).collect::<Vec<_>>(), [0, 1, 2, 3]);
            rooms.iter().for_each(|room| sizes[*room as usize] += 1);
        }
        assert!(sizes.iter().all(|size| (8..=12).contains(size)), "{sizes:?}");
        let roomless = IdentityPlan { room_size: 0, ..identity };
        assert_eq!((roomless.room(5), roomless.further_room(5, 1)), (None, None));
    }

    #[test]
    fn duties_cover_every_connection_once() {
        for (workers, end) in [(1, 1), (2, 5), (3, 3), (4, 2)] {
            let duties: Vec<Duty> =
                (0..workers).map(|n| Duty { role: Role::Measured, first: n, step: workers, end }).collect();
            for global in 0..end {
                let owners: Vec<u32> = duties.iter().filter_map(|duty| duty.local(global)).collect();
                assert_eq!(owners.len(), 1, "connection {global} of {end} on {workers} workers");
            }
            assert_eq!(duties.iter().map(Duty::count).sum::<u32>(), end);
            for duty in &duties {
                assert!((0..duty.count()).all(|local| duty.local(duty.global(local)) == Some(local)));
            }
        }
    }

    #[test]
    fn processes_share_the_workers_without_gap_or_overlap() {
        for (workers, of) in [(1, 1), (6, 1), (6, 2), (6, 3), (6, 6)] {
            for number in 0..workers {
                let owners = (0..of).filter(|index| Part { index: *index, of }.has(number, workers));
                assert_eq!(owners.count(), 1, "worker {number} of {workers} in {of}");
            }
        }
    }

    #[test]
    fn the_last_audience_may_be_smaller() {
        let flow = FlowPlan {
            stage: 0,
            kind: FlowKind::Room,
            path: Path::Publish,
            pace: Pace::Closed { depth: 1 },
            payload_size: 24,
            audience_size: 4,
            slots: 1,
            shuffled: false,
        };
        assert_eq!(flow.audiences(10), 3);
        assert_eq!((0..3).map(|a| flow.members(a, 10)).collect::<Vec<_>>(), [4, 4, 2]);
    }
}
