//! Callers of the control port: probes, Prometheus, and services that push.

use super::flows::{Stamp, Way};
use super::http::{Answer, Http};
use super::ledger::{LATE, Window};
use super::{SERVICE_PUSH, Shared, person};
use crate::profile::{API_KEY, GOIM_API_KEY};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

/// Time between two probes, of each kind.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two pushes of a service.
const PUSH_INTERVAL: Duration = Duration::from_millis(50);

const GOIM: &str = "goim's push";

/// Whether goim's route reports success: it answers 200 with the result in the body.
fn goim_took(answer: &Answer) -> bool {
    answer.body.windows(8).any(|eight| eight == b"\"code\":0")
}

/// One task a caller.
pub(crate) fn tasks(shared: &Rc<Shared>) -> Vec<JoinHandle<()>> {
    vec![
        spawn_local(probe(shared.clone(), "/healthz", &[200])),
        // Not ready, with a reason, may be the right answer under an abuse; silence is not.
        spawn_local(probe(shared.clone(), "/readyz", &[200, 503])),
        spawn_local(probe(shared.clone(), "/metrics", &[200])),
        spawn_local(push(shared.clone(), 0)),
        spawn_local(push(shared.clone(), 1)),
    ]
}

async fn probe(shared: Rc<Shared>, path: &'static str, right: &'static [u16]) {
    let mut http = Http::new(shared.control);
    while !shared.leaves() {
        sleep(PROBE_INTERVAL).await;
        let since = Instant::now();
        let answer = timeout(LATE, http.request("GET", path, "", &[])).await.unwrap_or_else(|_| Err(late()));
        if shared.leaves() {
            return;
        }
        judge(&shared, path, since, &answer, right);
        if answer.is_err() {
            http = Http::new(shared.control);
        }
    }
}

/// A service that pushes to one member after another, by the gateway's own API (`service` 0) or by
/// goim's (1).
async fn push(shared: Rc<Shared>, service: u32) {
    let mut http = Http::new(shared.control);
    let mut to = service * 7;
    while !shared.leaves() {
        sleep(PUSH_INTERVAL).await;
        to = (to + 11) % shared.count;
        if !shared.sends() || !shared.is_settled(to, Duration::from_secs(1)) {
            continue;
        }
        let number = shared.flows.borrow_mut().number(Way::Push, service, to, 0);
        let stamp =
            Stamp { way: Way::Push, from: service, generation: 0, number, sent_at: shared.since.elapsed() };
        let since = Instant::now();
        let answer = push_once(&mut http, service, to, &stamp.payload()).await;
        if shared.leaves() {
            return;
        }
        let what = if service == 0 { "publish" } else { GOIM };
        let is_full = |answer: &Answer| {
            answer.status == 503 && answer.body.windows(11).any(|part| part == b"target_busy")
        };
        if to != person::flooded(shared.count) || !answer.as_ref().is_ok_and(is_full) {
            judge(&shared, what, since, &answer, &[200]);
        }
        let refused = |answer: &Answer| answer.status != 200 || service == 1 && !goim_took(answer);
        if answer.as_ref().is_ok_and(refused) {
            shared.flows.borrow_mut().take_back(Way::Push, service, to);
        }
        if answer.is_err() {
            // It may have arrived, or not.
            shared.flows.borrow_mut().refused(Way::Push, service, to, number);
            http = Http::new(shared.control);
        }
    }
}

async fn push_once(http: &mut Http, service: u32, to: u32, payload: &[u8]) -> io::Result<Answer> {
    let request = async {
        if service == 0 {
            let body = json!({
                "target": { "mid": person::mid(to) }, "operation": SERVICE_PUSH, "payload_base64": STANDARD.encode(payload),
            });
            let head = format!("Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n");
            http.request("POST", "/api/v1/publish", &head, body.to_string().as_bytes()).await
        } else {
            let target = format!("/goim/push/mids?operation={SERVICE_PUSH}&mids={}", person::mid(to));
            http.request("POST", &target, &format!("Authorization: Bearer {GOIM_API_KEY}\r\n"), payload).await
        }
    };
    timeout(LATE, request).await.unwrap_or_else(|_| Err(late()))
}

fn late() -> io::Error {
    io::Error::other(format!("no answer within {LATE:?}"))
}

fn judge(shared: &Shared, what: &str, since: Instant, answer: &io::Result<Answer>, right: &[u16]) {
    let mut window = shared.ledger.lock();
    match answer {
        Ok(answer) if right.contains(&answer.status) => {
            window.counts.requests += 1;
            Window::record(&mut window.requests, since.elapsed());
            if what == GOIM && !goim_took(answer) {
                window.counts.requests_failed += 1;
                window.note(format!("{what} answered {}", String::from_utf8_lossy(&answer.body).trim_end()));
            }
        }
        Ok(answer) => {
            window.counts.requests_failed += 1;
            let body = String::from_utf8_lossy(&answer.body).chars().take(100).collect::<String>();
            window.note(format!("{what} answered {}: {body}", answer.status));
        }
        Err(error) => {
            window.counts.requests_failed += 1;
            window.note(format!("{what}: {}", super::link::ending(error)));
        }
    }
}
