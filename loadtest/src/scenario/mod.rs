//! The scenarios: from what was asked for to a [`RunPlan`].
//!
//! | scenario | what happens | what is measured |
//! |---|---|---|
//! | connect | connections are opened, as a storm or a ramp | time to ready, rate, server memory |
//! | idle | connections only send heartbeats | heartbeats, server memory and CPU |
//! | echo | frames come back on their own connection | round trip |
//! | push | HTTP pushes to users | intended time of the request to arrival |
//! | room | members (or HTTP) send to rooms | to arrival at every member |
//! | broadcast | HTTP pushes to all | to arrival everywhere |
//! | churn | connections close and come back | time to ready |
//! | slow-reader | some stop reading while a room has traffic | the others' latency |
//! | syn-flood | echoes, then the same under a flood of SYNs | the rate that they keep |
//! | mix | several of these at once | each |
//! | million | stages over the same connections, from idle to a storm | each stage |

mod apply;
mod flows;
mod link;
mod stages;

pub(crate) use apply::{applies, unsuited};

use crate::client::websocket::Upgrade;
use crate::error::RunError;
use crate::limits;
use crate::plan::{
    BackendKind, ChurnPlan, ConnectPlan, Endpoints, IdentityPlan, Machinery, Phases, ProtocolKind, RunPlan,
};
use crate::schedule::Rate;
use crate::settings::{BackendChoice, Compat, Settings, Speech, Transport};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Names of all scenarios, with one line each.
pub(crate) const ALL: [(&str, &str); 11] = [
    ("connect", "Open connections, as a storm or a ramp; time to ready and rate"),
    ("idle", "Hold connections that only beat; server memory a connection"),
    ("echo", "Frames that come back: closed loop of some depth, or open loop at a rate"),
    ("push", "HTTP pushes to users, out over their sockets"),
    ("room", "Messages to rooms, by members or over HTTP, out to every member"),
    ("broadcast", "HTTP pushes to all"),
    ("churn", "Connections that close and come back at a rate"),
    ("slow-reader", "Some connections stop reading while others are measured"),
    ("syn-flood", "Echoes alone, then under connection requests from unused addresses; needs --backend dpdk"),
    (
        "mix",
        "Echo, push, room, broadcast, churn and slow readers at once; with a rate of any, only those with one",
    ),
    (
        "million",
        "All that very many connections must stand, in stages; with --gateway, starts it and reports on it",
    ),
];

/// The given settings, with the scenario's own defaults where those depend on each other.
pub(crate) fn defaults(scenario: &str, settings: &Settings) -> Settings {
    if scenario == "million" { stages::with_defaults(settings) } else { settings.clone() }
}

/// Resolves every number of a run.
///
/// # Errors
/// Settings that contradict each other, that are missing, or that the machine does not allow.
pub(crate) fn plan(scenario: &'static str, settings: &Settings) -> Result<RunPlan, RunError> {
    if let Some(name) = unsuited(scenario, settings) {
        return Err(RunError::new(
            format!("{scenario} has no use for --{}", name.replace('_', "-")),
            format!("leave it out; `loadtest {scenario} --help` lists what applies"),
        ));
    }
    let settings = &defaults(scenario, settings);
    let speech = settings.protocol.unwrap_or(Speech::Goim);
    let transport = settings.transport.unwrap_or(Transport::Tcp);
    let connections = settings.connections.map_or(100, |count| count.0);
    let churn = churn(scenario, settings, connections)?;
    let measured = if scenario == "churn" { 0 } else { connections };
    if measured == 0 && churn.is_none() {
        return Err(RunError::new("no connections", "give --connections 1 or more"));
    }
    let slow_default = match scenario {
        "slow-reader" => 10,
        "mix" if flows::is_whole_mix(settings) => 2,
        _ => 0,
    };
    let slow = settings.slow_connections.map_or(slow_default, |count| count.0);
    if settings.duration.is_some_and(|span| span.0.is_zero()) {
        return Err(RunError::new("--duration 0s measures nothing", "give how long to measure, such as 10s"));
    }
    let (stages, flows) = stages::stages(scenario, settings, measured)?;
    let mut plan = RunPlan {
        scenario,
        run: run_number(),
        endpoints: endpoints(settings, speech, transport, &flows)?,
        machinery: machinery(scenario, settings, measured.max(churn.map_or(0, |churn| churn.connections)))?,
        protocol: match speech {
            Speech::Goim => ProtocolKind::Goim,
            Speech::Raw => ProtocolKind::Raw,
            Speech::WsEcho => ProtocolKind::WebSocketRaw,
        },
        websocket: transport == Transport::Ws || speech == Speech::WsEcho,
        identity: identity(settings, measured, &flows)?,
        connections: measured,
        slow_connections: slow,
        churn,
        connect: connect(settings)?,
        heartbeat: heartbeat(scenario, settings, speech)?,
        flows,
        stages,
    };
    let asked = settings.source_addresses.as_deref();
    plan.endpoints.sources = match &plan.machinery.link {
        Some(_) => link::sources(settings, &plan)?,
        None => limits::sources(asked, plan.endpoints.server.ip(), plan.connections_total())?,
    };
    Ok(plan)
}

/// Reads a rate, which is positive.
fn rate(per_second: f64, flag: &str) -> Result<Rate, RunError> {
    Rate::new(per_second).ok_or_else(|| {
        RunError::new(format!("{flag} {per_second} is no rate"), "give a positive number, at most 10^9")
    })
}

/// A number for this run, which tells its messages from those of an earlier one.
fn run_number() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u32).rotate_left(7) ^ std::process::id().wrapping_mul(0x9e37_79b1)
}

fn churn(scenario: &str, settings: &Settings, connections: u32) -> Result<Option<ChurnPlan>, RunError> {
    let per_second = match (scenario, settings.churn_rate.or(settings.rate)) {
        ("churn", given) => given.unwrap_or(100.0),
        ("mix", _) if settings.churn_rate.is_some() => settings.churn_rate.unwrap_or_default(),
        ("mix", _) if flows::is_whole_mix(settings) => 20.0,
        _ => return Ok(None),
    };
    let rate = rate(per_second, "--churn-rate")?;
    let enough = (2.0 * rate.per_second()).ceil() as u32;
    let connections = match scenario {
        "churn" => connections,
        _ => settings.churn_connections.map_or(enough, |count| count.0),
    };
    Ok(Some(ChurnPlan { connections: connections.max(1), rate }))
}

pub(crate) fn resolve(flag: &str, text: &str) -> Result<SocketAddr, RunError> {
    let advice = || format!("give --{flag} as host:port, such as 127.0.0.1:3101");
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| RunError::new(format!("cannot resolve --{flag} {text}: {error}"), advice()))?;
    addresses.next().ok_or_else(|| RunError::new(format!("--{flag} {text} has no address"), advice()))
}

fn endpoints(
    settings: &Settings,
    speech: Speech,
    transport: Transport,
    flows: &[crate::plan::FlowPlan],
) -> Result<Endpoints, RunError> {
    let port = if transport == Transport::Ws { 3102 } else { 3101 };
    // Past the kernel, the server is a host of its own; its control port is this machine's in any
    // case.
    let own_host = settings.backend == Some(BackendChoice::Dpdk);
    let server_ip = if own_host { link::SERVER_IP } else { Ipv4Addr::LOCALHOST };
    let server_name = settings.server.clone().unwrap_or_else(|| format!("{server_ip}:{port}"));
    let server = resolve("server", &server_name)?;
    let http_ip = if own_host { Ipv4Addr::LOCALHOST.into() } else { server.ip() };
    let pushes = flows.iter().any(|flow| matches!(flow.path, crate::plan::Path::Http(_)));
    let http_name = settings.http.clone().unwrap_or_else(|| SocketAddr::new(http_ip, 3111).to_string());
    let http = if pushes || settings.http.is_some() { Some(resolve("http", &http_name)?) } else { None };
    let default_path = if speech == Speech::WsEcho { "/" } else { "/sub" };
    let websocket_path = settings.websocket_path.clone().unwrap_or_else(|| default_path.to_owned());
    let upgrade = Upgrade { path: websocket_path.clone(), host: server_name.clone() };
    if !upgrade.is_valid() {
        return Err(RunError::new(
            format!("--websocket-path {websocket_path} cannot stand in a request"),
            "begin it with / and use visible ASCII without spaces",
        ));
    }
    if speech == Speech::Raw && transport == Transport::Ws {
        return Err(RunError::new("--protocol raw is bare TCP", "use --protocol ws-echo for bare WebSocket"));
    }
    Ok(Endpoints { server, server_name, http, http_name, websocket_path, sources: Vec::new() })
}

fn machinery(scenario: &str, settings: &Settings, connections: u32) -> Result<Machinery, RunError> {
    let workers = settings.workers.unwrap_or(1);
    if workers == 0 || workers > 1024 || workers > connections {
        return Err(RunError::new(
            format!("--workers {workers} for {connections} connections"),
            "give at least one worker, at most 1024, and no more than there are connections",
        ));
    }
    let backend = match settings.backend.unwrap_or(BackendChoice::Auto) {
        BackendChoice::IoUring => BackendKind::IoUring,
        BackendChoice::Epoll => BackendKind::Epoll,
        BackendChoice::Dpdk => BackendKind::Dpdk,
        BackendChoice::Auto => crate::backend::best(),
    };
    Ok(Machinery {
        backend,
        link: link::plan(settings, backend)?,
        workers,
        threads: threads(settings)?,
        pin: settings.pin.clone().unwrap_or_default(),
        http_connections: settings.http_connections.unwrap_or(2).clamp(1, 1024),
        http_pipeline: usize::from(settings.http_pipeline.unwrap_or(32).max(1)),
        http_workers: stages::http_workers(scenario, workers),
    })
}

/// The number of threads. More threads than processors would only take turns, and each hop between
/// two connections would wake one.
fn threads(settings: &Settings) -> Result<u32, RunError> {
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    match settings.threads.unwrap_or_else(processors) {
        0 => Err(RunError::new("--threads 0", "give at least one, or leave it out")),
        threads => Ok(threads),
    }
}

/// Rooms to join after the login.
fn further_rooms(settings: &Settings) -> Result<u8, RunError> {
    let Some(rooms) = settings.rooms_per_connection else { return Ok(0) };
    let Some(further) = rooms.checked_sub(1) else {
        return Err(RunError::new("--rooms-per-connection 0", "leave it out for connections without rooms"));
    };
    if settings.room_size.is_some_and(|count| count.0 == 0) {
        return Err(RunError::new("--room-size 0", "give the connections of one room"));
    }
    let speaks_join =
        settings.compat != Some(Compat::Goim) && matches!(settings.protocol, None | Some(Speech::Goim));
    if further > 0 && !speaks_join {
        return Err(RunError::new(
            format!("--rooms-per-connection {rooms} needs the gateway's own Join"),
            "leave out --compat goim and --protocol, or stay with one room",
        ));
    }
    Ok(further)
}

fn identity(
    settings: &Settings,
    measured: u32,
    flows: &[crate::plan::FlowPlan],
) -> Result<IdentityPlan, RunError> {
    let goim = settings.compat == Some(Compat::Goim);
    if goim && settings.token.is_some() {
        return Err(RunError::new("goim knows no token", "leave --token out, or use --compat full"));
    }
    let push_operation = settings.operation.unwrap_or(1000);
    let echo_operation = settings.echo_operation.unwrap_or(500);
    if push_operation < 1000 {
        return Err(RunError::new(format!("--operation {push_operation} is no push"), "give 1000 or more"));
    }
    let usable = gateway_proto::frame::Operation(echo_operation).is_application() && echo_operation < 1000;
    if !(usable || echo_operation == 2) {
        return Err(RunError::new(
            format!("--echo-operation {echo_operation} does not come back as an echo"),
            "give 18-99 or 200-999 (an application operation), or 2 (heartbeat) with --size 0",
        ));
    }
    let further_rooms = further_rooms(settings)?;
    let room_flow = flows.iter().find(|flow| flow.kind == crate::plan::FlowKind::Room);
    // Without a size, all connections that are to be in rooms are in one.
    let unsized_room = if settings.rooms_per_connection.is_some() { measured.max(1) } else { 0 };
    let idle_room = settings.room_size.map_or(unsized_room, |count| count.0);
    Ok(IdentityPlan {
        first_mid: settings.first_mid.unwrap_or(1_000_000),
        platform: settings.platform.clone().unwrap_or_else(|| "loadtest".to_owned()),
        token: settings.token.clone().unwrap_or_default(),
        room_type: settings.room_type.clone().unwrap_or_else(|| "test".to_owned()),
        room_size: room_flow.map_or(idle_room, |flow| flow.audience_size),
        further_rooms,
        measured: measured.max(1),
        push_operation,
        echo_operation,
    })
}

fn connect(settings: &Settings) -> Result<ConnectPlan, RunError> {
    Ok(ConnectPlan {
        rate: settings.connect_rate.map(|per_second| rate(per_second, "--connect-rate")).transpose()?,
        in_flight: settings.connect_in_flight.map_or(256, |count| count.0.max(1) as usize),
        timeout: settings.connect_timeout.map_or(Duration::from_secs(10), |span| span.0),
        retries: settings.connect_retries.unwrap_or(2),
    })
}

fn heartbeat(scenario: &str, settings: &Settings, speech: Speech) -> Result<Option<Duration>, RunError> {
    let default = (scenario == "idle" && speech == Speech::Goim).then_some(Duration::from_secs(30));
    let heartbeat = settings.heartbeat.map(|span| span.0).or(default);
    if heartbeat.is_some_and(|every| every < Duration::from_millis(50)) {
        return Err(RunError::new(
            "--heartbeat below 50ms",
            "use `echo --echo-operation 2 --size 0` for fast heartbeats",
        ));
    }
    if heartbeat.is_some() && settings.echo_operation == Some(2) {
        return Err(RunError::new("heartbeats both as echo and by the clock", "leave --heartbeat out"));
    }
    Ok(heartbeat)
}

fn phases(scenario: &str, settings: &Settings) -> Phases {
    let seconds = |span: Option<crate::settings::units::Span>, default: u64| {
        span.map_or(Duration::from_secs(default), |span| span.0)
    };
    let (warmup, measure) = match scenario {
        "connect" => (0, 2),
        "idle" => (0, 30),
        _ => (1, 10),
    };
    Phases {
        warmup: seconds(settings.warmup, warmup),
        measure: seconds(settings.duration, measure),
        settle_max: seconds(settings.settle, 10),
    }
}
