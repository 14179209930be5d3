//! Signals and orders that an operator's tools send by mistake, again and again.

use super::answers::answers;
use super::{Abuse, Needs, On, abuse};
use crate::client::status;
use crate::outcome::Outcome;
use crate::profile::API_KEY;
use crate::target::Target;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// For how long [`stopped_for_a_moment`] stops the process.
const STOP: Duration = Duration::from_millis(500);

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "reloads_without_a_pause",
        On::Process,
        Needs::Nothing,
        reloads_without_a_pause,
        "SIGHUP a hundred times a second.",
        ("The configuration is read again at a bounded rate; no connection notices.", answers(&[], &[])),
    ),
    abuse(
        "stray_signals",
        On::Process,
        Needs::Nothing,
        stray_signals,
        "SIGUSR1, SIGUSR2, SIGPIPE and SIGWINCH.",
        ("Ignored.", answers(&[], &[])),
    ),
    Abuse {
        pause: STOP,
        ..abuse(
            "stopped_for_a_moment",
            On::Process,
            Needs::Development,
            stopped_for_a_moment,
            "SIGSTOP for half a second, then SIGCONT, as a debugger or a snapshot of the machine does.",
            ("Late by as much, and nothing else.", answers(&[], &[])),
        )
    },
    abuse(
        "kicks_of_users_who_are_away",
        On::Control,
        Needs::Tokens,
        kicks_of_users_who_are_away,
        "Kicks of users, keys and connections that do not exist, without a pause.",
        ("Answered with what was closed: nothing.", answers(&["404"], &[&["400"]])),
    ),
];

fn signal(target: &Target, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(target.pid()).ok_or_else(|| io::Error::other("no process"))?;
    Ok(kill_process(pid, signal)?)
}

fn reloads_without_a_pause(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("signals");
    while !target.is_over() && outcome.did < 500 {
        signal(target, Signal::HUP)?;
        outcome.add(1);
        target.pause(Duration::from_millis(10));
    }
    Ok(outcome)
}

fn stray_signals(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("signals");
    for one in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::WINCH] {
        signal(target, one)?;
        outcome.add(1);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(outcome)
}

fn stopped_for_a_moment(target: &Target) -> io::Result<Outcome> {
    signal(target, Signal::STOP)?;
    std::thread::sleep(STOP);
    signal(target, Signal::CONT)?;
    Ok(Outcome::of("stops").did(1))
}

fn kicks_of_users_who_are_away(target: &Target) -> io::Result<Outcome> {
    let bodies = [
        json!({ "mid": target.new_mid() }),
        json!({ "key": "k".repeat(128) }),
        json!({ "connection": "ffffffffffffffff" }),
        json!({ "uid": "" }),
    ];
    let mut outcome = Outcome::of("kicks");
    for (number, body) in bodies.iter().cycle().take(5000).map(ToString::to_string).enumerate() {
        if target.is_over_after(number, bodies.len()) {
            break;
        }
        let mut stream = target.control()?;
        let request = format!(
            "POST /api/v1/kick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let how = status(&mut stream, Duration::from_secs(5));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}
