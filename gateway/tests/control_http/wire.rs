//! HTTP/1.1 byte by byte: what a request must be answered, by clause, over raw sockets.

use super::fake::{Behaviour, Gateway};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// One answer, as it came.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// The next answer on a connection; `None` when it has ended.
fn answer(stream: &mut TcpStream) -> Option<Answer> {
    read_answer(stream, true)
}

fn read_answer(stream: &mut TcpStream, has_body: bool) -> Option<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let size = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let size = size.filter(|_| has_body);
    let mut body = vec![0; size.map_or(0, |size| size.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some(Answer { status, head, body: String::from_utf8(body).unwrap() })
}

/// The first answer to `bytes`, sent at once.
fn ask(gateway: &Gateway, bytes: &[u8]) -> Answer {
    let mut stream = connect(gateway);
    // A server that refuses may end before everything is sent.
    let _ = stream.write_all(bytes);
    answer(&mut stream).unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(bytes)))
}

const HOST: &str = "Host: localhost\r\n";

fn push(body: &str) -> String {
    let size = body.len();
    format!("POST /goim/push/all?operation=1000 HTTP/1.1\r\n{HOST}Content-Length: {size}\r\n\r\n{body}")
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse::<f64>().unwrap() as u64
}

// RFC 9112 §2.2: empty lines before a request line are ignored. What follows a request keeps back
// no answer.
#[test]
fn an_answer_comes_at_once_whatever_follows_its_request() {
    // What an answer must not wait for takes ten minutes.
    let gateway = Gateway::start("header_timeout_ms = 600000\nbody_timeout_ms = 600000\n");
    let start = Instant::now();
    assert_eq!(ask(&gateway, b"GET /readyz HTTP/1.0\r\n\r\n\n").status, 200);
    for following in ["\r\n", "\r", "POST /goim", "GET /x HTTP/1.1\r\nHost: local"] {
        let answer = ask(&gateway, format!("{}{following}", push("x")).as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"code\":0,\"message\":\"\"}\n"));
    }
    // Half a body that follows is no reason, either.
    let half = push("hello").replace("hello", "he");
    assert_eq!(ask(&gateway, format!("{}{half}", push("x")).as_bytes()).status, 200);
    assert_eq!(ask(&gateway, format!("\r\n\n\r\n{}", push("x")).as_bytes()).status, 200);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    gateway.until(|gateway| gateway.saw("all@0 1000 broadcast") >= 12);
    assert_eq!(gateway.saw("all@0 1000 broadcast"), 12, "each push once, on two workers");
}

#[test]
fn bad_heads_are_answered_and_counted() {
    let gateway = Gateway::start("");
    let many = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "a: b\r\n".repeat(64));
    let large = format!("GET / HTTP/1.1\r\n{HOST}x: {}\r\n\r\n", "a".repeat(20 << 10));
    let long = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(500 << 10));
    let cases: Vec<(&str, u16, &str)> = vec![
        ("garbage\r\n\r\n", 400, "not_http"),
        ("\x16\x03\x01\x02\0\x01", 400, "tls"),
        ("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 400, "proxy_protocol"),
        ("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 400, "proxy_protocol"),
        (&many, 431, "too_many_fields"),
        (&large, 431, "fields_too_large"),
        (&long, 414, "line_too_long"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "framing"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer_coding"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "framing",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"),
        ("GET / HTTP/9.9\r\n\r\n", 505, "version"),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400, "host"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host"),
        ("GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host"),
        ("GET /api/v1/rooms/a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "percent_escape"),
        ("GET /api/v1/rooms/a%4?b=c HTTP/1.1\r\nHost: a\r\n\r\n", 400, "percent_escape"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "method"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417, "expectation"),
    ];
    for (text, status, reason) in cases {
        let shown = &text[..text.len().min(60)];
        let before = metric(&gateway, &format!("gateway_http_bad_requests_total{{reason=\"{reason}\"}}"));
        let answer = ask(&gateway, text.as_bytes());
        assert_eq!(answer.status, status, "{shown:?}");
        assert!(answer.head.contains("\r\nConnection: close\r\n"), "{shown:?}: {}", answer.head);
        assert!(answer.body.contains(&format!("\"code\":\"{reason}\"")), "{shown:?}: {}", answer.body);
        let after = metric(&gateway, &format!("gateway_http_bad_requests_total{{reason=\"{reason}\"}}"));
        assert_eq!(after, before + 1, "{shown:?}");
    }
}

// RFC 9112 §9.6: the last answer can be read although the request was not.
#[test]
fn a_refused_body_that_is_still_being_sent_does_not_cost_the_answer() {
    let gateway = Gateway::start("");
    let size = 8 << 20;
    let head = format!(
        "POST /api/v1/publish HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    );
    let mut stream = connect(&gateway);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; size]).unwrap();
    let answer = answer(&mut stream).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.body);
}

#[test]
fn a_thousand_names_reach_their_users_in_the_query_and_in_a_form() {
    let gateway = Gateway::start("");
    let names: Vec<String> = (0..1000).map(|index| format!("{index:03}{}", "д".repeat(62))).collect();
    let encode = |name: &String| name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let query: String = names.iter().map(|name| format!("&keys={}", encode(name))).collect();
    assert_eq!(names[0].len(), 127);
    let text = format!(
        "POST /goim/push/keys?operation=1000{query} HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello"
    );
    let answer = ask(&gateway, text.as_bytes());
    assert_eq!(answer.body, "{\"code\":0,\"message\":\"\"}\n");
    gateway.until(|gateway| gateway.saw("name 1000 user") == 1000);

    let form = format!("operation=1001&message=hello+you%21{query}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = gateway.call("POST", "/goim/push/keys", &kind, form.as_bytes());
    assert_eq!(answer.text, "{\"code\":0,\"message\":\"\"}\n");
    gateway.until(|gateway| gateway.saw("name 1001 user") == 1000);
    assert!(gateway.pushes.lock().unwrap().last().unwrap().for_tcp().ends_with(b"hello you!"));
    // As curl sends any body: the message, not a form, where a query brings the parameters.
    gateway.call("POST", "/goim/push/all?operation=1002", &kind, b"message=x");
    gateway.until(|gateway| gateway.saw("all@0 1002 broadcast") == 2);
    assert!(gateway.pushes.lock().unwrap().last().unwrap().for_tcp().ends_with(b"message=x"));
    let missing = gateway.call("POST", "/goim/push/all", &kind, b"operation=1000").json();
    assert!(missing["message"].as_str().unwrap().contains("message is missing"), "{missing}");
}

// RFC 9112 §3.2.2: a server MUST accept a target in absolute form, and takes the host from it.
#[test]
fn absolute_targets_http_1_0_and_options_are_served() {
    let gateway = Gateway::start("");
    let absolute = "GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(&gateway, absolute.as_bytes()).body, "ok\n");
    let old = ask(&gateway, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.head.contains("\r\nConnection: close\r\n") && old.body == "ok\n");
    let kept = ask(&gateway, b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(kept.head.contains("\r\nConnection: keep-alive\r\n"), "{}", kept.head);
    for target in ["/", "/healthz", "/readyz", "*"] {
        let answer = ask(&gateway, format!("OPTIONS {target} HTTP/1.0\r\n\r\n").as_bytes());
        assert_eq!(answer.status, 200, "OPTIONS {target}");
    }
    let mut stream = connect(&gateway);
    write!(stream, "HEAD /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n").unwrap();
    let head = read_answer(&mut stream, false).unwrap();
    assert!(read_answer(&mut stream, false).is_none(), "no body");
    assert!(head.head.contains("\r\nContent-Length: 3\r\n"), "{}", head.head);
    let other = ask(&gateway, format!("DELETE /healthz HTTP/1.1\r\n{HOST}\r\n").as_bytes());
    assert!(other.status == 405 && other.head.contains("\r\nAllow: "), "{}", other.head);
}

#[test]
fn chunked_bodies_and_expectations_are_understood() {
    let gateway = Gateway::start("");
    let chunked = format!(
        "POST /goim/push/all?operation=1000 HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
    );
    assert_eq!(ask(&gateway, chunked.as_bytes()).status, 200);
    gateway.until(|gateway| gateway.saw("all@0 1000 broadcast") == 2);
    assert!(gateway.pushes.lock().unwrap().last().unwrap().for_tcp().ends_with(b"hello"));
    let mut stream = connect(&gateway);
    let expects = push("hello").replace("\r\n\r\nhello", "\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(expects.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream).unwrap().status, 100);
    stream.write_all(b"hello").unwrap();
    assert_eq!(answer(&mut stream).unwrap().status, 200);
    // RFC 9110 §10.1.1: the final answer instead, when the body is not wanted.
    let large = expects.replace("Content-Length: 5", "Content-Length: 50000000");
    assert_eq!(ask(&gateway, large.as_bytes()).status, 413);
    for (from, to, status) in [("/goim/push/all", "/goim/push/some", 404), ("POST", "DELETE", 405)] {
        let refused = expects.replace(from, to);
        assert_ne!(refused, expects);
        assert_eq!(ask(&gateway, refused.as_bytes()).status, status, "no 100 before it");
    }
}

#[test]
fn the_end_of_a_connection_is_announced() {
    let gateway = Gateway::start("idle_timeout_ms = 1000\nheader_timeout_ms = 60000\n");
    let mut stream = connect(&gateway);
    write!(stream, "GET /healthz HTTP/1.1\r\n{HOST}\r\n").unwrap();
    let kept = answer(&mut stream).unwrap();
    assert!(kept.head.contains("\r\nKeep-Alive: timeout=1\r\n"), "{}", kept.head);
    // A little more than was announced: a request that was sent in time is still answered.
    std::thread::sleep(Duration::from_millis(1500));
    write!(stream, "GET /healthz HTTP/1.1\r\n{HOST}\r\n").unwrap();
    assert_eq!(answer(&mut stream).unwrap().status, 200);
    assert!(answer(&mut stream).is_none(), "ends by itself");
    let default = ask(&Gateway::start(""), format!("GET /healthz HTTP/1.1\r\n{HOST}\r\n").as_bytes());
    assert!(default.head.contains("\r\nKeep-Alive: timeout=75\r\n"), "{}", default.head);
    let last = ask(&gateway, format!("GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n").as_bytes());
    assert!(last.head.contains("\r\nConnection: close\r\n") && !last.head.contains("Keep-Alive"));
}

#[test]
fn a_draining_gateway_says_that_each_answer_is_the_last() {
    let stays = Behaviour { stays: true, ..Behaviour::default() };
    let gateway = Gateway::start_with("[drain]\ndrain_ms = 60000\n", stays);
    let mut stream = connect(&gateway);
    gateway.command(gateway_control::Command::Terminate);
    gateway.until(|gateway| gateway.get("/readyz").status == 503);
    write!(stream, "GET /healthz HTTP/1.1\r\n{HOST}\r\n").unwrap();
    let last = answer(&mut stream).unwrap();
    assert!(last.head.contains("\r\nConnection: close\r\n"), "{}", last.head);
    assert!(answer(&mut stream).is_none());
}

// H12: what is half sent holds nothing that others need.
#[test]
fn half_sent_bodies_take_no_permits() {
    let gateway = Gateway::start("requests_max = 4\nbody_timeout_ms = 60000\n");
    let half = push("0123456789").replace("0123456789", "0");
    let mut held: Vec<TcpStream> = (0..130).map(|_| connect(&gateway)).collect();
    held.iter_mut().for_each(|stream| stream.write_all(half.as_bytes()).unwrap());
    for _ in 0..20 {
        assert_eq!(gateway.post("/goim/push/all?operation=1000", b"x").status, 200);
    }
    held.iter_mut().for_each(|stream| stream.write_all(b"123456789").unwrap());
    assert!(held.iter_mut().all(|stream| answer(stream).unwrap().status == 200));
}

#[test]
fn a_body_that_does_not_come_in_time_is_answered_and_counted() {
    let gateway = Gateway::start("body_timeout_ms = 200\n");
    assert_eq!(ask(&gateway, push("hello").replace("hello", "h").as_bytes()).status, 408);
    let ends = "gateway_http_connection_ends_total{reason=\"body_timeout\"}";
    gateway.until(|gateway| metric(gateway, ends) == 1 && metric(gateway, "gateway_http_connections") <= 1);
    let refused = "gateway_http_connection_ends_total{reason=\"refused\"}";
    assert_eq!(metric(&gateway, refused), 0, "one connection has one end");
    let mut ended = connect(&gateway);
    ended.write_all(push("hello").replace("hello", "h").as_bytes()).unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut ended).unwrap().status, 400);
    // A client that has nothing more to say is still answered.
    let mut half_closed = connect(&gateway);
    half_closed.write_all(push("hello").as_bytes()).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut half_closed).unwrap().status, 200);
}

#[test]
fn json_escapes_and_byte_order_marks_are_taken_and_codings_are_not() {
    let gateway = Gateway::start("");
    let escaped = "\\u0434".repeat(32_768);
    for bom in ["", "\u{feff}"] {
        let body = format!(r#"{bom}{{"target":{{"mid":7}},"operation":1000,"payload":"{escaped}"}}"#);
        let answer = gateway.post("/api/v1/publish", body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    for path in ["/api/v1/publish", "/goim/push/all?operation=1000"] {
        let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
        let answer = gateway.call("POST", path, &gzip, b"\x1f\x8b\x08");
        assert_eq!(answer.error(), (415, "content_encoding".into()), "{path}");
    }
    gateway.until(|gateway| gateway.saw("name 1000 user") == 2);
}

// Cross-site request forgery, and DNS rebinding.
#[test]
fn pages_of_other_origins_are_refused_where_no_key_is_set() {
    let gateway = Gateway::start("hosts = [\"gw.internal\"]\n");
    let ask = |method: &str, path: &str, fields: &str| {
        ask(&gateway, format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes())
    };
    let all = "/goim/push/all?operation=1000";
    for (fields, code) in [
        ("Host: localhost:3111\r\nOrigin: https://evil.example\r\n", "foreign_origin"),
        ("Host: localhost:3111\r\nOrigin: null\r\n", "foreign_origin"),
        ("Host: localhost:3111\r\nOrigin: http://localhost:8080\r\n", "foreign_origin"),
        ("Host: evil.example:3111\r\nOrigin: http://evil.example:3111\r\n", "foreign_host"),
        ("Host: evil.example\r\n", "foreign_host"),
        ("Host: localhost.evil.example\r\n", "foreign_host"),
        ("Host: 10.1.2.3\r\n", "foreign_host"),
        ("Host: \r\n", "foreign_host"),
    ] {
        for (method, path) in [("POST", all), ("GET", "/api/v1/stats"), ("GET", "/metrics")] {
            let answer = ask(method, path, fields);
            assert_eq!(answer.status, 403, "{method} {path} {fields}");
            assert!(answer.body.contains(code) && answer.body.contains("control."), "{}", answer.body);
        }
    }
    assert!(gateway.pushes.lock().unwrap().is_empty());
    for fields in [
        "Host: localhost:3111\r\nOrigin: http://localhost:3111\r\n",
        "Host: LOCALHOST\r\n",
        "Host: dev.localhost:1\r\n",
        "Host: 127.0.0.1\r\n",
        "Host: [::1]:3111\r\n",
        "Host: gw.internal:3111\r\n",
    ] {
        assert_eq!(ask("POST", all, fields).status, 200, "{fields}");
        assert_eq!(ask("GET", "/api/v1/stats", fields).status, 200, "{fields}");
        assert_eq!(ask("GET", "/metrics", fields).status, 200, "{fields}");
    }
    // Probes come by whatever name the address has; so do scrapers, where a key closes the rest.
    assert_eq!(ask("GET", "/readyz", "Host: 10.1.2.3:3111\r\n").status, 200);
    let keyed = Gateway::start("api_key = \"k\"\ngoim_api_key = \"k\"\n");
    let foreign = [("origin", "https://console.example"), ("x-api-key", "k")];
    assert_eq!(keyed.call("POST", all, &foreign, b"x").status, 200, "the key is what counts");
    let scrape = b"GET /metrics HTTP/1.1\r\nHost: gateway-0.gateway:3111\r\nConnection: close\r\n\r\n";
    assert_eq!(super::wire::ask(&keyed, scrape).status, 200, "a scraper has no key");
}

// P4: a connection that is in use is not closed for another.
#[test]
fn more_callers_than_places_lose_no_request() {
    let gateway = Gateway::start("connections_max = 8\n");
    let address = gateway.address();
    let request = push("x");
    let lost: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let mut lost = 0;
                    let mut stream = TcpStream::connect(&address).unwrap();
                    for _ in 0..40 {
                        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                        stream.write_all(request.as_bytes()).unwrap();
                        let Some(answer) = answer(&mut stream) else {
                            lost += 1;
                            stream = TcpStream::connect(&address).unwrap();
                            continue;
                        };
                        assert!([200, 503].contains(&answer.status), "{}", answer.status);
                        if answer.head.contains("Connection: close") {
                            stream = TcpStream::connect(&address).unwrap();
                        }
                    }
                    lost
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert_eq!(lost, 0);
}
