use super::*;
use std::collections::BTreeMap;
use std::io;

fn no_files(_: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::new(io::ErrorKind::NotFound, "No such file or directory"))
}

fn from_file(text: &str) -> Sources {
    Sources { file: Some(("gateway.toml".into(), text.into())), ..Sources::default() }
}

fn load(sources: &Sources) -> Result<Config, Problems> {
    Config::load(sources, &no_files)
}

fn small_system() -> SystemLimits {
    SystemLimits {
        descriptors_max: 20_000,
        own_descriptors: true,
        cores: 2,
        cpu_quota: None,
        cgroup_memory: None,
        memory_available: Some(24 << 30),
        own_memory: None,
        backlog_max: Some(4096),
        kernel: "6.18".into(),
    }
}

/// About what the control thread and HTTP reserve.
const CONTROL_THREAD: usize = 31 << 20;

fn plan(text: &str, backend: BackendKind) -> Result<Plan, Problems> {
    let config = load(&from_file(text)).unwrap_or_else(|problems| panic!("{problems}"));
    Plan::new(
        &config,
        &small_system(),
        backend,
        Reserves {
            worker: &|tables, _, _| vec![MemoryEntry::new("tables", tables.connections_max * 200)],
            process: &|_| vec![MemoryEntry::new("control thread", CONTROL_THREAD)],
        },
    )
}

#[test]
fn an_empty_file_is_a_development_profile() {
    let config = load(&from_file("")).unwrap();
    assert_eq!(config.control.address.to_string(), "127.0.0.1:3111");
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|one| (one.name.as_str(), one.socket.address.to_string(), one.demo_page))
        .collect();
    let here = |port: u16| format!("127.0.0.1:{port}");
    assert_eq!(listeners, [("tcp", here(3101), false), ("websocket", here(3102), true)]);
    assert!(config.auth.is_none() && config.journal.is_none());
    assert!(config.source.warnings.iter().any(|warning| warning.contains("development only")));
    assert_eq!(config.reloadable, gateway_core::settings::Reloadable::default());
}

#[test]
fn later_layers_win_and_each_value_knows_its_place() {
    let sources = Sources {
        file: Some(("gateway.toml".into(), "[io]\nworkers = 3\nbackend = \"io_uring\"\n\n[[listener]]\nname = \"tcp\"\naddress = \"127.0.0.1:1\"\n".into())),
        environment: vec![
            ("GATEWAY_IO__WORKERS".into(), "4".into()),
            ("GATEWAY_LISTENER__TCP__BACKLOG".into(), "7".into()),
            ("GATEWAY_PORT_3101_TCP".into(), "set by Kubernetes".into()),
            ("HOME".into(), "/".into()),
        ],
        flags: vec![("io.backend".into(), "epoll".into(), "--set io.backend=epoll".into())],
    };
    let config = load(&sources).unwrap();
    assert_eq!(config.io.workers, Some(4));
    assert_eq!(config.io.backend, Some(BackendKind::Epoll));
    assert_eq!(config.listeners[0].socket.backlog, 7);
    let values = &config.source.values;
    assert_eq!(values.origin("io.workers"), Origin::Environment("GATEWAY_IO__WORKERS".into()));
    assert_eq!(values.origin("listener.tcp.address"), Origin::File { file: "gateway.toml".into(), line: 7 });
    assert_eq!(values.origin("log.level"), Origin::Default);
}

#[test]
fn what_is_printed_reads_back() {
    let config = load(&from_file("[io]\nworkers = 3\n[[listener]]\nname = \"a\"\nkind = \"websocket\"\naddress = \"[::]:1\"\norigins = [\"https://x.org\"]")).unwrap();
    let printed = effective(&config.source.values);
    assert!(
        printed.contains("workers = 3                                      # gateway.toml:2"),
        "{printed}"
    );
    let again = load(&from_file(&printed)).unwrap();
    assert_eq!(config.source.values.changes(&again.source.values), Vec::new());
    load(&from_file(&schema_text(None).unwrap())).unwrap();
    assert_eq!(schema_text(Some("no such key")), None);
    let part = schema_text(Some("listener.backlog")).unwrap();
    assert!(part.contains("backlog = 4096") && !part.contains("[io]"), "{part}");
}

#[test]
fn a_scope_is_one_word_and_wants_tokens() {
    let jwt = |scope: &str| {
        let mut sources = from_file(&format!("[auth]\nmode = \"jwt\"\nservice_scope = '{scope}'"));
        let secret = "correct-horse-battery-staple-0123456789".to_owned();
        sources.environment = vec![("GATEWAY_AUTH__SECRET".into(), secret)];
        load(&sources)
    };
    let policy = jwt("gateway:send").unwrap().auth.unwrap();
    assert_eq!(policy.service_scope.as_deref(), Some("gateway:send"));
    for scope in ["a b", " gateway:send", "\"", "a\\b"] {
        let problems = jwt(scope).unwrap_err().to_string();
        assert!(
            problems.contains("gateway.toml:3: auth.service_scope") && problems.contains("one word"),
            "{problems}"
        );
    }
    let idle = load(&from_file("auth.service_scope = \"gateway:send\"")).unwrap();
    assert!(idle.source.warnings.iter().any(|warning| warning.starts_with("auth.service_scope")));
}

#[test]
fn secrets_are_neither_printed_nor_taken_from_a_command_line() {
    let secret = "correct-horse-battery-staple-0123456789";
    let mut sources = from_file("");
    sources.environment = vec![("GATEWAY_CONTROL__API_KEY".into(), secret.into())];
    let config = load(&sources).unwrap();
    assert!(!effective(&config.source.values).contains(secret));
    assert!(!format!("{:?}", config.control).contains(secret));
    sources.flags = vec![("control.api_key".into(), secret.into(), "--set control.api_key".into())];
    let problems = load(&sources).unwrap_err().to_string();
    assert!(
        problems.contains("set GATEWAY_CONTROL__API_KEY or a file") && !problems.contains(secret),
        "{problems}"
    );
    let misspelt = load(&from_file(&format!("[control]\napi_keyy = \"{secret}\""))).unwrap_err().to_string();
    assert!(misspelt.contains("did you mean control.api_key?") && !misspelt.contains(secret), "{misspelt}");
}

#[test]
fn a_million_connections_on_small_rings_need_53_workers() {
    let found = plan("limits.connections_max = 1_000_000", BackendKind::IoUring).unwrap();
    assert_eq!(found.workers, 53);
    assert!(found.backend_config.connections_max * found.workers >= 1_040_000);
    assert!(found.backend_config.connections_max < 20_000);
    let fixed = plan("limits.connections_max = 1_000_000\n[io]\nworkers = 10", BackendKind::IoUring);
    assert_eq!(
        fixed.unwrap_err().to_string(),
        "gateway.toml:3: io.workers = 10: 1 000 000 connections need 10 × 105 000 descriptors (some to spare, for the \
         kernel spreads them unevenly), but RLIMIT_NOFILE allows 20 000 a ring; write io.workers = 53, or raise RLIMIT_NOFILE"
    );
}

#[test]
fn the_process_has_descriptors_for_its_rings() {
    let of = |text: &str, descriptors_max: u64| {
        let config = load(&from_file(text)).unwrap_or_else(|problems| panic!("{problems}"));
        let system = SystemLimits { descriptors_max, ..small_system() };
        let listeners = config.listeners.len() as u64;
        let plan = Plan::new(&config, &system, BackendKind::IoUring, Reserves::NONE)?;
        // A ring and the listeners each, beside those of the process.
        let needed = 40 + plan.workers as u64 * (1 + listeners);
        assert!(needed <= descriptors_max, "{} workers of {descriptors_max} descriptors", plan.workers);
        Ok::<_, Problems>(plan)
    };
    let mut before = 0;
    for descriptors_max in (180..1000).step_by(10) {
        let found = of("", descriptors_max).unwrap().connections_max;
        assert!(
            found >= before,
            "{descriptors_max} descriptors hold {found} connections, fewer held {before}"
        );
        before = found;
    }
    assert_eq!(before, 10_000);
    let refused = of("limits.connections_max = 2000", 200).unwrap_err().to_string();
    assert!(refused.contains("and there are at most 44 rings; raise RLIMIT_NOFILE"), "{refused}");
    assert!(of("limits.connections_max = 2000", 230).is_ok());
}

#[test]
fn workers_on_epoll_have_descriptors_of_their_own_where_one_table_is_too_small() {
    let found = plan("limits.connections_max = 18450", BackendKind::Epoll).unwrap();
    assert_eq!((found.workers, found.own_descriptors), (2, false));
    assert!(found.room_text().ends_with("(RLIMIT_NOFILE 20 000)"), "{}", found.room_text());
    let found = plan("limits.connections_max = 1_000_000", BackendKind::Epoll).unwrap();
    assert_eq!((found.workers, found.threads, found.own_descriptors), (53, 53, true));
    assert!(
        found.room_text().contains("(RLIMIT_NOFILE 20 000 a worker: each has a table"),
        "{}",
        found.room_text()
    );
    // The control port's connections stay in the process's table.
    let crowded = SystemLimits { descriptors_max: 300, ..small_system() };
    let limits = "limits.connections_max = 1500\ncontrol.connections_max = ";
    let plan_of = |control: u32| {
        let config = load(&from_file(&format!("{limits}{control}"))).unwrap();
        Plan::new(&config, &crowded, BackendKind::Epoll, Reserves::NONE)
    };
    assert!(plan_of(64).unwrap().own_descriptors);
    let problems = plan_of(256).unwrap_err().to_string();
    assert!(problems.contains("256 of them for control.connections_max"), "{problems}");
    let few = plan("limits.connections_max = 1_000_000\n[io]\nworkers = 10", BackendKind::Epoll);
    let few = few.unwrap_err().to_string();
    assert!(few.ends_with("allows 20 000 a worker; write io.workers = 53, or raise RLIMIT_NOFILE"), "{few}");
}

#[test]
fn epoll_has_one_table_of_descriptors_where_threads_can_have_none_of_their_own() {
    let system = SystemLimits { own_descriptors: false, ..small_system() };
    let plan = |text: &str, system: &SystemLimits| {
        let config = load(&from_file(text)).unwrap_or_else(|problems| panic!("{problems}"));
        Plan::new(&config, system, BackendKind::Epoll, Reserves::NONE)
    };
    let problems = plan("limits.connections_max = 50_000", &system).unwrap_err().to_string();
    assert_eq!(
        problems,
        "gateway.toml:1: limits.connections_max = 50000: 50 000 connections need 2 × 26 250 descriptors (some to spare, \
         for the kernel spreads them unevenly), but RLIMIT_NOFILE allows 20 000 in the whole process, and close_range(2), \
         by which workers would get descriptors of their own, is forbidden here or unknown; write limits.connections_max = 18450, \
         raise RLIMIT_NOFILE to 53100, or use io.backend = \"io_uring\""
    );
    let advised = plan("limits.connections_max = 18450", &system).unwrap();
    assert_eq!((advised.workers, advised.own_descriptors), (2, false));
    let poor = SystemLimits { descriptors_max: 1024, ..system };
    let found = plan("", &poor).unwrap();
    assert!((300..700).contains(&found.connections_max), "{}", found.connections_max);
}

#[test]
fn memory_that_is_not_there_is_not_promised() {
    let problems =
        plan("[memory]\nmemory_max_bytes = 10_000_000", BackendKind::Epoll).unwrap_err().to_string();
    assert!(problems.starts_with("gateway.toml:2: memory.memory_max_bytes = 10000000: "), "{problems}");
    assert!(
        problems.contains("tables ")
            && problems.contains("receive buffers ")
            && problems.contains("on one worker needs")
    );
    let total = plan("", BackendKind::Epoll).unwrap().memory;
    assert_eq!(total.total(), total.entries.iter().map(|entry| entry.bytes).sum::<u64>());
}

#[test]
fn the_kernels_part_of_connections_is_foretold() {
    let config = load(&from_file("[memory]\nmemory_max_bytes = 200_000_000")).unwrap();
    let plan = Plan::new(&config, &small_system(), BackendKind::Epoll, Reserves::NONE).unwrap();
    let room = (180_000_000 - plan.memory.total()) / 4096;
    assert_eq!(plan.kernel_memory_warning(&config, &small_system()).is_some(), room < 10_000);
    let tight = format!("[memory]\nmemory_max_bytes = {}", plan.memory.total() + 10_000_000);
    let config = load(&from_file(&tight)).unwrap();
    let warning = plan.kernel_memory_warning(&config, &small_system()).unwrap();
    assert!(
        warning.contains("(memory.memory_max_bytes) hold about ") && warning.contains(" of 10 000 "),
        "{warning}"
    );
}

#[test]
fn tables_too_small_for_what_is_guaranteed_are_warned_of_with_what_is_enough() {
    let tables = |text: &str| {
        let config =
            load(&from_file(&format!("[io]\nworkers = 3\n[limits]\nconnections_max = 6000\n{text}")))
                .unwrap();
        let plan = Plan::new(&config, &small_system(), BackendKind::Epoll, Reserves::NONE).unwrap();
        plan.table_warnings(&config)
    };
    assert_eq!(tables(""), [""; 0], "the tables that the gateway sizes itself are large enough");
    for key in ["rooms_per_worker_max", "memberships_per_worker_max", "text_bytes_per_worker_max"] {
        let warnings = tables(&format!("{key} = 1000"));
        assert!(warnings.len() == 1 && warnings[0].contains(key), "{key}: {warnings:?}");
        let (_, least) = warnings[0].split_once("write ").unwrap();
        let least: usize = least.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(tables(&format!("{key} = {least}")), [""; 0], "what is advised is enough");
        assert_eq!(tables(&format!("{key} = {}", least * 99 / 100)).len(), 1, "and hardly more than that");
    }
}

#[test]
fn memory_thresholds_come_in_their_order() {
    let text = "[memory]\nrefuse_at_percent = 80\nshed_at_percent = 70\nclose_at_percent = 60";
    let problems = load(&from_file(text)).unwrap_err().to_string();
    assert!(
        problems.contains("gateway.toml:3: memory.shed_at_percent = 70: expected at least"),
        "{problems}"
    );
    assert!(
        problems.contains("gateway.toml:4: memory.close_at_percent = 60: expected at least"),
        "{problems}"
    );
}

#[test]
fn advice_about_memory_can_be_followed() {
    let file = |memory: u64, more: &str| format!("[memory]\nmemory_max_bytes = {memory}\n{more}");
    let number = |problems: &Problems, behind: &str| -> Option<usize> {
        let text = problems.to_string();
        let digits: String = text.split_once(behind)?.1.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    for (memory, connections) in
        [(52 << 20, 15_000), (53 << 20, 18_000), (100 << 20, 500_000), (700 << 20, 1_000_000)]
    {
        let wanted = format!("[limits]\nconnections_max = {connections}\n");
        let problems = plan(&file(memory, &wanted), BackendKind::IoUring).unwrap_err();
        let advised =
            number(&problems, "write limits.connections_max = ").unwrap_or_else(|| panic!("{problems}"));
        let wanted = format!("[limits]\nconnections_max = {advised}\n");
        let found = plan(&file(memory, &wanted), BackendKind::IoUring)
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert!(
            found.memory.total() <= memory && found.memory.total() > memory / 2,
            "{advised}: {}",
            found.memory
        );
    }
    // So many workers that not even one connection fits: first fewer of those.
    let problems = plan(&file(60 << 20, "[io]\nworkers = 40\n"), BackendKind::IoUring).unwrap_err();
    let workers = number(&problems, "write io.workers = ").unwrap_or_else(|| panic!("{problems}"));
    let wanted = format!("[io]\nworkers = {workers}\n[limits]\nconnections_max = 1\n");
    plan(&file(60 << 20, &wanted), BackendKind::IoUring).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn changes_say_whether_a_reload_applies_them() {
    let before = load(&from_file("")).unwrap();
    let after =
        load(&from_file("[log]\nlevel = \"debug\"\n[io]\nworkers = 9\n[session]\nidle_timeout_ms = 300_000"))
            .unwrap();
    let changes: BTreeMap<_, _> = before.source.values.changes(&after.source.values).into_iter().collect();
    let expected = [("io.workers", false), ("log.level", true), ("session.idle_timeout_ms", true)];
    assert_eq!(changes, expected.into_iter().map(|(path, reload)| (path.to_owned(), reload)).collect());
}

#[test]
fn numbers_are_grouped_and_sizes_have_units() {
    assert_eq!((grouped(0), grouped(1_040_000)), ("0".into(), "1 040 000".into()));
    assert_eq!((bytes_text(512), bytes_text(3 << 30)), ("0.5 KiB".into(), "3.0 GiB".into()));
}

#[test]
fn workers_beyond_the_cores_share_threads_where_that_is_of_use() {
    let threads = |text: &str, backend| {
        let plan = plan(text, backend).unwrap();
        (plan.workers, plan.threads, plan.room_text().contains(" on "))
    };
    let million = "[limits]\nconnections_max = 1000000\n";
    assert_eq!(threads("", BackendKind::IoUring), (2, 2, false));
    let (workers, shared, said) = threads(million, BackendKind::IoUring);
    assert!(workers > 50 && shared == 2 && said, "{workers} workers on {shared} threads");
    let with = |threads: usize| format!("[io]\nworkers = 5\nthreads = {threads}\n");
    assert_eq!(threads(&with(0), BackendKind::IoUring), (5, 2, true));
    assert_eq!(threads(&with(1), BackendKind::IoUring), (5, 1, true));
    assert_eq!(threads(&with(9), BackendKind::IoUring), (5, 5, false));
    assert_eq!(threads(&with(1), BackendKind::Epoll), (5, 5, false));
    let one = plan(&with(1), BackendKind::IoUring).unwrap();
    assert!(one.room_text().contains(": 5 workers on 1 thread × "), "{}", one.room_text());
}

#[test]
fn a_reload_is_judged_by_what_would_be_in_force() {
    let key = "[control]\naddress = \"0.0.0.0:3111\"\napi_key_file = \"/key\"\n";
    let read = |file: &str| match file {
        "/key" => Ok(b"s3cret\n".to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let load = |text: &str| Config::load(&from_file(text), &read).unwrap();
    let old = load(key);
    let problems = |new: &str| old.reloaded(&load(new), &read).map(|_| ()).unwrap_err().to_string();
    // Good by itself, for it listens on loopback; but the address stays the old one.
    let without = problems("[control]\naddress = \"127.0.0.1:3111\"\n");
    assert!(
        without.contains("control.address = \"0.0.0.0:3111\"")
            && without.contains("would be open to the network"),
        "{without}"
    );
    let emptied = problems("");
    assert!(emptied.starts_with("gateway.toml: has no keys any more"), "{emptied}");
    assert_eq!(emptied.lines().count(), 1, "all else follows from it: {emptied}");
    let bounded = load(&format!("{key}[session]\nidle_timeout_ms = 300000\n"));
    assert_eq!(
        bounded.reloaded(&load(key), &read).map(|_| ()).unwrap_err().to_string(),
        "session.idle_timeout_ms: is left out, and 300000 is in force; write the value that is meant, also if it is the default, 540000"
    );
    // The mode of authentication stays too, and the keys with it.
    let new = load(&format!("{key}[auth]\nmode = \"jwt\"\nsecret = \"{}\"\n", "x".repeat(32)));
    let merged = old.reloaded(&new, &read).unwrap();
    assert!(merged.auth.is_none() && merged.source.values.text("auth.secret").is_empty());
    let merged = old.reloaded(&load(&format!("{key}[session]\nidle_timeout_ms = 300000\n")), &read).unwrap();
    assert_eq!(merged.reloadable.idle_timeout.as_secs(), 300);
}

#[test]
fn names_that_could_never_match_are_refused() {
    for (section, key, bad, good) in [
        ("[control]", "hosts", "[\"http://gateway.internal\"]", "[\"gateway.internal\", \"[::1]:3111\"]"),
        (
            "[[listener]]\nname = \"ws\"\nkind = \"websocket\"\naddress = \"127.0.0.1:0\"",
            "protocols",
            "[\"goim v1\"]",
            "[\"goim.v1\"]",
        ),
    ] {
        let problems = load(&from_file(&format!("{section}\n{key} = {bad}\n"))).unwrap_err().to_string();
        assert!(problems.contains(key) && problems.contains("expected names"), "{problems}");
        load(&from_file(&format!("{section}\n{key} = {good}\n")))
            .unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn each_kind_of_listener_is_shown_by_the_word_that_it_is_written_with() {
    let key = schema::LISTENER_KEYS.iter().find(|key| key.path == "kind").unwrap();
    let value::Kind::Choice(kinds) = key.kind else { panic!("a choice") };
    for kind in kinds {
        let text = format!("[[listener]]\nname = \"one\"\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\n");
        let config = load(&from_file(&text)).unwrap();
        assert_eq!(config.listeners[0].kind(), *kind);
    }
}
