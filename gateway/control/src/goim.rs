//! goim's HTTP API, as its publishers know it (goim `internal/logic/http`).
//!
//! The answer is always HTTP 200 with `{"code": 0 | -400 | -500, "message": …}`, and `data` where
//! there is some. A push is answered when it was accepted, not when it was delivered, as goim
//! answers when it is in Kafka: one to names when it was handed to the workers, one to a room when
//! the room's home has found places for it.

use super::control::Control;
use super::paths::PushRoute;
use super::publish::Target;
use super::reply::{ApiError, Json};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use gateway_core::listener::Framing;
use gateway_core::message::{EncodedPush, Origin};
use gateway_proto::frame::Operation;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Most keys, mids or rooms of one request.
const NAMES_MAX: usize = 1000;

/// Heartbeats that goim's clients are to send: one in 240 s, two may be missed.
const HEARTBEAT_S: u64 = 240;
const HEARTBEATS_MISSED_MAX: u64 = 2;

/// Why a request failed, in goim's numbers.
enum GoimError {
    /// −400.
    Request(String),
    /// −500.
    Server(String),
}

type Answer = Json;

/// Answer to a push that was handed over.
const OK: &str = "{\"code\":0,\"message\":\"\"}\n";

fn answer(result: Result<Option<Value>, GoimError>) -> Answer {
    Json(match result {
        Ok(None) => json!({ "code": 0, "message": "" }),
        Ok(Some(data)) => json!({ "code": 0, "message": "", "data": data }),
        Err(GoimError::Request(message)) => json!({ "code": -400, "message": message }),
        Err(GoimError::Server(message)) => json!({ "code": -500, "message": message }),
    })
}

/// The query's parameters. Repeated ones are kept, as gin's binding does.
struct Parameters<'q>(Vec<Pair<'q>>);

impl<'q> Parameters<'q> {
    fn parse(query: &'q str) -> Result<Parameters<'q>, GoimError> {
        form_pairs(query).map(Parameters).map_err(|why| GoimError::Request(why.into()))
    }

    fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn required(&self, name: &str) -> Result<&str, GoimError> {
        let text = self.text(name);
        if text.is_empty() { Err(GoimError::Request(format!("{name} is missing"))) } else { Ok(text) }
    }

    /// A number; 0 when it is missing, as in goim.
    fn number(&self, name: &str) -> Result<i32, GoimError> {
        match self.text(name) {
            "" => Ok(0),
            text => text.parse().map_err(|_| GoimError::Request(format!("{name} is no 32-bit number"))),
        }
    }

    fn all(&self, name: &str) -> Result<impl Iterator<Item = &str>, GoimError> {
        let all = || self.0.iter().filter(move |(key, value)| key == name && !value.is_empty());
        if all().count() > NAMES_MAX {
            return Err(GoimError::Request(format!("at most {NAMES_MAX} {name} are taken at a time")));
        }
        Ok(all().map(|(_, value)| value.as_ref()))
    }
}

/// `a=b&c=d`, percent-decoded (URL Standard §5.1, `application/x-www-form-urlencoded`), with what
/// is no pair refused: a name that was mangled on its way would reach another client, or none.
pub(super) fn form_pairs(query: &str) -> Result<Vec<Pair<'_>>, &'static str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decode(key)?, form_decode(value)?))
    });
    pairs.collect::<Option<_>>().ok_or(
        "the query can't be decoded: behind each % two hexadecimal digits, and UTF-8 text in all; write % itself as %25",
    )
}

/// A name and its value.
pub(super) type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

/// `None` where two digits are missing behind a `%`, or the text is not UTF-8.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let hex = |offset: usize| char::from(*bytes.get(at + offset)?).to_digit(16);
                out.push((hex(1)? * 16 + hex(2)?) as u8);
                at += 2;
            }
            b'+' => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Handles a push by any of the four routes.
pub(super) async fn push(
    control: &Control,
    route: PushRoute,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let pushed = match form(query, headers, &body) {
        Some(form) => push_form(control, route, form).await,
        None => push_as_asked(control, route, query, &body).await,
    };
    match pushed {
        // Almost always.
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], OK).into_response(),
        Err(error) => answer(Err(error)).into_response(),
    }
}

async fn push_as_asked(
    control: &Control,
    route: PushRoute,
    query: &str,
    body: &[u8],
) -> Result<(), GoimError> {
    let parameters = Parameters::parse(query)?;
    let targets = targets(route, &parameters)?;
    push_to(control, &parameters, &targets, body).await
}

/// The text of a form that brings all parameters, for more names than a request line holds; its
/// `message` is the message. Only where there is no query: curl says `x-www-form-urlencoded` of any
/// body that is given with `-d`, and goim takes that for the message.
fn form<'b>(query: &str, headers: &HeaderMap, body: &'b [u8]) -> Option<&'b [u8]> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let is_form = kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    (query.is_empty() && is_form).then_some(body)
}

async fn push_form(control: &Control, route: PushRoute, form: &[u8]) -> Result<(), GoimError> {
    let no_text = "the form is not UTF-8 text; percent-encode it";
    let form = std::str::from_utf8(form).map_err(|_| GoimError::Request(no_text.into()))?;
    let parameters = Parameters::parse(form)?;
    let targets = targets(route, &parameters)?;
    let message = parameters.0.iter().find(|(name, _)| name == "message").map(|(_, value)| value.as_bytes());
    let message = message.ok_or_else(|| {
        GoimError::Request(
            "message is missing: without a query, a form brings all parameters and the message".into(),
        )
    })?;
    push_to(control, &parameters, &targets, message).await
}

fn targets(route: PushRoute, parameters: &Parameters<'_>) -> Result<Vec<Target>, GoimError> {
    match route {
        PushRoute::Mids => {
            let mids: Result<Vec<i64>, _> = parameters.all("mids")?.map(str::parse).collect();
            let mids = mids.map_err(|_| GoimError::Request("mids are 64-bit numbers".into()))?;
            // goim keeps users in a map (`PushMids`): one that is named twice is sent the message
            // once.
            let mut seen = HashSet::with_capacity(mids.len());
            Ok(mids.into_iter().filter(|mid| seen.insert(*mid)).map(Target::Mid).collect())
        }
        PushRoute::Room => {
            parameters.required("operation")?;
            Ok(vec![Target::Room(room_key(parameters, parameters.required("room")?))])
        }
        PushRoute::All => {
            parameters.required("operation")?;
            let rate = u32::try_from(parameters.number("speed")?).unwrap_or(0);
            Ok(vec![Target::All { rate }])
        }
        PushRoute::Keys | PushRoute::Publish => {
            Ok(parameters.all("keys")?.map(|key| Target::Key(key.to_owned())).collect())
        }
    }
}

/// goim's `EncodeRoomKey`. goim v2 up to 2019 took the whole key as `room` and knew no `type`.
fn room_key(parameters: &Parameters<'_>, room: &str) -> String {
    match parameters.text("type") {
        "" => room.to_owned(),
        kind => format!("{kind}://{room}"),
    }
}

async fn push_to(
    control: &Control,
    parameters: &Parameters<'_>,
    targets: &[Target],
    body: &[u8],
) -> Result<(), GoimError> {
    let operation = push_operation(parameters)?;
    let size_max = control.config().limits.frame_body_size_max as usize;
    if body.len() > size_max {
        return Err(GoimError::Request(format!(
            "the message exceeds {size_max} bytes (limits.frame_body_size_max)"
        )));
    }
    let Some(first) = targets.first() else { return Ok(()) };
    let push = control
        .encode(first.class(), operation, &[body])
        .map_err(|error| GoimError::Server(ApiError::encode(error, size_max).message))?;
    if let Target::Room(_) = first {
        return push_to_room(control, first, push).await.map_err(|error| GoimError::Server(error.message));
    }
    let failed =
        targets.iter().filter(|target| control.send(target, push.clone(), Origin::None).is_err()).count();
    if failed > 0 {
        let message = format!(
            "{failed} of {} messages found no room at their worker; retry after a second",
            targets.len()
        );
        return Err(GoimError::Server(message));
    }
    Ok(())
}

/// Hands a push to a room's home, and waits until the home has accepted it. A room without members
/// is no error.
async fn push_to_room(control: &Control, room: &Target, push: EncodedPush) -> Result<(), ApiError> {
    let ticket = control.tickets.outcomes(1)?;
    control.send(room, push, Origin::Control { ticket: ticket.number() })?;
    ticket.receivers().await?;
    Ok(())
}

/// The operation of a push: 1000 and above, as in all of goim's own examples. Those below mean
/// something to the protocol, or may one day: clients would take the push for a reply, a farewell
/// or a batch.
fn push_operation(parameters: &Parameters<'_>) -> Result<i32, GoimError> {
    let operation = parameters.number("operation")?;
    if Operation(operation).is_push() {
        return Ok(operation);
    }
    let why = format!("operation {operation} is the protocol's own; push with one of 1000 and above");
    Err(GoimError::Request(why))
}

pub(super) async fn online_total(State(control): State<Arc<Control>>) -> Answer {
    // goim counts distinct client addresses; that takes a set over all connections, which no worker
    // keeps.
    answer(Ok(Some(json!({ "ip_count": 0, "conn_count": control.workers.connections() }))))
}

pub(super) async fn online_room(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    answer(rooms_online(&control, &query.unwrap_or_default()).await)
}

async fn rooms_online(control: &Control, query: &str) -> Result<Option<Value>, GoimError> {
    let parameters = &Parameters::parse(query)?;
    parameters.required("rooms")?;
    let mut counts = BTreeMap::new();
    for room in parameters.all("rooms")? {
        let found = control.inspect_room(&room_key(parameters, room)).await;
        let row = found.map_err(|error| GoimError::Server(error.message))?;
        counts.insert(room.to_owned(), row.map_or(0, |row| row.total_members));
    }
    Ok(Some(json!(counts)))
}

pub(super) async fn online_top(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    answer(top(&control, &query.unwrap_or_default()).await)
}

async fn top(control: &Control, query: &str) -> Result<Option<Value>, GoimError> {
    let parameters = &Parameters::parse(query)?;
    let kind = parameters.required("type")?;
    parameters.required("limit")?;
    let limit = usize::try_from(parameters.number("limit")?).unwrap_or(0);
    let rooms = control.top_rooms(kind).await.map_err(|error| GoimError::Server(error.message))?;
    let ids = rooms.iter().filter_map(|(room, count)| room.split_once("://").map(|(_, id)| (id, *count)));
    let top: Vec<Value> =
        ids.take(limit).map(|(room, count)| json!({ "room_id": room, "count": count })).collect();
    Ok(Some(json!(top)))
}

pub(super) async fn nodes_weighted(State(control): State<Arc<Control>>) -> Answer {
    let host = node_host(&control);
    answer(Ok(Some(json!({
        "domain": host,
        "tcp_port": port(&control, Framing::Tcp),
        "ws_port": port(&control, Framing::WebSocket),
        "wss_port": 0,
        "heartbeat": HEARTBEAT_S,
        "heartbeat_max": HEARTBEATS_MISSED_MAX,
        "nodes": [host],
        "backoff": { "max_delay": 300, "base_delay": 3, "factor": 1.8, "jitter": 0.3 },
    }))))
}

pub(super) async fn nodes_instances(State(control): State<Arc<Control>>) -> Answer {
    let addresses: Vec<String> = control
        .facts
        .listeners
        .iter()
        .map(|(settings, address)| format!("{}://{address}", settings.kind()))
        .collect();
    let last = control.facts.started_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    answer(Ok(Some(json!([{
        "region": "", "zone": "", "env": "", "appid": "goim.comet",
        "hostname": node_host(&control),
        "addrs": addresses,
        "version": env!("CARGO_PKG_VERSION"),
        "latest_timestamp": u64::try_from(last.as_nanos()).unwrap_or(u64::MAX),
        "metadata": { "conn_count": control.workers.connections().to_string(), "ip_count": "0", "weight": "10", "offline": "false" },
        "status": 1,
    }]))))
}

/// Where clients find this node (`control.node_host`), else the host's name.
fn node_host(control: &Control) -> String {
    let configured = control.config().control.node_host.clone();
    if configured.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        configured
    }
}

fn port(control: &Control, framing: Framing) -> u16 {
    let found = control.facts.listeners.iter().find(|(settings, _)| settings.serves_goim_over(framing));
    found.map_or(0, |(_, address)| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_as_browsers_encode_them() {
        let pairs = form_pairs("a=1&b+c=%C3%A9%252&&d&=e").unwrap();
        let expected = [("a", "1"), ("b c", "é%2"), ("d", ""), ("", "e")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
        for bad in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%c3", "a=b%"] {
            assert!(form_pairs(bad).is_err(), "{bad}");
        }
    }
}
