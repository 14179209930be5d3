use super::fake::Gateway;
use gateway_control::exposition::{ControlSnapshot, HttpSnapshot, ReloadSnapshot, StartSnapshot, exposition};
use gateway_core::metrics::WorkerMetrics;
use std::io::Write;
use std::process::{Command, Stdio};

/// What promtool says about an exposition; `None` where there is no promtool.
fn promtool(text: &str) -> Option<(bool, String)> {
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("promtool: {error}"),
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let gateway = Gateway::start("");
    gateway.post("/goim/push/all?operation=1000", b"x");
    gateway.get("/nowhere");
    let text = gateway.get("/metrics").text;
    match promtool(&text) {
        Some((clean, said)) => assert!(clean && said.trim().is_empty(), "{said}"),
        None => assert!(std::env::var_os("CI").is_none(), "promtool is missing: apt-get install prometheus"),
    }
}

#[test]
fn counts_of_all_workers_are_added_up_and_labels_stay_few() {
    let gateway = Gateway::start("");
    gateway.get("/nowhere");
    gateway.call("PATCH", "/api/v1/stats", &[], b"");
    let text = gateway.get("/metrics").text;
    for line in [
        "gateway_connections{listener=\"tcp\",transport=\"tcp\"} 10",
        "gateway_connection_ends_total{by=\"server\",reason=\"kicked\"} 2",
        "gateway_turn_duration_seconds_count 10",
        "gateway_turn_duration_seconds_bucket{le=\"0.000032\"} 10",
        "gateway_ready 1",
        "gateway_workers 2",
        "gateway_worker_threads 2",
        "gateway_backend_info{backend=\"epoll\",reason=\"a fake for \\\"tests\\\"\"} 1",
        "gateway_pool_buffers{pool=\"receive\",size=\"4096\"} 0",
        "gateway_http_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 1",
        "gateway_http_requests_total{route=\"/api/v1/stats\",method=\"other\",status=\"405\"} 1",
        "gateway_config_reload_success 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 0.0, "{line}");
    }
    let families = text.lines().filter(|line| line.starts_with("# HELP")).count();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(families > 60 && series < 300, "{families} families, {series} series");
}

fn snapshot() -> ControlSnapshot {
    ControlSnapshot {
        start: StartSnapshot {
            backend: "epoll",
            backend_reason: String::new(),
            listeners: vec![("tcp".into(), "tcp"); 2],
            connections_max: 1,
            worker_threads: 1,
            memory_planned: vec![],
        },
        busiest_address: Some((40, 500)),
        ready: true,
        port: Some((true, 2, 1)),
        memory: gateway_control::MemoryState::default(),
        http: HttpSnapshot::default(),
        reload: ReloadSnapshot { success: true, at: 0, applied: 0, refused: 0 },
        log_dropped: 0,
        ticket_timeouts: 0,
        worker_messages: 0,
        journal: [0; 4],
        mailbox_depths: vec![0; 60],
    }
}

#[test]
fn what_was_refused_unchecked_and_what_was_lost_with_its_receiver_are_told_apart() {
    let worker = std::sync::Arc::new(WorkerMetrics::default());
    worker.verifier_overloads.add(3);
    worker.drops[2].add(4);
    worker.losses[2].add(5);
    worker.accept_paused_nanos.add(1_500_000_000);
    let verifier = std::sync::Arc::new(gateway_auth::VerifierMetrics::default());
    verifier.refused[gateway_core::message::AuthError::Overload as usize].add(2);
    let text = exposition(&[worker], &[verifier], &snapshot());
    for line in [
        "gateway_token_checks_total{result=\"overload\"} 5",
        "gateway_dropped_messages_total{class=\"room\",receiver=\"kept\"} 4",
        "gateway_dropped_messages_total{class=\"room\",receiver=\"closed\"} 5",
        "gateway_accept_paused_seconds_total 1.5",
        "gateway_address_connections 40",
        "gateway_address_connections_max 500",
        "gateway_worker_accept_paused{worker=\"0\"} 0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
}

#[test]
fn sixty_workers_do_not_make_thousands_of_series() {
    let workers: Vec<_> = (0..60).map(|_| std::sync::Arc::new(WorkerMetrics::default())).collect();
    let text = exposition(&workers, &[], &snapshot());
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 700, "{series} series");
}

#[test]
fn memory_is_shown_whatever_limits_it() {
    let text = Gateway::start("").get("/metrics").text;
    for name in
        ["gateway_memory_used_bytes ", "gateway_memory_limit_bytes ", "gateway_log_dropped_lines_total "]
    {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
    }
}
