//! goim's HTTP API, as its publishers know it (goim `internal/logic/http`).
//!
//! The answer is always HTTP 200 with `{"code": 0 | -400 | -500, "message": …}`, and `data` where there is some. A push
//! is answered when it was handed to the workers, not when it was delivered, as goim answers when it is in Kafka.

use super::Control;
use super::publish::Target;
use super::reply::ApiError;
use crate::settings::ListenerKind;
use crate::worker::message::Origin;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys, mids or rooms of one request at most.
const NAMES_MAX: usize = 1000;

/// Beats that goim's clients are told to send: one in 240 s, two may be missed.
const HEARTBEAT_S: u64 = 240;
const HEARTBEATS_MISSED_MAX: u64 = 2;

/// Why a request failed, in goim's numbers.
enum GoimError {
    /// −400.
    Request(String),
    /// −500.
    Server(String),
}

type Answer = Json<Value>;

fn answer(result: Result<Option<Value>, GoimError>) -> Answer {
    Json(match result {
        Ok(None) => json!({ "code": 0, "message": "" }),
        Ok(Some(data)) => json!({ "code": 0, "message": "", "data": data }),
        Err(GoimError::Request(message)) => json!({ "code": -400, "message": message }),
        Err(GoimError::Server(message)) => json!({ "code": -500, "message": message }),
    })
}

/// The query's parameters. Repeated ones are kept, as gin's binding does.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: Option<String>) -> Parameters {
        let query = query.unwrap_or_default();
        Parameters(form_pairs(&query).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
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

    fn all(&self, name: &str) -> Result<Vec<&str>, GoimError> {
        let all = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let all: Vec<&str> = all.filter(|value| !value.is_empty()).collect();
        if all.len() > NAMES_MAX {
            return Err(GoimError::Request(format!("at most {NAMES_MAX} {name} are taken at a time")));
        }
        Ok(all)
    }
}

/// `a=b&c=d`, percent-decoded (URL Standard §5.1, `application/x-www-form-urlencoded`).
pub(super) fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(key), form_decode(value))
    })
}

fn form_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) async fn push_keys(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query);
    answer(match parameters.all("keys") {
        Ok(keys) => {
            let targets = keys.into_iter().map(|key| Target::Key(key.to_owned())).collect();
            push(&control, &parameters, targets, body).await
        }
        Err(error) => Err(error),
    })
}

pub(super) async fn push_mids(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query);
    let mids = parameters.all("mids").and_then(|mids| {
        let parse = |mid: &str| mid.parse().map(Target::Mid);
        mids.into_iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|_| GoimError::Request("mids are 64-bit numbers".into()))
    });
    answer(match mids {
        Ok(targets) => push(&control, &parameters, targets, body).await,
        Err(error) => Err(error),
    })
}

pub(super) async fn push_room(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query);
    let room =
        parameters.required("operation").and_then(|_| room_key(&parameters, parameters.required("room")?));
    answer(match room {
        Ok(room) => push(&control, &parameters, vec![Target::Room(room)], body).await,
        Err(error) => Err(error),
    })
}

pub(super) async fn push_all(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer {
    let parameters = Parameters::parse(query);
    let rate = parameters.required("operation").and_then(|_| parameters.number("speed"));
    answer(match rate {
        Ok(rate) => {
            let target = Target::All { rate: u32::try_from(rate).unwrap_or(0) };
            push(&control, &parameters, vec![target], body).await
        }
        Err(error) => Err(error),
    })
}

/// goim's `EncodeRoomKey`.
fn room_key(parameters: &Parameters, room: &str) -> Result<String, GoimError> {
    Ok(format!("{}://{room}", parameters.required("type")?))
}

async fn push(
    control: &Control,
    parameters: &Parameters,
    targets: Vec<Target>,
    body: Body,
) -> Result<Option<Value>, GoimError> {
    let operation = parameters.number("operation")?;
    let size_max = control.config().limits.frame_body_size_max as usize;
    let body = to_bytes(body, size_max).await.map_err(|_| {
        GoimError::Request(format!("the body could not be read, or exceeds {size_max} bytes"))
    })?;
    let Some(first) = targets.first() else { return Ok(None) };
    let push = control
        .encode(first.class(), operation, &body)
        .map_err(|error| GoimError::Server(ApiError::encode(error, size_max).message))?;
    let failed =
        targets.iter().filter(|target| control.send(target, push.clone(), Origin::Nobody).is_err()).count();
    if failed > 0 {
        let message = format!(
            "{failed} of {} messages found no room at their worker; retry after a second",
            targets.len()
        );
        return Err(GoimError::Server(message));
    }
    Ok(None)
}

pub(super) async fn online_total(State(control): State<Arc<Control>>) -> Answer {
    // goim counts distinct client addresses; that takes a set over all connections, which no worker keeps.
    answer(Ok(Some(json!({ "ip_count": 0, "conn_count": control.workers.connections() }))))
}

pub(super) async fn online_room(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query);
    answer(rooms_online(&control, &parameters).await)
}

async fn rooms_online(control: &Control, parameters: &Parameters) -> Result<Option<Value>, GoimError> {
    let rooms = parameters.all("rooms")?;
    parameters.required("rooms")?;
    let mut counts = BTreeMap::new();
    for room in rooms {
        let found = control.inspect_room(&room_key(parameters, room)?).await;
        let row = found.map_err(|error| GoimError::Server(error.message))?;
        counts.insert(room.to_owned(), row.map_or(0, |row| row.total_members));
    }
    Ok(Some(json!(counts)))
}

pub(super) async fn online_top(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    let parameters = Parameters::parse(query);
    answer(top(&control, &parameters).await)
}

async fn top(control: &Control, parameters: &Parameters) -> Result<Option<Value>, GoimError> {
    let kind = parameters.required("type")?;
    parameters.required("limit")?;
    let limit = usize::try_from(parameters.number("limit")?).unwrap_or(0);
    let rooms = control.inspect_all_rooms().await.map_err(|error| GoimError::Server(error.message))?;
    // goim takes any prefix of the key for the type.
    let of_kind = rooms.iter().filter(|(room, _)| room.starts_with(kind));
    let mut top: Vec<(&str, u32)> =
        of_kind.filter_map(|(room, count)| room.split_once("://").map(|(_, id)| (id, *count))).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let top: Vec<Value> =
        top.into_iter().take(limit).map(|(room, count)| json!({ "room_id": room, "count": count })).collect();
    Ok(Some(json!(top)))
}

pub(super) async fn nodes_weighted(State(control): State<Arc<Control>>) -> Answer {
    let host = node_host(&control);
    answer(Ok(Some(json!({
        "domain": host,
        "tcp_port": port(&control, ListenerKind::Tcp),
        "ws_port": port(&control, ListenerKind::WebSocket),
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
        .map(|(settings, address)| format!("{}://{address}", settings.kind.label()))
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

/// Where clients find this node: the address for departing clients if one is set, else the host's name.
fn node_host(control: &Control) -> String {
    let configured = control.config().reloadable.reconnect_address.clone();
    if !configured.is_empty() {
        return configured.rsplit_once(':').map_or(configured.clone(), |(host, _)| host.to_owned());
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn port(control: &Control, kind: ListenerKind) -> u16 {
    let found = control.facts.listeners.iter().find(|(settings, _)| settings.kind == kind);
    found.map_or(0, |(_, address)| address.port())
}
