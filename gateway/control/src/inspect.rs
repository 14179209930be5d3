//! `/api/v1/connections` and `/api/v1/rooms`: lists that workers fill.
//!
//! A page is gathered worker by worker, visit by visit; its cursor says where the next one goes on:
//! `<worker>.<slot>`.

use super::api::{address_text, parse_address};
use super::control::Control;
use super::goim::form_pairs;
use super::lists::Walk;
use super::reply::{ApiError, Json};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use gateway_core::address::{WorkerId, mid_from_text};
use gateway_core::message::{ConnectionRow, Inspection, Message, Query, ROWS_MAX, RoomRow};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A page that takes longer ends where it is; its cursor goes on.
const PAGE_TIME_MAX: Duration = Duration::from_secs(1);
/// A room's key has at most so many bytes.
const ROOM_NAME_SIZE_MAX: usize = 255;
/// Rows of a page when the request does not say how many.
const LIMIT_DEFAULT: usize = 100;
/// A walk over all rooms ends after this long, with what it has found.
const WALK_TIME_MAX: Duration = Duration::from_secs(5);
/// What a walk has found is given out again for this long.
const WALK_KEPT: Duration = Duration::from_secs(1);
/// Most kinds of rooms with a stored walk.
const WALKS_KEPT_MAX: usize = 16;
/// Rooms that a walk keeps, the largest ones.
pub(super) const TOP_MAX: usize = 1000;

/// The largest of all rooms that are added: exact, for a room that is left out is smaller than all
/// that are kept.
#[derive(Default)]
struct Top {
    rooms: HashMap<String, u32>,
}

impl Top {
    fn show(&mut self, name: &str, members: u32) {
        match self.rooms.get_mut(name) {
            Some(known) => *known = (*known).max(members),
            None => {
                self.rooms.insert(name.to_owned(), members);
            }
        }
        if self.rooms.len() >= 4 * TOP_MAX {
            let kept = std::mem::take(self).sorted();
            self.rooms = kept.into_iter().collect();
        }
    }

    /// The largest, in their order.
    fn sorted(self) -> Vec<(String, u32)> {
        let mut all: Vec<(String, u32)> = self.rooms.into_iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(TOP_MAX);
        all
    }
}

/// Where a page begins: a worker, and a slot of its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    worker: usize,
    slot: usize,
}

impl Cursor {
    fn parse(text: &str) -> Result<Cursor, ApiError> {
        let parts =
            text.split_once('.').and_then(|(worker, slot)| Some((worker.parse().ok()?, slot.parse().ok()?)));
        let (worker, slot) =
            parts.ok_or_else(|| ApiError::bad_request("after must be the `next` of the page before"))?;
        Ok(Cursor { worker, slot })
    }

    fn text(self) -> String {
        format!("{}.{}", self.worker, self.slot)
    }
}

/// A list's parameters.
struct Page {
    limit: usize,
    cursor: Cursor,
    filters: HashMap<String, String>,
}

impl Page {
    fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Page, ApiError> {
        let mut page = Page { limit: LIMIT_DEFAULT, cursor: Cursor::default(), filters: HashMap::new() };
        for (name, value) in form_pairs(query.unwrap_or_default()).map_err(ApiError::bad_request)? {
            match name.as_ref() {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=ROWS_MAX).contains(limit));
                    let message = format!("limit must be 1 to {ROWS_MAX}");
                    page.limit = limit.ok_or_else(|| ApiError::bad_request(message))?;
                }
                "after" => page.cursor = Cursor::parse(&value)?,
                other if allowed.contains(&other) => {
                    page.filters.insert(other.to_owned(), value.into_owned());
                }
                _ => {
                    let known = [&["limit", "after"], allowed].concat().join(", ");
                    return Err(ApiError::bad_request(format!("unknown parameter; there are {known}")));
                }
            }
        }
        Ok(page)
    }
}

impl Control {
    /// One visit to one worker.
    async fn inspect(
        &self,
        worker: WorkerId,
        query: Query,
        limit: usize,
    ) -> Result<Box<Inspection>, ApiError> {
        let ticket = self.tickets.list()?;
        let inspection = Inspection::new(ticket.number(), worker, query, limit);
        self.workers.send(worker, Message::Inspect(inspection))?;
        Ok(ticket.answer().await?)
    }

    /// Visits workers from `cursor` on until `more` says no or the time is up. Returns where to go
    /// on.
    async fn visit(
        &self,
        mut cursor: Cursor,
        query: impl Fn(usize) -> Query,
        deadline: Instant,
        mut more: impl FnMut(&Inspection) -> usize,
        mut limit: usize,
    ) -> Result<Option<Cursor>, ApiError> {
        while cursor.worker < self.workers.count() {
            if limit == 0 || Instant::now() >= deadline {
                return Ok(Some(cursor));
            }
            let worker = WorkerId(cursor.worker as u8);
            let found = self.inspect(worker, query(cursor.slot), limit).await?;
            limit = more(&found);
            cursor = match found.next().filter(|next| *next > cursor.slot) {
                Some(slot) => Cursor { slot, ..cursor },
                None => Cursor { worker: cursor.worker + 1, slot: 0 },
            };
        }
        Ok(None)
    }

    /// The room as its home knows it; `None` when it has no members.
    pub(super) async fn inspect_room(&self, room: &str) -> Result<Option<RoomRow>, ApiError> {
        let room = self.workers.names().room(room);
        let found = self.inspect(self.workers.home(room), Query::Room(room), 1).await?;
        Ok(found.rooms().first().copied())
    }

    /// The largest rooms with a key that begins with `kind`, with their members everywhere; at most
    /// [`TOP_MAX`]. At most one walk over the rooms at a time, kept for a second: any number of
    /// requests costs workers and memory one walk.
    pub(super) async fn top_rooms(&self, kind: &str) -> Result<Arc<[(String, u32)]>, ApiError> {
        if kind.len() > ROOM_NAME_SIZE_MAX {
            return Ok(Arc::new([]));
        }
        let _under_way = self.lists.under_way.try_acquire().map_err(|_| ApiError::busy())?;
        let mut walks = self.lists.walks.lock().await;
        walks.retain(|walk| walk.at.elapsed() < WALK_KEPT);
        if let Some(walk) = walks.iter().find(|walk| walk.kind == kind) {
            return Ok(Arc::clone(&walk.top));
        }
        let mut top = Top::default();
        let gather = |found: &Inspection| {
            // goim takes any prefix of the key for the type.
            for row in found.rooms().iter().filter(|row| row.name.as_str().starts_with(kind)) {
                if row.name.as_str().contains("://") {
                    top.show(row.name.as_str(), row.total_members.max(row.local_members));
                }
            }
            ROWS_MAX
        };
        let deadline = Instant::now() + WALK_TIME_MAX;
        self.visit(Cursor::default(), |from| Query::Rooms { from }, deadline, gather, ROWS_MAX).await?;
        let top: Arc<[(String, u32)]> = top.sorted().into();
        if walks.len() >= WALKS_KEPT_MAX {
            walks.remove(0);
        }
        walks.push(Walk { kind: kind.to_owned(), at: Instant::now(), top: Arc::clone(&top) });
        Ok(top)
    }

    fn connection_json(&self, row: &ConnectionRow) -> Value {
        let listener = self.facts.listeners.get(usize::from(row.listener));
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "connection": address_text(row.address),
            "worker": row.address.worker().0,
            "listener": listener.map(|(settings, _)| settings.name.as_str()),
            "transport": listener.map(|(settings, _)| settings.kind()),
            "authenticated": row.authenticated,
            "mid": (row.mid != 0).then(|| row.mid.to_string()),
            "uid": text(row.uid.as_str()),
            "key": text(row.key.as_str()),
            "peer": row.peer.to_string(),
            "connected_ms": row.connected_ms,
            "idle_ms": row.idle_ms,
            "rooms": row.rooms,
            "queued_bytes": row.queued_bytes,
            "accepts": row.accepts,
        })
    }
}

pub(super) async fn connections(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
) -> Result<Json, ApiError> {
    let page = Page::parse(query.as_deref(), &["mid", "uid", "key"])?;
    let names = control.workers.names();
    let user = match (page.filters.get("mid"), page.filters.get("uid")) {
        (None, None) => None,
        (None, Some(uid)) => Some(names.uid(uid)),
        (Some(mid), None) => {
            let mid = mid_from_text(mid).ok_or_else(|| {
                ApiError::bad_request(
                    "mid must be a 64-bit number, without zeros in front; a user with a name is uid",
                )
            })?;
            Some(names.mid(mid))
        }
        (Some(_), Some(_)) => return Err(ApiError::bad_request("give mid or uid, not both")),
    };
    let key = page.filters.get("key").map(|key| names.key(key));
    let _turn = control.lists.turn().await?;
    let mut rows = Vec::new();
    let gather = |found: &Inspection| {
        rows.extend(found.connections().iter().map(|row| control.connection_json(row)));
        page.limit.saturating_sub(rows.len())
    };
    let query = |from| Query::Connections { from, user, key };
    let next = control.visit(page.cursor, query, Instant::now() + PAGE_TIME_MAX, gather, page.limit).await?;
    Ok(Json(json!({ "connections": rows, "next": next.map(Cursor::text) })))
}

/// The part of a path that names something. A part that can't be decoded is refused like any other
/// mistake.
fn decoded(part: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    part.map(|Path(part)| part).map_err(|_| {
        ApiError::bad_request(
            "the path can't be decoded: it must be UTF-8 text once its %-escapes are undone",
        )
    })
}

pub(super) async fn connection(
    State(control): State<Arc<Control>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json, ApiError> {
    let address = parse_address(&control, &decoded(id)?)?;
    let found = control.inspect(address.worker(), Query::Connection(address.connection()), 1).await?;
    let row = found
        .connections()
        .first()
        .ok_or_else(|| ApiError::not_found("no such connection; it may have ended"))?;
    Ok(Json(control.connection_json(row)))
}

pub(super) async fn rooms(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
) -> Result<Json, ApiError> {
    let page = Page::parse(query.as_deref(), &[])?;
    let _turn = control.lists.turn().await?;
    let mut rows = Vec::new();
    let gather = |found: &Inspection| {
        let named = found.rooms().iter().filter(|row| !row.name.is_empty());
        rows.extend(named.map(|row| {
            json!({
                "room": row.name.as_str(),
                "worker": found.worker().0,
                "local_members": row.local_members,
                "members": row.total_members,
            })
        }));
        page.limit.saturating_sub(rows.len())
    };
    let query = |from| Query::Rooms { from };
    let next = control.visit(page.cursor, query, Instant::now() + PAGE_TIME_MAX, gather, page.limit).await?;
    Ok(Json(json!({ "rooms": rows, "next": next.map(Cursor::text) })))
}

pub(super) async fn room(
    State(control): State<Arc<Control>>,
    room: Result<Path<String>, PathRejection>,
) -> Result<Json, ApiError> {
    let room = decoded(room)?;
    let row = control.inspect_room(&room).await?.filter(|row| row.total_members > 0);
    let row = row.ok_or_else(|| ApiError::not_found("the room has no members"))?;
    Ok(Json(json!({ "room": room, "members": row.total_members })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_exact_whatever_the_order_and_its_memory_bounded() {
        // 20 000 rooms, each shown twice, with the larger count somewhere else.
        let rooms: Vec<(String, u32)> =
            (0..20_000).map(|index| (format!("a://{index}"), index * 7919 % 20_011)).collect();
        let mut top = Top::default();
        for (name, count) in rooms.iter().rev() {
            top.show(name, count / 2);
            assert!(top.rooms.len() < 4 * TOP_MAX);
        }
        rooms.iter().for_each(|(name, count)| top.show(name, *count));
        let mut expected = rooms;
        expected.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        expected.truncate(TOP_MAX);
        assert_eq!(top.sorted(), expected);
    }
}
