//! HTTP on the WebSocket listener: requests that are no upgrade, or a bad one.

use super::answers::{GONE, answers};
use super::{Abuse, Needs, On, abuse};
use crate::client::{Peer, status};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::upgrade_request;
use std::io::{self, Write};
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "bad_upgrades",
        On::WebSocket,
        Needs::Nothing,
        bad_upgrades,
        "Requests that are no HTTP, or no upgrade: wrong method, path, version, key, host, or none of these.",
        (
            "The status that RFC 9110 and RFC 6455 name, then the end.",
            answers(&["400"], &[&["404", "405", "426", "505"]]),
        ),
    ),
    abuse(
        "large_upgrade_heads",
        On::WebSocket,
        Needs::Nothing,
        large_upgrade_heads,
        "Heads of a megabyte, of one line or of thousands.",
        (
            "431 or 414 once the limit is reached; nothing more is buffered.",
            answers(&["431", "414", "reset"], &[]),
        ),
    ),
    abuse(
        "foreign_origins",
        On::WebSocket,
        Needs::Tokens,
        foreign_origins,
        "Upgrades from pages of another origin.",
        ("403.", answers(&["403"], &[])),
    ),
    abuse(
        "upgrades_with_bodies",
        On::WebSocket,
        Needs::Nothing,
        upgrades_with_bodies,
        "Upgrades that announce a body, chunked or of a length.",
        ("400; the body is not taken for WebSocket frames.", answers(&["400"], &[])),
    ),
    abuse(
        "pipelined_upgrades",
        On::WebSocket,
        Needs::Nothing,
        pipelined_upgrades,
        "Many upgrades on one connection, one behind the other.",
        (
            "The first is answered; the rest is no WebSocket frame and closes the connection.",
            answers(&["101"], &[&["400", "reset"]]),
        ),
    ),
    abuse(
        "demo_page_never_read",
        On::WebSocket,
        Needs::Development,
        demo_page_never_read,
        "Two hundred connections ask for the demo page over and over and never read.",
        ("What waits for them is bounded.", answers(&["200", "reset"], &[GONE, &["503"]])),
    ),
    abuse(
        "upgrade_and_leave",
        On::WebSocket,
        Needs::Nothing,
        upgrade_and_leave,
        "Upgrades whose connection is reset as soon as the request is written.",
        ("Each slot is free again at once.", answers(&[], &[])),
    ),
];

/// Sends each request on a connection of its own, over and over; the status has to be one of those
/// listed with it.
fn each(target: &Target, requests: &[(String, &[&str])], unit: &str) -> io::Result<Outcome> {
    let mut outcome = Outcome::of(unit);
    for number in 0..3000 {
        if target.is_over_after(number, requests.len()) {
            break;
        }
        let (request, right) = &requests[number % requests.len()];
        let mut stream = target.connect(target.websocket_address())?;
        // The gateway may have refused before all was written.
        let _ = stream.write_all(request.as_bytes());
        let how = status(&mut stream, Duration::from_secs(3));
        let line: String = request.lines().next().unwrap_or_default().chars().take(40).collect();
        outcome.expect(
            right.contains(&how.as_str()) || target.excuses(&how),
            format!("request {} ({line}): {how}", number % requests.len()),
        );
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn changed(from: &str, to: &str) -> String {
    upgrade_request("localhost").replacen(from, to, 1)
}

fn bad_upgrades(target: &Target) -> io::Result<Outcome> {
    let requests: [(String, &[&str]); 11] = [
        ("garbage\r\n\r\n".into(), &["400"]),
        ("GET /sub HTTP/1.1\r\n\r\n".into(), &["400"]),
        (changed("GET", "POST"), &["405"]),
        (changed("/sub", "/elsewhere"), &["404"]),
        (changed("HTTP/1.1", "HTTP/1.0"), &["505", "426", "400"]),
        (changed("HTTP/1.1", "HTTP/3.7"), &["505"]),
        (changed("Version: 13", "Version: 8"), &["426"]),
        (changed("Upgrade: websocket\r\n", ""), &["426", "400"]),
        (changed("dGhlIHNhbXBsZSBub25jZQ==", "short"), &["400"]),
        (changed("Host: localhost", "Host: a\r\nHost: b"), &["400"]),
        (changed("Connection: Upgrade\r\n", ""), &["400", "426"]),
    ];
    each(target, &requests, "requests")
}

fn large_upgrade_heads(target: &Target) -> io::Result<Outcome> {
    let long = format!("X-Long: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = (0..4000).map(|number| format!("X-{number}: b\r\n")).collect::<String>() + "\r\n";
    let target_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1 << 20));
    // Where the gateway ends the connection with the request unread, a reset may lose its answer.
    let right: &[&str] = &["431", "414", "reset"];
    let requests: [(String, &[&str]); 3] = [
        (changed("\r\n\r\n", &format!("\r\n{long}")), right),
        (changed("\r\n\r\n", &format!("\r\n{many}")), right),
        (target_line, right),
    ];
    each(target, &requests, "requests")
}

fn foreign_origins(target: &Target) -> io::Result<Outcome> {
    let with = |origin: &str| changed("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"));
    let requests: [(String, &[&str]); 4] = [
        (with("https://evil.example"), &["403"]),
        (with("null"), &["403"]),
        (with("https://chat.example.org.evil.example"), &["403"]),
        (with("http://chat.example.org"), &["403"]),
    ];
    each(target, &requests, "requests")
}

fn upgrades_with_bodies(target: &Target) -> io::Result<Outcome> {
    let with = |field: &str| changed("\r\n\r\n", &format!("\r\n{field}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
    let requests: [(String, &[&str]); 3] = [
        (with("Content-Length: 5"), &["400"]),
        (with("Transfer-Encoding: chunked"), &["400", "501"]),
        (with("Content-Length: 5\r\nContent-Length: 6"), &["400"]),
    ];
    each(target, &requests, "requests")
}

fn pipelined_upgrades(target: &Target) -> io::Result<Outcome> {
    let request = upgrade_request("localhost").repeat(200);
    let mut outcome = Outcome::of("connections");
    for _ in 0..1000 {
        if target.is_over_after(outcome.did as usize, 1) {
            break;
        }
        let mut stream = target.connect(target.websocket_address())?;
        let _ = stream.write_all(request.as_bytes());
        let how = status(&mut stream, Duration::from_secs(3));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn demo_page_never_read(target: &Target) -> io::Result<Outcome> {
    let open = |_| Ok(Peer::http(target.connect(target.websocket_address())?));
    let peers = target.open_many(200, open);
    peers.iter().for_each(Peer::small_window);
    let flood = target.flood(peers, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false);
    let mut outcome = Outcome::of("requests").did(flood.copies);
    outcome.flooded(flood);
    Ok(outcome)
}

fn upgrade_and_leave(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("upgrades");
    for _ in 0..20_000 {
        if target.is_over_after(outcome.did as usize, 1) {
            break;
        }
        let Ok(mut stream) = target.connect(target.websocket_address()) else { continue };
        let _ = stream.write_all(upgrade_request("localhost").as_bytes());
        Peer::tcp(stream).reset_at_end();
        outcome.add(1);
    }
    Ok(outcome)
}
