use super::fake::{Behaviour, Gateway};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Everything until the peer ends, or resets.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    all
}

#[test]
fn slow_headers_are_cut_off_and_hurt_nobody() {
    let gateway = Gateway::start("header_timeout_ms = 300\nconnections_max = 8\n");
    let mut slow: Vec<TcpStream> = (0..8).map(|_| connect(&gateway)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-a: ").unwrap();
    }
    let start = Instant::now();
    assert_eq!(gateway.get("/healthz").status, 200, "waits in the backlog until the slow ones are gone");
    assert!(start.elapsed() < Duration::from_secs(60));
    for stream in slow {
        rest(stream);
    }
    let idle = connect(&gateway);
    assert!(rest(idle).is_empty(), "an idle connection is closed");
}

/// What `path` answers to one who asks like a probe; what it must not wait for here takes ten
/// minutes.
fn probe(gateway: &Gateway, path: &str) -> String {
    let mut stream = connect(gateway);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{path}: {error}"));
    answer.lines().next().unwrap_or_default().to_owned()
}

#[track_caller]
fn probes_pass(gateway: &Gateway) {
    let start = Instant::now();
    for path in ["/healthz", "/readyz", "/metrics", "/healthz"] {
        assert_eq!(probe(gateway, path), "HTTP/1.1 200 OK", "{path}");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// Long enough that nobody goes because of it.
const PATIENT: &str = "header_timeout_ms = 600000\nrequest_timeout_ms = 600000\n";

#[test]
fn probes_pass_while_silent_connections_hold_the_port() {
    let gateway = Gateway::start(&format!("{PATIENT}connections_max = 256\n"));
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(&gateway)).collect();
    probes_pass(&gateway);
    let evictions = gateway.get("/metrics").text;
    let evictions = evictions.lines().find_map(|line| line.strip_prefix("gateway_http_evictions_total "));
    // 256 places and 8 spare ones for 300 connections and the probes.
    assert!(evictions.unwrap().parse::<u32>().unwrap() >= 36);
    drop(silent);
}

#[test]
fn probes_pass_while_half_requests_and_idle_connections_hold_the_port() {
    let gateway = Gateway::start(&format!("{PATIENT}connections_max = 16\n"));
    let mut held: Vec<TcpStream> = (0..16).map(|_| connect(&gateway)).collect();
    for (index, stream) in held.iter_mut().enumerate() {
        let whole = index % 2 == 0;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").unwrap();
        if whole {
            stream.write_all(b"\r\n").unwrap();
            stream.read_exact(&mut [0; 15]).unwrap();
        }
    }
    probes_pass(&gateway);
}

#[test]
fn probes_pass_while_nobody_reads_what_they_asked_for() {
    let gateway = Gateway::start(&format!("{PATIENT}connections_max = 16\n"));
    let asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
    let mut held: Vec<TcpStream> = (0..16).map(|_| connect(&gateway)).collect();
    for stream in &mut held {
        // Until neither side takes more.
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let _ = stream.write_all(&asked);
    }
    probes_pass(&gateway);
}

#[test]
fn probes_pass_while_every_connection_is_being_answered() {
    let mute = Behaviour { mute: true, ..Behaviour::default() };
    let gateway = Gateway::start_with(&format!("{PATIENT}connections_max = 4\n"), mute);
    let mut held: Vec<TcpStream> = (0..4).map(|_| connect(&gateway)).collect();
    held.iter_mut().for_each(ask_mute_workers);
    gateway.until(|gateway| probe(gateway, "/api/v1/stats").contains("503"));
    probes_pass(&gateway);
    for stream in &mut held {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 504", "a connection whose request is being handled is not closed");
    }
}

/// A caller with a key has one of the spare places, for one request, whatever holds the others.
#[test]
fn callers_with_a_key_pass_while_every_place_is_held() {
    let mute = Behaviour { mute: true, ..Behaviour::default() };
    let gateway = Gateway::start_with(&format!("{PATIENT}connections_max = 4\napi_key = \"key\"\n"), mute);
    let mut held: Vec<TcpStream> = (0..4).map(|_| connect(&gateway)).collect();
    held.iter_mut().for_each(|stream| ask_mute_workers_with(stream, "x-api-key: key\r\n"));
    let stats = |key: &str| gateway.call("GET", "/api/v1/stats", &[("x-api-key", key)], b"").status;
    gateway.until(|_| stats("wrong") == 503);
    assert_eq!(stats("key"), 200);
}

/// A request whose handling takes two seconds where no worker answers.
fn ask_mute_workers(stream: &mut TcpStream) {
    ask_mute_workers_with(stream, "");
}

fn ask_mute_workers_with(stream: &mut TcpStream, fields: &str) {
    let body = r#"{"target":{"mid":7},"operation":1000,"payload":"x"}"#;
    let size = body.len();
    write!(
        stream,
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{fields}\r\n{body}"
    )
    .unwrap();
}

#[test]
fn a_slow_body_ends_with_a_timeout() {
    let gateway = Gateway::start("body_timeout_ms = 300\n");
    let mut stream = connect(&gateway);
    stream
        .write_all(
            b"POST /goim/push/all?operation=1000 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nx",
        )
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn requests_over_the_limit_are_refused_but_probes_pass() {
    let mute = Behaviour { mute: true, ..Behaviour::default() };
    let gateway = Gateway::start_with("requests_max = 1\n", mute);
    let mut stream = connect(&gateway);
    ask_mute_workers(&mut stream);
    gateway.until(|gateway| gateway.get("/api/v1/stats").status == 503);
    assert_eq!(gateway.get("/api/v1/stats").error(), (503, "busy".into()));
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.get("/metrics").status, 200);
    drop(stream);
    gateway.until(|gateway| gateway.get("/api/v1/stats").status == 200);
}

#[test]
fn garbage_is_answered_or_dropped_and_the_port_lives_on() {
    let gateway = Gateway::start("header_timeout_ms = 300\n");
    let long_header = [&b"GET / HTTP/1.1\r\nx: "[..], &vec![b'a'; 100_000], b"\r\n\r\n"].concat();
    let many_headers = [&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(200), b"\r\n"].concat();
    let inputs: [&[u8]; 12] = [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%ff%00?%zz=%f HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /api/v1/rooms/%ff HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /goim/online/room?type=%&rooms=%f%ff& HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"POST /api/v1/kick HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/kick HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long_header,
        &many_headers,
    ];
    for input in inputs {
        let mut stream = connect(&gateway);
        // The server may have answered and closed before everything is written.
        let _ = stream.write_all(input);
        rest(stream);
        assert_eq!(gateway.get("/healthz").status, 200);
    }
}

#[test]
fn random_bytes_and_random_json_do_no_harm() {
    let gateway = Gateway::start("");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let seed = br#"{"target":{"mid":7,"room":"live://1"},"operation":1000,"payload":"x","code":3000,"connection":"0"}"#;
    for round in 0..300 {
        let mut body = seed.to_vec();
        for _ in 0..random() % 8 {
            let at = (random() % body.len() as u64) as usize;
            body[at] = random() as u8;
        }
        body.truncate((random() % (body.len() as u64 + 1)) as usize);
        let path = ["/api/v1/publish", "/api/v1/kick", "/api/v1/broadcast"][round % 3];
        let status = gateway.post(path, &body).status;
        assert!([200, 400, 404].contains(&status), "{status} for {}", String::from_utf8_lossy(&body));
    }
}
