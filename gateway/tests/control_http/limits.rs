use super::fake::Gateway;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
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
    assert!(start.elapsed() < Duration::from_secs(5));
    for stream in slow {
        rest(stream);
    }
    let idle = connect(&gateway);
    assert!(rest(idle).is_empty(), "an idle connection is closed");
}

#[test]
fn a_slow_body_ends_with_a_timeout() {
    let gateway = Gateway::start("request_timeout_ms = 300\n");
    let mut stream = connect(&gateway);
    stream
        .write_all(b"POST /goim/push/all?operation=1000 HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx")
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn requests_over_the_limit_are_refused_but_probes_pass() {
    let gateway = Gateway::start("requests_max = 1\n");
    let mut stream = connect(&gateway);
    stream.write_all(b"POST /api/v1/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{").unwrap();
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
        b"GET /%ff%00?%zz=%f HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /api/v1/rooms/%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /goim/online/room?type=%&rooms=%f%ff& HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /api/v1/kick HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/kick HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
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
