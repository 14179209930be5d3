//! The control port: pipelines, bad heads, large bodies, walks over everything, and pages of other
//! origins.

use super::answers::{GONE, answers};
use super::{Abuse, Needs, On, abuse};
use crate::client::{Peer, status};
use crate::outcome::Outcome;
use crate::profile::{API_KEY, GOIM_API_KEY};
use crate::target::Target;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "pipelined_metrics_never_read",
        On::Control,
        Needs::Nothing,
        pipelined_metrics_never_read,
        "Sixty connections ask for /metrics six hundred times each at once and never read.",
        (
            "A few hundred KiB of answers each, then they are not read from; memory stays within the plan.",
            answers(&["200"], &[GONE, &["503"]]),
        ),
    ),
    abuse(
        "pipelined_publishes_never_read",
        On::Control,
        Needs::Tokens,
        pipelined_publishes_never_read,
        "Sixty connections of a service publish six hundred times each at once and never read.",
        ("They are not read from; other pushes are answered.", answers(&["200"], &[GONE, &["503"]])),
    ),
    abuse(
        "pipelined_and_gone",
        On::Control,
        Needs::Nothing,
        pipelined_and_gone,
        "Connections ask for /metrics a hundred times at once and are reset.",
        ("What was still to be answered is dropped; memory comes back.", answers(&[], &[])),
    ),
    abuse(
        "walks_never_read",
        On::Control,
        Needs::Tokens,
        walks_never_read,
        "Forty connections ask for pages of all connections and rooms, pipelined, and never read.",
        ("What waits is bounded; health is answered meanwhile.", answers(&["200"], &[GONE, &["503"]])),
    ),
    abuse(
        "bad_http_heads",
        On::Control,
        Needs::Nothing,
        bad_http_heads,
        "Garbage, too many and too long fields, two lengths, unknown codings, other versions, no Host, two Hosts.",
        (
            "400, 414, 431, 501 or 505, then the end; never silence.",
            answers(&["400"], &[&["414", "431", "501", "505", "reset"]]),
        ),
    ),
    abuse(
        "bytes_behind_requests",
        On::Control,
        Needs::Nothing,
        bytes_behind_requests,
        "Requests with an empty line before them, behind them, or the beginning of the next one behind them.",
        ("The answer at once.", answers(&["200"], &[])),
    ),
    abuse(
        "largest_bodies",
        On::Control,
        Needs::Tokens,
        largest_bodies,
        "Sixteen connections publish lists of a megabyte without a pause.",
        (
            "503 beyond what is taken at a time; small pushes of others are answered.",
            answers(&["200", "503"], &[GONE, &["413"]]),
        ),
    ),
    abuse(
        "bodies_beyond_the_limit",
        On::Control,
        Needs::Tokens,
        bodies_beyond_the_limit,
        "Bodies of eight megabytes, announced and sent.",
        ("413; nothing beyond the limit is buffered.", answers(&["413", "reset"], &[])),
    ),
    abuse(
        "odd_json",
        On::Control,
        Needs::Tokens,
        odd_json,
        "Bodies that are no JSON, nest without end, repeat fields, or hold numbers beyond any range.",
        ("400 with what is wrong.", answers(&["400"], &[&["413", "415", "422"]])),
    ),
    abuse(
        "lists_to_users_who_are_away",
        On::Control,
        Needs::Tokens,
        lists_to_users_who_are_away,
        "Four connections publish lists of a thousand messages to users that do not exist, without a pause.",
        ("Answered; pushes of others are answered beside them.", answers(&["200"], &[&["503"]])),
    ),
    abuse(
        "walks_over_everything",
        On::Control,
        Needs::Tokens,
        walks_over_everything,
        "Twenty connections ask for the top rooms, all rooms and all connections without a pause.",
        ("One walk at a time; health is answered meanwhile.", answers(&["200"], &[&["503"]])),
    ),
    abuse(
        "long_paths",
        On::Control,
        Needs::Nothing,
        long_paths,
        "Requests for paths of fifteen kilobytes without a key, without a pause.",
        (
            "401 or 404; the journal grows by a bounded number of short lines.",
            answers(&["401"], &[&["404", "503"]]),
        ),
    ),
    abuse(
        "odd_methods",
        On::Control,
        Needs::Nothing,
        odd_methods,
        "TRACE, CONNECT, DELETE, PRI and methods that do not exist, on each route.",
        ("405, 400 or 501; never silence.", answers(&["405"], &[&["400", "401", "403", "404", "501"]])),
    ),
    abuse(
        "pages_of_other_origins",
        On::Control,
        Needs::Development,
        pages_of_other_origins,
        "Pushes with the Origin of a foreign page, and requests with a foreign Host, to a gateway without keys.",
        ("403: no page that a developer visits may push or read.", answers(&["403"], &[])),
    ),
    abuse(
        "control_connections_come_and_go",
        On::Control,
        Needs::Nothing,
        control_connections_come_and_go,
        "Connections to the control port ask once and are reset, without a pause.",
        ("Requests of others are answered.", answers(&[], &[])),
    ),
];

/// Connections to the control port that write `bytes` over and over.
fn never_read(target: &Target, count: u32, bytes: &[u8]) -> Outcome {
    let peers = target.open_many(count, |_| Ok(Peer::http(target.control()?)));
    peers.iter().for_each(Peer::small_window);
    let flood = target.flood(peers, bytes, false);
    let mut outcome = Outcome::of("KiB of requests").did(flood.bytes_out >> 10);
    outcome.flooded(flood);
    outcome
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn pipelined_metrics_never_read(target: &Target) -> io::Result<Outcome> {
    Ok(never_read(target, 60, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(640).as_bytes()))
}

fn pipelined_publishes_never_read(target: &Target) -> io::Result<Outcome> {
    let body =
        json!({ "target": { "mid": target.new_mid() }, "operation": 1000, "payload": "x" }).to_string();
    Ok(never_read(target, 60, post("/api/v1/publish", &body).repeat(640).as_bytes()))
}

fn pipelined_and_gone(target: &Target) -> io::Result<Outcome> {
    let bytes = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut outcome = Outcome::of("connections");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 3000 {
        let Ok(stream) = target.control() else { continue };
        let mut peer = Peer::tcp(stream);
        let _ = peer.write(bytes.as_bytes());
        if outcome.did.is_multiple_of(2) {
            peer.reset_at_end();
        }
        outcome.add(1);
    }
    Ok(outcome)
}

fn walks_never_read(target: &Target) -> io::Result<Outcome> {
    let bytes = get("/api/v1/connections?limit=1000") + &get("/api/v1/rooms?limit=1000");
    Ok(never_read(target, 40, bytes.repeat(20).as_bytes()))
}

/// Sends each request on a connection of its own, over and over; the answer has to be one of those
/// listed with it.
fn each(target: &Target, requests: &[(String, &[&str])]) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("requests");
    for number in 0..3000 {
        if target.is_over_after(number, requests.len()) {
            break;
        }
        let (request, right) = &requests[number % requests.len()];
        let mut stream = target.control()?;
        let _ = stream.write_all(request.as_bytes());
        let how = status(&mut stream, Duration::from_secs(8));
        let line: String = request.trim_start().lines().next().unwrap_or_default().chars().take(40).collect();
        outcome.expect(
            right.contains(&how.as_str()) || target.excuses(&how),
            format!("request {} ({line}): {how}", number % requests.len()),
        );
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn bad_http_heads(target: &Target) -> io::Result<Outcome> {
    let with = |fields: &str| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let many: String = (0..300).map(|number| format!("X-{number}: a\r\n")).collect();
    let requests: [(String, &[&str]); 10] = [
        ("garbage\r\n\r\n".into(), &["400"]),
        (with(&many), &["431"]),
        (with(&format!("X-Long: {}\r\n", "a".repeat(300_000))), &["431", "reset"]),
        (with("Content-Length: 1\r\nContent-Length: 2\r\n"), &["400"]),
        (with("Transfer-Encoding: gzip\r\n"), &["501", "400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &["505", "400"]),
        ("GET /healthz HTTP/1.1\r\n\r\n".into(), &["400"]),
        (with("Host: other\r\n"), &["400"]),
        (
            format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20)),
            &["414", "431", "reset"],
        ),
        (with("Bad Field: a\r\n"), &["400"]),
    ];
    each(target, &requests)
}

fn bytes_behind_requests(target: &Target) -> io::Result<Outcome> {
    let goim = |behind: &str| {
        format!(
            "POST /goim/push/mids?operation=1000&mids={} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {GOIM_API_KEY}\r\n\
             Content-Length: 5\r\n\r\nhello{behind}",
            target.first_mid()
        )
    };
    let requests: [(String, &[&str]); 5] = [
        ("\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), &["200"]),
        ("GET /healthz HTTP/1.0\r\n\r\n\n".into(), &["200"]),
        (goim("\r\n"), &["200"]),
        (goim("POST /goim/"), &["200"]),
        (goim("\0\0\0"), &["200"]),
    ];
    each(target, &requests)
}

/// `count` connections that write a request over and over and read the answers.
fn without_a_pause(target: &Target, count: u32, request: &str) -> Outcome {
    let peers = target.open_many(count, |_| Ok(Peer::http(target.control()?)));
    let flood = target.flood(peers, request.as_bytes(), true);
    let mut outcome = Outcome::of("KiB of requests").did(flood.bytes_out >> 10);
    outcome.flooded(flood);
    outcome
}

fn largest_bodies(target: &Target) -> io::Result<Outcome> {
    let message =
        json!({ "target": { "mid": target.new_mid() }, "operation": 1000, "payload": "x".repeat(1000) });
    let body = serde_json::Value::from(vec![message; 900]).to_string();
    Ok(without_a_pause(target, 16, &post("/api/v1/publish", &body)))
}

fn bodies_beyond_the_limit(target: &Target) -> io::Result<Outcome> {
    let body = format!("[\"{}\"]", "x".repeat(8 << 20));
    each(target, &[(post("/api/v1/publish", &body), &["413", "reset"])])
}

fn odd_json(target: &Target) -> io::Result<Outcome> {
    let nested = "[".repeat(100_000);
    let bodies = [
        "",
        "null",
        "{",
        "\u{feff}",
        "{\"target\":{\"mid\":1e400},\"operation\":1000,\"payload\":\"\"}",
        "{\"target\":{\"mid\":1,\"uid\":\"a\"},\"operation\":1000,\"payload\":\"\"}",
        "{\"target\":{\"mid\":1},\"operation\":99999999999,\"payload\":\"\"}",
        "{\"target\":[],\"operation\":{},\"payload\":7}",
        &nested,
    ];
    let right: &[&str] = &["400", "413", "415", "422"];
    let requests: Vec<(String, &[&str])> =
        bodies.iter().map(|body| (post("/api/v1/publish", body), right)).collect();
    each(target, &requests)
}

fn lists_to_users_who_are_away(target: &Target) -> io::Result<Outcome> {
    let message = |mid: i64| json!({ "target": { "mid": -mid }, "operation": 1000, "payload": "x" });
    let body = serde_json::Value::from((1..=1000).map(message).collect::<Vec<_>>()).to_string();
    Ok(without_a_pause(target, 4, &post("/api/v1/publish", &body)))
}

fn walks_over_everything(target: &Target) -> io::Result<Outcome> {
    let top = format!(
        "GET /goim/online/top?type=live&limit=1000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {GOIM_API_KEY}\r\n\r\n"
    );
    let walks = top
        + &get("/api/v1/rooms?limit=1000")
        + &get("/api/v1/connections?limit=1000")
        + &get("/api/v1/stats");
    Ok(without_a_pause(target, 20, &walks))
}

fn long_paths(target: &Target) -> io::Result<Outcome> {
    let request = format!("GET /api/v1/rooms/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "A".repeat(15_000));
    Ok(without_a_pause(target, 8, &request))
}

fn odd_methods(target: &Target) -> io::Result<Outcome> {
    let methods = ["TRACE", "CONNECT", "DELETE", "PATCH", "PRI", "get", "GETT", "BREW"];
    let paths = ["/healthz", "/api/v1/publish", "/goim/push/all", "/metrics"];
    let right: &[&str] = &["400", "401", "403", "404", "405", "501"];
    let request = |method: &str, path: &str| {
        (format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"), right)
    };
    let requests: Vec<_> =
        methods.iter().flat_map(|method| paths.map(|path| request(method, path))).collect();
    each(target, &requests)
}

fn pages_of_other_origins(target: &Target) -> io::Result<Outcome> {
    let push =
        "POST /goim/push/all?operation=1001 HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n";
    let right: &[&str] = &["403", "421", "400"];
    let requests: [(String, &[&str]); 4] = [
        (format!("{push}Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n\r\nhi"), right),
        (format!("{push}Host: 127.0.0.1\r\nOrigin: null\r\n\r\nhi"), right),
        ("GET /api/v1/stats HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), right),
        ("GET /api/v1/connections HTTP/1.1\r\nHost: localhost.evil.example:3111\r\n\r\n".into(), right),
    ];
    each(target, &requests)
}

fn control_connections_come_and_go(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 20_000 {
        let Ok(mut stream) = target.control() else { continue };
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Peer::tcp(stream).reset_at_end();
        outcome.add(1);
    }
    Ok(outcome)
}
