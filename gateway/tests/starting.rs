//! The program as an operator starts it: what it says before, at the start, and of what it finds.

mod common;

use common::program::{Folder, Running, check, gateway, refused};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_line_that_says_what_is_served_has_the_real_ports() {
    for format in ["text", "json"] {
        let running = Running::start(&[&format!("log.format={format}")]);
        for what in ["tcp on ", "websocket on "] {
            let address = running.address(what);
            assert!(!address.ends_with(":0"), "{}", running.serving);
            TcpStream::connect(&address).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
        let control = if format == "json" { r#""control":""# } else { "control=" };
        let mut stream = TcpStream::connect(running.address(control)).unwrap();
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Name, nice value and scheduling policy of the threads that move messages (proc_pid_stat(5),
/// fields 2, 19 and 41), sorted.
fn scheduling(running: &Running) -> Vec<(String, i32, u32)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap();
    // One that has ended since has no such file.
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let of = |stat: String| {
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        let name = name.split_once('(').unwrap().1.to_owned();
        let field = |number: usize| rest.split(' ').nth(number - 3).unwrap();
        let moves = name.starts_with("worker-") || name == "control";
        moves.then(|| (name, field(19).parse().unwrap(), field(41).parse().unwrap()))
    };
    let mut all: Vec<_> = stats.filter_map(of).collect();
    all.sort();
    all
}

#[test]
fn threads_are_scheduled_as_was_asked_for() {
    // SCHED_OTHER and SCHED_BATCH, sched(7).
    for (name, policy, nice) in [("normal", 0, None), ("batch", 3, Some(3))] {
        let sets = [format!("io.scheduling={name}"), "io.workers=2".into()];
        let nicer = nice.map(|by| format!("io.helper_nice={by}"));
        let sets: Vec<&str> = sets.iter().chain(&nicer).map(String::as_str).collect();
        let running = Running::start(&sets);
        let own = rustix::process::getpriority_process(None).unwrap();
        let of_control = (own + nice.unwrap_or(10)).min(19);
        let wanted = [("control", of_control), ("worker-0", own), ("worker-1", own)]
            .map(|(name, nice)| (name.to_owned(), nice, policy));
        let since = Instant::now();
        // A thread gives itself its policy.
        while scheduling(&running) != wanted {
            assert!(since.elapsed() < Duration::from_secs(60), "{name}: {:?}", scheduling(&running));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn without_a_file_only_this_machine_is_served() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_gateway")).arg("config").env_clear().output().unwrap().stdout;
    let text = String::from_utf8(output).unwrap();
    let addresses: Vec<&str> = text.lines().filter(|line| line.starts_with("address =")).collect();
    assert_eq!(addresses.len(), 3, "{text}");
    assert!(addresses.iter().all(|line| line.contains("\"127.0.0.1:")), "{addresses:?}");
}

#[test]
fn what_a_start_would_fail_on_fails_the_check() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let set = format!("listener.tcp.address={address}");
    let said = refused(&[&set]);
    let process = format!("by process {}", std::process::id());
    assert!(said.contains(&format!("listener.tcp.address = \"{address}\" is in use {process}")), "{said}");
    assert!(said.contains("can't start here: 1 problem\n"), "{said}");
    let both = refused(&[&set, &format!("control.address={address}").replace("127.0.0.1", "127.0.0.2")]);
    assert!(!both.contains("control.address ="), "another address has a port of its own: {both}");
    let said = refused(&[&format!("control.address={address}")]);
    assert!(said.contains(&format!("control.address = \"{address}\" is in use {process}")), "{said}");
    assert!(refused(&["listener.tcp.address=192.0.2.1:3100"]).contains("no address of this machine"));
    let said = refused(&["control.cpu=1000"]);
    assert!(said.contains("control.cpu = 1000: this process may not run there"), "{said}");
    assert!(!check(&[]).contains("in use"));
    let offline = gateway("check", &["listener.tcp.address=192.0.2.1:3100", "control.cpu=1000"])
        .arg("--offline")
        .output()
        .unwrap();
    assert!(offline.status.success());
    assert!(String::from_utf8(offline.stdout).unwrap().contains("were not looked at"));
}

/// Without the right to ports below 1024, as a service's user is: in a network namespace of its
/// own, whose `net.ipv4.ip_unprivileged_port_start` is the kernel's default.
fn without_privileges(order: &str, set: &str) -> std::process::Output {
    let drop = ["--net", "--", "setpriv", "--bounding-set", "-net_bind_service", "--"];
    let plain = gateway(order, &[set]);
    let mut command = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(drop).arg(plain.get_program()).args(plain.get_args()).env_clear();
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").output().unwrap()
}

#[test]
fn a_privileged_port_is_refused_with_what_to_do() {
    let set = "listener.tcp.address=0.0.0.0:80";
    for order in ["check", "run"] {
        let output = without_privileges(order, set);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{order}: {said}");
        let problem = "listener.tcp.address = \"0.0.0.0:80\": this user may not listen on port 80; write one above 1023, or grant \
                       CAP_NET_BIND_SERVICE";
        assert!(said.contains(problem), "{order}: {said}");
    }
}

#[test]
fn a_journal_that_cannot_be_written_is_refused_by_check_and_start_alike() {
    let folder = Folder::new("preflight");
    let sets = |path: &str| ["journal.enabled=true".to_owned(), format!("journal.directory={path}")];
    let with = |path: &str| check(&sets(path).each_ref().map(String::as_str));
    let without = |path: &str| {
        let sets = sets(path);
        let said = refused(&sets.each_ref().map(String::as_str));
        let run = gateway("run", &sets.each_ref().map(String::as_str)).output().unwrap();
        assert_eq!(run.status.code(), Some(1));
        let problem = said.lines().find(|line| line.starts_with("journal.directory")).unwrap().to_owned();
        assert!(String::from_utf8(run.stderr).unwrap().contains(&problem), "{said}");
        said
    };
    let there = folder.0.display().to_string();
    assert!(!with(&there).contains("journal.directory"));
    let said = with(&format!("{there}/not/there"));
    assert!(said.contains("does not exist; the start makes it"), "{said}");
    assert!(!folder.0.join("not").exists(), "a check changes nothing");
    fs::write(folder.0.join("file"), "").unwrap();
    assert!(without(&format!("{there}/file")).contains("is no folder"));
    let said = without(&format!("{there}/file/journal"));
    assert!(said.contains("can't make it in") && said.contains("install -d -o USER"), "{said}");
}

#[test]
fn what_is_rarely_meant_is_a_warning() {
    let folder = Folder::new("dubious");
    let key = folder.0.join("api_key");
    fs::write(&key, "k").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
    let api_key = format!("control.api_key_file={}", key.display());
    let said = check(&[
        "listener.tcp.address=0.0.0.0:0",
        "listener.tcp.path=/sub2",
        "listener.websocket.address=0.0.0.0:0",
        "io.backend=epoll",
        "io.threads=2",
        "session.device_policy=per-platform",
        "session.devices_per_user_max=3",
        "journal.directory=/tmp/audit",
        &api_key,
    ]);
    for part in [
        "listener.tcp on 0.0.0.0:0 takes clients of other machines, and with auth.mode = \"none\"",
        "listener.tcp.path does nothing on a tcp listener",
        "listener.websocket.origins is empty: pages of any web site may connect",
        "listener.websocket.demo_page = true on 0.0.0.0:0",
        "io.threads does nothing with io.backend = \"epoll\"",
        "session.devices_per_user_max does nothing with session.device_policy = \"per-platform\"",
        "journal.directory does nothing with journal.enabled = false",
        "control.api_key has 1 byte and can be guessed",
        "api_key\" may be written by every user",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let page = gateway("check", &["listener.tcp.demo_page=true"]).output().unwrap();
    assert_eq!(page.status.code(), Some(2), "a tcp listener can't serve a page");
    let quiet = check(&[]);
    assert!(!quiet.contains("does nothing") && !quiet.contains("other machines"), "{quiet}");
}

/// A port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn of_two_that_start_at_once_with_the_same_ports_one_serves() {
    for _ in 0..5 {
        let address = format!("listener.tcp.address=127.0.0.1:{}", free_port());
        let mut pair = [(); 2].map(|()| gateway("run", &[&address, "log.level=info"]).spawn().unwrap());
        // The one that fails ends; the other serves until it is told to end.
        let deadline = Instant::now() + Duration::from_secs(60);
        let first = loop {
            let ended = pair.iter_mut().map(|one| one.try_wait().unwrap()).position(|ended| ended.is_some());
            if let Some(index) = ended {
                break index;
            }
            assert!(Instant::now() < deadline, "both run");
            std::thread::sleep(Duration::from_millis(20));
        };
        let [one, other] = pair;
        let (lost, mut won) = if first == 0 { (one, other) } else { (other, one) };
        let lost = lost.wait_with_output().unwrap();
        let said = String::from_utf8(lost.stderr).unwrap();
        assert_eq!(lost.status.code(), Some(1), "{said}");
        assert!(said.contains("is in use by process"), "{said}");
        assert!(won.try_wait().unwrap().is_none(), "nobody serves");
        let stop = Command::new("kill").arg(won.id().to_string()).status().unwrap();
        assert!(stop.success());
        let won = won.wait_with_output().unwrap();
        assert!(won.status.success(), "{}", String::from_utf8(won.stderr).unwrap());
    }
}

#[test]
fn after_a_kill_with_connections_the_next_start_waits_for_its_ports() {
    let (tcp, control) = (free_port(), free_port());
    let sets = [
        format!("listener.tcp.address=127.0.0.1:{tcp}"),
        format!("control.address=127.0.0.1:{control}"),
        "limits.connections_max=2000".into(),
    ];
    let sets = sets.each_ref().map(String::as_str);
    let mut first = Running::start(&sets);
    let clients: Vec<TcpStream> =
        (0..1500).map(|_| TcpStream::connect(("127.0.0.1", tcp)).unwrap()).collect();
    first.child.kill().unwrap();
    let second = Running::start(&sets);
    assert!(second.serving.contains(&format!("tcp on 127.0.0.1:{tcp}")), "{}", second.serving);
    TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    drop(clients);
}

/// A client that has logged in.
fn login(address: &str, mid: u32) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&frame(7, 1, format!("{{\"mid\":{mid}}}").as_bytes())).unwrap();
    assert_eq!(next(&mut client).0, 8);
    client
}

#[test]
fn a_successor_starts_while_its_predecessor_drains() {
    let tcp = format!("127.0.0.1:{}", free_port());
    let set = format!("listener.tcp.address={tcp}");
    let mut old = Running::start(&[&set, "drain.drain_ms=1200000"]);
    // One after another they are sent away, the last of so many minutes later.
    let clients: Vec<TcpStream> = (1..=50).map(|mid| login(&tcp, mid)).collect();
    assert!(Command::new("kill").arg(old.child.id().to_string()).status().unwrap().success());
    let successor = Running::start(&[&set]);
    login(&tcp, 51);
    assert!(old.child.try_wait().unwrap().is_none(), "{}", successor.said);
    drop(clients);
}

/// `order` with 64 KiB of locked memory, which no two rings fit in; also where tests may lock what
/// they like.
fn with_little_locked_memory(order: &Command) -> Command {
    let mut limited = Command::new("prlimit");
    limited.args(["--memlock=65536", "--"]);
    if rustix::process::geteuid().is_root() {
        limited.args(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "--"]);
    }
    limited.arg(order.get_program()).args(order.get_args());
    // Of the tests' own surroundings only what finds the programs.
    limited.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    limited
}

#[test]
fn locked_memory_that_is_short_is_named_alike_by_a_check_and_a_start() {
    let sets = ["io.backend=io_uring", "io.workers=64"];
    let said = |word: &str, sets: &[&str]| {
        let output = with_little_locked_memory(&gateway(word, sets)).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let reason = |said: &str| {
        let from = said.find("locked memory is short").unwrap_or_else(|| panic!("no reason: {said}"));
        let line = said[from..].lines().next().unwrap();
        line.trim_end_matches("; or write \"auto\", which falls back to epoll").to_owned()
    };
    let (checked, started) = (said("check", &sets), said("run", &sets));
    assert!(checked.0 != Some(0) && started.0 != Some(0), "{checked:?} {started:?}");
    let advice = reason(&checked.1);
    assert_eq!(advice, reason(&started.1));
    assert!(
        advice.contains("RLIMIT_MEMLOCK is 64.0 KiB") && advice.contains("LimitMEMLOCK=infinity"),
        "{advice}"
    );
    // Where the backend is not written, epoll is taken, and the screen says why.
    let running = Running::of(&mut with_little_locked_memory(&gateway("run", &["io.workers=64"])));
    assert!(
        running.said.contains("epoll (io_uring can't be used: locked memory is short"),
        "{}",
        running.said
    );
}

#[test]
fn a_limit_of_the_process_on_memory_is_named_alike_by_a_check_and_a_start() {
    for (flag, name) in [("--data=30000000", "RLIMIT_DATA"), ("--as=60000000", "RLIMIT_AS")] {
        for order in ["check", "run"] {
            let plain = gateway(order, &["limits.connections_max=2000"]);
            let mut bounded = Command::new("prlimit");
            bounded.arg(flag).arg(plain.get_program()).args(plain.get_args());
            let output = bounded.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{order}: {said}");
            assert!(said.contains(&format!("would be reserved, but {name} leaves ")), "{order}: {said}");
        }
    }
}

#[test]
fn systemd_is_told_of_the_services_life() {
    let folder = Folder::new("notify");
    let path = folder.0.join("socket");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut bytes = [0; 256];
            let size = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            if String::from_utf8_lossy(&bytes[..size]).starts_with(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted}");
        }
    };
    let mut order = gateway("run", &[]);
    order.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let running = Running::of(&mut order);
    heard("READY=1\nSTATUS=serving");
    heard("WATCHDOG=1");
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &running.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    signal("-HUP");
    heard("RELOADING=1\nMONOTONIC_USEC=");
    heard("READY=1");
    signal("-TERM");
    heard("STOPPING=1");
}

/// A gateway whose stderr is a file, and the line of it that has `wanted`, once it is there.
fn with_log(folder: &Folder, order: &mut Command) -> (std::process::Child, impl Fn(&str) -> String + use<>) {
    let path = folder.0.join("stderr");
    let file = fs::File::create(&path).unwrap();
    let stream = file.metadata().map(|file| format!("{}:{}", file.dev(), file.ino())).unwrap();
    let child = order.env("JOURNAL_STREAM", stream).stderr(file).spawn().unwrap();
    let line = move |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let said = fs::read_to_string(&path).unwrap();
            if let Some(line) = said.lines().find(|line| line.contains(wanted)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{wanted}\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    (child, line)
}

#[test]
fn lines_for_the_journal_begin_with_their_priority_and_debug_says_who_comes_and_goes() {
    let folder = Folder::new("journal-stream");
    let mut order = gateway("run", &["log.level=debug"]);
    let (mut child, line) = with_log(&folder, &mut order);
    let serving = line("serving ");
    assert!(serving.starts_with("<6>"), "{serving}");
    let address = serving.split("tcp on ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let client = login(&address, 41);
    assert!(line("Connected").starts_with("<7>") && line("Connected").contains("41"));
    drop(client);
    line("Disconnected(");
    let mut proxy = TcpStream::connect(&address).unwrap();
    proxy.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
    assert_eq!(next(&mut proxy).0, 111);
    let warned = line("the PROXY protocol is not spoken here");
    assert!(warned.starts_with("<4>"), "{warned}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_line_that_a_crash_left_half_written_is_cut_off_and_said_so() {
    let folder = Folder::new("torn-line");
    let file = folder.0.join("audit-00000001.jsonl");
    let journal = format!("journal.directory={}", folder.0.display());
    let sets = ["journal.enabled=true", &journal];
    let mut first = Running::start(&sets);
    let written = |parts: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.matches('\n').count() >= parts && text.ends_with('\n') {
                return text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    written(1);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut torn = fs::OpenOptions::new().append(true).open(&file).unwrap();
    torn.write_all(b"{\"event\":\"connec").unwrap();
    let mut child = gateway("run", &sets).spawn().unwrap();
    let text = written(2);
    child.kill().unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert_eq!(text.matches("ready").count(), 2, "{text}");
    assert!(!text.contains("connec") && text.lines().all(|line| line.ends_with('}')), "{text}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("half-written")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("bytes=16") && lines[0].contains("audit-00000001.jsonl"), "{said}");
}

/// A goim frame.
fn frame(operation: i32, sequence: i32, body: &[u8]) -> Vec<u8> {
    let size = 16 + body.len() as u32;
    let head = [&size.to_be_bytes()[..], &[0, 16, 0, 1], &operation.to_be_bytes(), &sequence.to_be_bytes()];
    [&head.concat(), body].concat()
}

/// The next frame: its operation and its body.
fn next(stream: &mut TcpStream) -> (i32, Vec<u8>) {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let word = |at: usize| i32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut body = vec![0; word(0) as usize - 16];
    stream.read_exact(&mut body).unwrap();
    (word(8), body)
}

fn http(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let kind = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{request} HTTP/1.1\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_journal_and_the_metrics_tell_ends_alike_and_notices_are_counted() {
    let folder = Folder::new("ends");
    let journal = format!("journal.directory={}", folder.0.display());
    let running = Running::start(&["journal.enabled=true", &journal]);
    let (tcp, control) = (running.address("tcp on "), running.address("control="));
    let login = |mid: u32| {
        let mut stream = TcpStream::connect(&tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&frame(7, 1, format!("{{\"mid\":{mid}}}").as_bytes())).unwrap();
        assert_eq!(next(&mut stream).0, 8);
        stream
    };
    let (mut kicked, leaver) = (login(1), login(2));
    kicked.write_all(&frame(106, 2, b"live://1")).unwrap();
    let (operation, body) = next(&mut kicked);
    assert_eq!((operation, &body[..4]), (107, &404_i32.to_be_bytes()[..]), "not in that room");
    kicked.write_all(&frame(108, 3, b"")).unwrap();
    let (operation, body) = next(&mut kicked);
    assert_eq!((operation, &body[..2]), (112, &501_u16.to_be_bytes()[..]));
    assert!(String::from_utf8_lossy(&body[8..]).contains("later version"));
    assert!(http(&control, "POST /api/v1/kick", "{\"mid\":1}").contains("\"closed\":1"));
    assert_eq!(next(&mut kicked).0, 111);
    drop((kicked, leaver));
    let wanted = [
        "gateway_send_frames_total{class=\"notice\"} 2\n",
        "gateway_connection_ends_total{by=\"server\",reason=\"kicked\"} 1\n",
        "gateway_connection_ends_total{by=\"transport\",reason=\"peer_closed\"} 1\n",
        "gateway_request_errors_total 2\n",
    ];
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (metrics, lines) = (
            http(&control, "GET /metrics", ""),
            fs::read_to_string(folder.0.join("audit-00000001.jsonl")).unwrap(),
        );
        let has = |event: &str, parts: &[&str]| {
            lines.lines().any(|line| line.contains(event) && parts.iter().all(|part| line.contains(part)))
        };
        if wanted.iter().all(|line| metrics.contains(line))
            && has("\"kicked\"", &["\"by\":\"server\"", "\"reason\":\"kicked\"", "\"code\":3503"])
            && has(
                "\"disconnected\"",
                &["\"by\":\"transport\"", "\"reason\":\"peer_closed\"", "\"code\":null"],
            )
        {
            return;
        }
        assert!(Instant::now() < deadline, "{lines}\n{metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
