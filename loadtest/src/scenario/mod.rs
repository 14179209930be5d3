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

mod file;
mod flows;
mod link;
mod offer;
mod stages;
mod value;

pub use file::Scenario;

use crate::client::websocket::Upgrade;
use crate::error::RunError;
use crate::limits;
use crate::plan::{
    BackendKind, ChurnPlan, ConnectPlan, Endpoints, IdentityPlan, Machinery, ProtocolKind, RunPlan,
};
use crate::settings::units::{Count, Span};
use crate::settings::{BackendChoice, Compat, Settings, Speech, Transport};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use value::{Quantities, rate};

/// Measured connections, and times of a stage, where neither scenario nor settings say them.
const CONNECTIONS: u32 = 100;
const WARMUP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(10);

impl Scenario {
    /// The given settings, with the scenario's own where they leave something open.
    ///
    /// # Errors
    /// Settings that cannot be merged; none so far.
    pub fn defaults(&self, given: &Settings) -> Result<Settings, RunError> {
        let over = |above: &Settings, below: &Settings| {
            above.over(below).map_err(|error| {
                RunError::new(format!("settings do not go together: {error}"), "leave one out")
            })
        };
        let speaks_goim = matches!(given.protocol.or(self.settings.protocol), None | Some(Speech::Goim));
        let mut own = self.settings.clone();
        own.heartbeat = own.heartbeat.filter(|_| speaks_goim);
        if let (Some(quick), Some(true)) = (&self.quick, given.quick) {
            own = over(quick, &own)?;
        }
        if let Some(together) = &self.unless_given {
            let (all, named) = (over(given, &own)?.given(), together.given());
            if !named.iter().any(|name| all.contains(name)) {
                own = over(together, &own)?;
            }
        }
        let mut all = over(given, &own)?;
        all.connections = all.connections.or(Some(Count(CONNECTIONS)));
        all.warmup = all.warmup.or(Some(Span(WARMUP)));
        let course = all.rate.as_ref().and_then(|course| course.length()).map(Span);
        all.duration = all.duration.or(course).or(Some(Span(DURATION)));
        all.settle = all.settle.or(Some(Span(SETTLE)));
        Ok(if self.scaled { stages::scaled(&all) } else { all })
    }
}

/// Resolves every number of a run.
///
/// # Errors
/// Settings that contradict each other, that are missing, or that the machine does not allow.
pub(crate) fn plan(scenario: &Scenario, settings: &Settings) -> Result<RunPlan, RunError> {
    if let Some(name) = scenario.unsuited(settings) {
        return Err(RunError::new(
            format!("{} has no use for --{}", scenario.name, name.replace('_', "-")),
            format!("leave it out; `loadtest {} --help` lists what applies", scenario.name),
        ));
    }
    let settings = &scenario.defaults(settings)?;
    let speech = settings.protocol.unwrap_or(Speech::Goim);
    let transport = settings.transport.unwrap_or(Transport::Tcp);
    let connections = settings.connections.map_or(CONNECTIONS, |count| count.0);
    let churn = churn(scenario, settings)?;
    let alone = scenario.churn.as_ref().is_some_and(|churn| churn.alone);
    let measured = if alone { 0 } else { connections };
    if measured == 0 && (churn.is_none() || connections == 0) {
        return Err(RunError::new("no connections", "give --connections 1 or more"));
    }
    offer::check_duration(settings)?;
    let (stages, mut flows) = stages::stages(scenario, settings, measured)?;
    offer::draw_arrivals(settings, &stages, &mut flows)?;
    let busiest = measured.max(churn.map_or(0, |churn| churn.connections));
    let mut plan = RunPlan {
        scenario: scenario.name.clone(),
        run: run_number(),
        endpoints: endpoints(settings, speech, transport, &flows)?,
        machinery: machinery(scenario, settings, busiest)?,
        protocol: match speech {
            Speech::Goim => ProtocolKind::Goim,
            Speech::Raw => ProtocolKind::Raw,
            Speech::WsEcho => ProtocolKind::WebSocketRaw,
        },
        websocket: transport == Transport::Ws || speech == Speech::WsEcho,
        identity: identity(settings, measured, &flows)?,
        connections: measured,
        slow_connections: settings.slow_connections.map_or(0, |count| count.0),
        churn,
        connect: connect(settings)?,
        heartbeat: heartbeat(settings)?,
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

/// A number for this run, which tells its messages from those of an earlier one.
fn run_number() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u32).rotate_left(7) ^ std::process::id().wrapping_mul(0x9e37_79b1)
}

/// Connections that come and go beside the stages; `None`: the scenario has none, or their rate is
/// not given.
fn churn(scenario: &Scenario, settings: &Settings) -> Result<Option<ChurnPlan>, RunError> {
    let Some(churn) = &scenario.churn else { return Ok(None) };
    let quantities = Quantities { scenario: &scenario.name, table: settings.table() };
    let Some(per_second) = quantities.number(Some(&churn.rate))? else { return Ok(None) };
    let connections = quantities.count(Some(&churn.connections))?.unwrap_or(1);
    Ok(Some(ChurnPlan { connections, rate: rate(per_second, "--churn-rate")? }))
}

/// The address that `text`, the value of the setting `flag`, names.
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

fn machinery(scenario: &Scenario, settings: &Settings, connections: u32) -> Result<Machinery, RunError> {
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
        http_workers: stages::http_workers(scenario.scaled, workers),
        part: None,
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

fn heartbeat(settings: &Settings) -> Result<Option<Duration>, RunError> {
    let heartbeat = settings.heartbeat.map(|span| span.0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;
    use crate::load::{Course, Load};
    use crate::plan::Pace;

    #[test]
    fn the_shipped_files_make_plans() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let ours = |path: &std::path::PathBuf| path.to_string_lossy().contains("/loadtest.");
        for path in all.filter(ours) {
            let (scenario, settings) = Scenario::load(path.to_str().unwrap(), &Settings::default()).unwrap();
            let plan = plan(&scenario, &settings).unwrap();
            assert!(plan.connections > 0, "{path:?}");
            for goal in settings.goal.iter().flatten() {
                Goal::parse(goal).unwrap();
            }
        }
    }

    #[test]
    fn the_documented_files_make_plans() {
        let page = include_str!("../../../docs/loadtest.md");
        let examples: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(examples.len(), 2);
        for (number, text) in examples.iter().enumerate() {
            let name = format!("loadtest-documented-{}-{number}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            let loaded = Scenario::load(path.to_str().unwrap(), &Settings::default());
            std::fs::remove_file(&path).unwrap();
            let (scenario, settings) = loaded.unwrap();
            let plan = plan(&scenario, &settings).unwrap();
            assert!(!plan.flows.is_empty(), "{text}");
            let goals = plan.stages.iter().flat_map(|stage| &stage.goals);
            goals.for_each(|goal| drop(Goal::parse(goal).unwrap()));
        }
    }

    #[test]
    fn a_flag_of_one_kind_of_loop_replaces_the_scenarios_own() {
        let pace = |name: &str, settings: Settings| {
            plan(&Scenario::built_in(name).unwrap(), &settings).map(|plan| plan.flows[0].pace.clone())
        };
        let open =
            |per_second| Pace::Open { load: Load::even(Course::constant(rate(per_second, "").unwrap())) };
        assert_eq!(pace("push", Settings::default()).unwrap(), Pace::Closed { depth: 16 });
        let rated = Settings { rate: Some("50".parse().unwrap()), ..Settings::default() };
        assert_eq!(pace("push", rated.clone()).unwrap(), open(50.0));
        assert_eq!(pace("room", Settings::default()).unwrap(), open(10.0));
        let deep = Settings { depth: Some(4), ..Settings::default() };
        assert_eq!(pace("room", deep).unwrap(), Pace::Closed { depth: 4 });
        assert!(pace("echo", Settings { depth: Some(4), ..rated }).is_err());
    }

    #[test]
    fn the_parts_of_a_mix_are_all_or_those_named() {
        let mix = Scenario::built_in("mix").unwrap();
        let parts = |settings: Settings| {
            let plan = plan(&mix, &settings).unwrap();
            (plan.flows.len(), plan.churn.map_or(0, |churn| churn.connections), plan.slow_connections)
        };
        assert_eq!(parts(Settings::default()), (4, 40, 2));
        assert_eq!(parts(Settings { push_rate: Some(5.0), ..Settings::default() }), (1, 0, 0));
        assert_eq!(parts(Settings { churn_rate: Some(5.5), ..Settings::default() }), (0, 11, 0));
    }

    #[test]
    fn a_flag_that_does_not_apply_is_refused() {
        let settings = Settings { depth: Some(4), ..Settings::default() };
        let error = plan(&Scenario::built_in("idle").unwrap(), &settings).unwrap_err().to_string();
        assert!(error.contains("idle has no use for --depth"), "{error}");
    }
}
