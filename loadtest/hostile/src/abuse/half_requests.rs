//! Requests that never end, or take for ever: upgrades, heads and bodies in halves and in single
//! bytes.

use super::answers::{ADDRESS, GONE, answers};
use super::{Abuse, Needs, On, abuse, hold};
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::profile::API_KEY;
use crate::target::Target;
use crate::wire::upgrade_request;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "half_upgrades",
        On::WebSocket,
        Needs::Nothing,
        half_upgrades,
        "Six hundred connections send half an upgrade request and wait.",
        (
            "Closed after session.auth_timeout_ms; they hold a bounded part of the blocks.",
            answers(&[], &[ADDRESS, &["408", "503"]]),
        ),
    ),
    abuse(
        "upgrades_byte_by_byte",
        On::WebSocket,
        Needs::Nothing,
        upgrades_byte_by_byte,
        "A hundred upgrades arrive one byte at a time.",
        (
            "They are served as their bytes come, or closed after session.auth_timeout_ms.",
            answers(&[], &[&["101", "408"]]),
        ),
    ),
    abuse(
        "half_control_heads",
        On::Control,
        Needs::Nothing,
        half_control_heads,
        "Three hundred connections to the control port send half a head and wait.",
        (
            "They go after control.header_timeout_ms, or earlier for others; requests of others are answered.",
            answers(&[], &[GONE, &["408", "503"]]),
        ),
    ),
    abuse(
        "half_control_bodies",
        On::Control,
        Needs::Tokens,
        half_control_bodies,
        "A hundred and thirty pushes announce a body of ten bytes and send one.",
        ("They hold nothing that other pushes need.", answers(&[], &[GONE, &["408", "503"]])),
    ),
    abuse(
        "control_heads_byte_by_byte",
        On::Control,
        Needs::Nothing,
        control_heads_byte_by_byte,
        "Fifty requests to the control port arrive one byte at a time.",
        ("Requests of others are answered.", answers(&[], &[GONE, &["200", "408", "503"]])),
    ),
    abuse(
        "control_bodies_byte_by_byte",
        On::Control,
        Needs::Tokens,
        control_bodies_byte_by_byte,
        "Fifty pushes with bodies of 60 KiB arrive one byte at a time.",
        ("They hold nothing that other pushes need.", answers(&[], &[GONE, &["408", "503"]])),
    ),
    abuse(
        "silent_control_connections",
        On::Control,
        Needs::Nothing,
        silent_control_connections,
        "Five hundred connections to the control port say nothing.",
        ("The longest idle ones go; connections in use stay.", answers(&[], &[GONE, &["408", "503"]])),
    ),
    abuse(
        "endless_chunks",
        On::Control,
        Needs::Tokens,
        endless_chunks,
        "Twenty pushes whose chunked body never ends.",
        ("413 or 408; what is buffered is bounded.", answers(&["413", "503", "reset"], &[&["408", "ended"]])),
    ),
];

fn streams(target: &Target, count: u32, to: SocketAddr) -> Vec<TcpStream> {
    target.open_each(count, |_| target.connect(to))
}

/// Writes `bytes` to so many connections, and waits.
fn halves(target: &Target, count: u32, to: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut streams = streams(target, count, to);
    let mut outcome = Outcome::of("connections");
    for stream in &mut streams {
        outcome.add(u64::from(stream.write_all(bytes).is_ok()));
    }
    target.hold();
    outcome.held(streams.into_iter().map(Peer::http).collect());
    outcome
}

/// Writes `bytes` to so many connections at once, one byte per round, a round every 5 ms.
fn drips(target: &Target, count: u32, to: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut streams = streams(target, count, to);
    let mut outcome = Outcome::of("bytes");
    for byte in bytes {
        streams.retain_mut(|stream| stream.write_all(&[*byte]).is_ok());
        outcome.add(streams.len() as u64);
        target.pause(Duration::from_millis(5));
        if target.is_over() {
            break;
        }
    }
    outcome.held(streams.into_iter().map(Peer::http).collect());
    outcome
}

fn push_head(fields: &str) -> String {
    format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\n{fields}\r\n\r\n"
    )
}

fn half_upgrades(target: &Target) -> io::Result<Outcome> {
    let request = upgrade_request("localhost");
    Ok(halves(target, 600, target.websocket_address(), &request.as_bytes()[..100]))
}

fn upgrades_byte_by_byte(target: &Target) -> io::Result<Outcome> {
    Ok(drips(target, 100, target.websocket_address(), upgrade_request("localhost").as_bytes()))
}

fn half_control_heads(target: &Target) -> io::Result<Outcome> {
    Ok(halves(target, 300, target.control_address(), b"GET /healthz HTTP/1.1\r\nHost: loc"))
}

fn half_control_bodies(target: &Target) -> io::Result<Outcome> {
    let request = push_head("Content-Length: 10") + "{";
    Ok(halves(target, 130, target.control_address(), request.as_bytes()))
}

fn control_heads_byte_by_byte(target: &Target) -> io::Result<Outcome> {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "a".repeat(4000));
    Ok(drips(target, 50, target.control_address(), request.as_bytes()))
}

fn control_bodies_byte_by_byte(target: &Target) -> io::Result<Outcome> {
    let mut streams = streams(target, 50, target.control_address());
    let head = push_head("Content-Length: 60000");
    streams.retain_mut(|stream| stream.write_all(head.as_bytes()).is_ok());
    let mut outcome = Outcome::of("bytes");
    while !target.is_over() && !streams.is_empty() {
        streams.retain_mut(|stream| stream.write_all(b" ").is_ok());
        outcome.add(streams.len() as u64);
        target.pause(Duration::from_millis(5));
    }
    outcome.held(streams.into_iter().map(Peer::http).collect());
    Ok(outcome)
}

fn silent_control_connections(target: &Target) -> io::Result<Outcome> {
    let streams = streams(target, 500, target.control_address());
    Ok(hold(target, streams.into_iter().map(Peer::http).collect(), "connections"))
}

fn endless_chunks(target: &Target) -> io::Result<Outcome> {
    let head = push_head("Transfer-Encoding: chunked");
    let mut streams = streams(target, 20, target.control_address());
    streams.retain_mut(|stream| stream.write_all(head.as_bytes()).is_ok());
    let peers: Vec<Peer> = streams.into_iter().map(Peer::http).collect();
    let chunk = [b"1000\r\n".to_vec(), vec![b' '; 4096], b"\r\n".to_vec()].concat();
    let flood = target.flood(peers, &chunk, true);
    let mut outcome = Outcome::of("chunks of 4 KiB").did(flood.copies);
    outcome.flooded(flood);
    Ok(outcome)
}
