//! Logins all the time, over TCP and WebSocket in turn: connect, log in into a room, join another
//! one, one heartbeat, leave. A login that fails or takes too long is noticed, whatever abuses do
//! to slots, verifiers and tables.

use super::ledger::{LATE, Window};
use super::link::{Link, ending};
use super::{Shared, person};
use crate::wire::{Item, join_body, op};
use serde_json::json;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// First user number of newcomers: they come again and again, so they are users with few devices.
const FIRST_MID: i64 = 500_000;
const USERS: u32 = 1000;

/// The task that starts them.
pub(crate) fn tasks(shared: &Rc<Shared>) -> Vec<JoinHandle<()>> {
    vec![tokio::task::spawn_local(arrive(shared.clone()))]
}

async fn arrive(shared: Rc<Shared>) {
    let mut visits = vec![];
    while !shared.leaves() {
        sleep(shared.login_interval).await;
        if shared.sends() {
            visits.push(tokio::task::spawn_local(visit(shared.clone())));
        }
        visits.retain(|visit: &JoinHandle<()>| !visit.is_finished());
    }
    for visit in visits {
        let _ = visit.await;
    }
}

async fn visit(shared: Rc<Shared>) {
    let number = shared.next_login.get();
    shared.next_login.set(number.wrapping_add(1));
    let since = Instant::now();
    let came = timeout(LATE, log_in(&shared, number)).await;
    let took = since.elapsed();
    let how = match came {
        Ok(Ok(link)) => {
            succeeded(&shared, took);
            return link.leave().await;
        }
        Ok(Err(why)) => why,
        Err(_) => format!("no login within {LATE:?}"),
    };
    let transport = if person::is_websocket(number) { "WebSocket" } else { "TCP" };
    let mut window = shared.ledger.lock();
    window.counts.logins_failed += 1;
    window.note(format!("a newcomer over {transport}: {how}"));
}

fn succeeded(shared: &Shared, took: Duration) {
    let mut window = shared.ledger.lock();
    window.counts.logins += 1;
    Window::record(&mut window.logins, took);
}

async fn log_in(shared: &Shared, number: u32) -> Result<Link, String> {
    let websocket = person::is_websocket(number);
    let source = Ipv4Addr::new(127, 2, 0, 1 + (number % 250) as u8);
    let opened = Link::open(source, shared.listener(websocket), websocket).await;
    let mut link = opened.map_err(|error| format!("connect: {}", ending(&error)))?;
    let user = number % USERS;
    let (mid, key) = (FIRST_MID + i64::from(user), format!("newcomer-{user}"));
    let (room, further) = (format!("live://new-{}", user % 16), format!("live://further-{}", user % 64));
    // A set of its own, as long as it is connected.
    let more = json!({ "key": key, "room_id": room, "accepts": [1000, 50_000 + user] });
    link.login(&shared.auth(mid, &[room, further.clone()], &more)).await?;
    link.send(op::JOIN, 2, &join_body(&further)).await.map_err(|error| ending(&error))?;
    link.send(op::HEARTBEAT, 3, &[]).await.map_err(|error| ending(&error))?;
    // The heartbeat's reply may come first: a room's home may be on another worker.
    let (mut joined, mut beat) = (false, false);
    loop {
        while let Some(item) = link.next().await.map_err(|error| error.to_string())? {
            let Item::Frame(frame) = item else { continue };
            match (frame.operation, frame.sequence) {
                (op::HEARTBEAT_REPLY, 3) => beat = true,
                (op::JOIN_REPLY, 2) if frame.code() == 0 => joined = true,
                (op::JOIN_REPLY, _) => return Err(format!("Join answered {}", frame.code())),
                (op::CLOSED, _) => return Err(format!("closed with {}", frame.code())),
                // The room of the login is refused in this way.
                (op::ERROR, _) => {
                    return Err(format!("error {} to operation {}", frame.code(), frame.word(4)));
                }
                _ => {}
            }
            if joined && beat {
                return Ok(link);
            }
        }
        link.wait().await.map_err(|error| format!("its requests cut off: {}", ending(&error)))?;
    }
}
