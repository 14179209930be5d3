//! Logging in: the Auth frame, the verifier's verdict, and the answers of the homes.

use super::Handler;
use super::framing::Frame;
use super::goodbye::Goodbye;
use super::state::relief::CLOSES_MAX;
use crate::address::Address;
use crate::message::{AuditKind, AuthError, Message, NameKind, Verdict, VerifyRequest};
use crate::router::rooms::{Awaiting, JoinError, JoinLimit, RoomRefusal};
use crate::session::text::TextUse;
use crate::session::{Identified, Phase, Session, TokenEnd, User};
use crate::settings::AuthMode;
use gateway_proto::auth::{AuthRequest, SCRATCH_SIZE_MAX};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, Buffer, ConnectionId};
use std::fmt::Display;

/// The identity of a client.
#[derive(Clone, Copy)]
struct Identity<'a> {
    mid: i64,
    uid: Option<&'a str>,
    /// What its token says besides; `None`: none is asked for.
    token: Option<Token<'a>>,
}

/// What a session keeps of a token.
#[derive(Clone, Copy)]
struct Token<'a> {
    /// How long it still holds, in milliseconds.
    valid_for_ms: u64,
    /// Unix seconds.
    issued_at: u32,
    /// Of its key.
    key_number: u8,
    /// It may send to everyone.
    service: bool,
    /// Rooms, and patterns of rooms, with a line feed between them.
    rooms: &'a str,
}

impl<B: Backend> Handler<B> {
    /// The first frame of a connection.
    pub(super) fn auth(&mut self, connection: ConnectionId, frame: Frame) {
        let Frame { header: Header { sequence, .. }, mut buffer, body_start } = frame;
        buffer.advance(body_start);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.auth_sequence = sequence;
        }
        match self.context.settings.auth {
            AuthMode::None => self.login(connection, buffer.as_slice(), None),
            AuthMode::Jwt => {
                self.shard.sessions.set_logging_in(connection, Phase::Verifying);
                if !self.verify(connection, sequence, buffer) {
                    self.io.metrics.verifier_overloads.add(1);
                    self.refuse_login(connection, CloseCode::OVERLOAD, &"too many logins at once");
                }
            }
        }
    }

    /// Hands a token to the verifier; false when it has too much to do. An address may have as many
    /// tokens waiting as places are left: one that sends garbage without end leaves half of them to
    /// others.
    fn verify(&mut self, connection: ConnectionId, sequence: i32, body: Buffer) -> bool {
        let Some(source) = self.source(connection) else { return true };
        let verifying = &self.context.settings.shared.verifying;
        let address = self.address(connection);
        let is_fair = verifying.of(source) as usize <= self.outbox.verifier_room();
        if !is_fair {
            return false;
        }
        let Some(body) = self.set_aside(connection, body) else { return false };
        let pending = self.verdicts.begin(source);
        match self.outbox.verify(VerifyRequest { address, pending, sequence, body }) {
            Ok(number) => {
                if let Some(session) = self.shard.sessions.get_mut(connection) {
                    session.set_verifying(number);
                }
                true
            }
            Err(_) => false,
        }
    }

    /// A token in the form in which it waits for the verifier: what it lies in is missing to all
    /// connections that long. `None` where blocks are short and no receiver is to blame.
    fn set_aside(&mut self, connection: ConnectionId, mut body: Buffer) -> Option<Buffer> {
        let size = body.len();
        for _ in 0..CLOSES_MAX {
            body = match self.io.pools().to_wait(body) {
                Ok(kept) => return Some(kept),
                Err(body) => body,
            };
            let pools = self.io.pools().fitting(size);
            if !self.make_room_for_login(pools, connection) {
                return None;
            }
        }
        self.io.pools().to_wait(body).ok()
    }

    /// The verifier has looked at a token.
    pub(crate) fn verified(&mut self, verdict: Verdict) {
        let connection = verdict.connection;
        let waits =
            self.shard.sessions.get(connection).is_some_and(|session| session.phase == Phase::Verifying);
        if !waits {
            return; // it timed out or left meanwhile
        }
        match &verdict.result {
            Ok(claims) => {
                let identity = Identity {
                    mid: claims.mid,
                    uid: claims.uid(),
                    token: Some(Token {
                        valid_for_ms: claims.valid_for_ms,
                        issued_at: claims.issued_at,
                        key_number: claims.key_number,
                        service: claims.service,
                        rooms: claims.rooms(),
                    }),
                };
                self.login(connection, verdict.body.as_slice(), Some(identity));
            }
            // What is wrong with the body its client wrote itself.
            Err(AuthError::Malformed) => self.refuse_body(connection, verdict.body.as_slice()),
            Err(error) => self.refuse_login(connection, code_of(*error), &label_of(*error)),
        }
    }

    /// Ends a connection for an Auth body that a verifier could not read, and says what is wrong
    /// with it.
    fn refuse_body(&mut self, connection: ConnectionId, body: &[u8]) {
        let error = AuthRequest::parse(body, &mut [0; SCRATCH_SIZE_MAX]).err();
        let malformed = AuthError::Malformed;
        match error {
            Some(error) => self.refuse_login(connection, error.close_code(), &error),
            None => self.refuse_login(connection, code_of(malformed), &label_of(malformed)),
        }
    }

    /// Ends a connection for a login that is not accepted; one that has ended otherwise stays as it
    /// is.
    pub(crate) fn refuse_login(&mut self, connection: ConnectionId, code: CloseCode, reason: &dyn Display) {
        let lives = |session: &Session| session.phase != Phase::Closing;
        if !self.shard.sessions.get(connection).is_some_and(lives) {
            return;
        }
        self.io.metrics.auth_failures.add(1);
        self.audit(connection, AuditKind::Refused(code));
        self.close(connection, Goodbye::Closed(code, reason));
    }

    /// Registers the session under its names; the reply goes out when their homes have answered.
    /// Without a verified identity the client has the one that it names.
    fn login(&mut self, connection: ConnectionId, body: &[u8], verified: Option<Identity<'_>>) {
        let mut scratch = [0; SCRATCH_SIZE_MAX];
        let request = match AuthRequest::parse(body, &mut scratch) {
            Ok(request) => request,
            Err(error) => return self.refuse_login(connection, error.close_code(), &error),
        };
        let uid = request.uid.map(|uid| uid.as_str());
        let claimed = Identity { mid: request.mid, uid, token: None };
        let identity = match verified {
            None => claimed,
            Some(verified) if contradicts(&claimed, &verified) => {
                return self.refuse_login(
                    connection,
                    CloseCode::AUTH_FAILED,
                    &"the token names another user",
                );
            }
            Some(verified) => verified,
        };
        match self.register(connection, &request, identity) {
            None => self.refuse_login(connection, CloseCode::OVERLOAD, &"the server's tables are full"),
            Some(0) => self.login_complete(connection), // without a name or a room there is no home to ask
            Some(_) => {}
        }
    }

    /// Enters the session's names, accept set and room; returns how many homes will answer, `None`
    /// when a table is full.
    fn register(
        &mut self,
        connection: ConnectionId,
        request: &AuthRequest<'_>,
        identity: Identity<'_>,
    ) -> Option<u16> {
        let source = self.source(connection)?;
        let accepts = self.shard.sessions.accept_sets.acquire(request.accepts.as_slice(), source);
        // From here on what was entered is given up with the session, so an early return leaks
        // nothing.
        self.shard.sessions.set_logging_in(connection, Phase::Registering);
        let who = self.shard.sessions.identified(connection)?;
        self.shard.sessions.set_accepts(&who, accepts?);
        if let Some(token) = identity.token {
            self.keep_token(connection, token)?;
        }
        let texts = &mut self.shard.texts;
        let session = self.shard.sessions.get_mut(connection)?;
        if let Some(key) = request.key {
            session.key = texts.insert(key.as_str().as_bytes(), TextUse::Login)?;
        }
        session.set_user(match (identity.uid, identity.mid) {
            (Some(uid), _) => User::Uid(texts.insert(uid.as_bytes(), TextUse::Login)?),
            (None, 0) => User::Anonymous,
            (None, mid) => User::Mid(mid),
        });
        let platform = request.platform.map_or(0, |platform| {
            self.context.names.key(platform.as_str()).bits() as u32 | 1 // never 0: that is "none given"
        });
        let earlier = request.key.and_then(|key| self.context.names.address_in(key.as_str()));
        let mut answers_due = self.claim_names(connection, platform, earlier);
        if let Some(room) = request.room.map(|room| room.as_str()) {
            answers_due += self.login_room(&who, room);
        }
        self.shard.sessions.of_mut(&who).answers_due = answers_due;
        Some(answers_due)
    }

    /// Keeps what a token says; `None` when there is no room for its rooms. Its end is a time of
    /// the worker's own clock, which is never set: a wall clock that is put right later moves
    /// nothing.
    fn keep_token(&mut self, connection: ConnectionId, token: Token<'_>) -> Option<()> {
        let ends = TokenEnd::after(self.turn.now, token.valid_for_ms);
        let session = self.shard.sessions.get_mut(connection)?;
        session.ends = ends;
        session.issued_at = token.issued_at;
        session.set_key_number(token.key_number);
        if token.key_number > 0 {
            self.io.metrics.token_keys.add(token.key_number);
        }
        session.service = token.service;
        if !token.rooms.is_empty() {
            let grants = self.shard.texts.insert(token.rooms.as_bytes(), TextUse::Login)?;
            self.shard.sessions.set_grants(connection, grants);
        }
        Some(())
    }

    /// The owner of a key: its user by hash, never 0; where no token is asked for, 0 for all, for
    /// there any client takes any key over, as in goim.
    pub(crate) fn owner_tag(&self, session: &Session) -> u32 {
        match self.context.settings.auth {
            AuthMode::None => 0,
            AuthMode::Jwt => self.user_name(session).map_or(1, |name| name.bits() as u32 | 1),
        }
    }

    fn claim_names(&mut self, connection: ConnectionId, platform: u32, earlier: Option<Address>) -> u16 {
        let Some(session) = self.shard.sessions.get(connection) else { return 0 };
        let owner = self.owner_tag(session);
        let names = [
            (NameKind::Key, self.own_key_name(session), owner),
            (NameKind::User, self.user_name(session), platform),
        ];
        let from = self.address(connection);
        let workers = self.outbox.workers();
        let mut claims = 0;
        if let Some(earlier) = earlier {
            let connection = earlier.connection();
            self.outbox.send(earlier.worker(), Message::Reclaim { connection, from, tag: owner });
            claims += 1;
        }
        for (kind, name, tag) in names {
            let Some(name) = name else { continue };
            self.outbox.send(name.home(workers), Message::Claim { kind, name, from, tag });
            claims += 1;
        }
        claims
    }

    /// Joins the room of the Auth frame; returns how many answers that needs.
    fn login_room(&mut self, who: &Identified, room: &str) -> u16 {
        if !self.may_enter(who, room) {
            self.shard.sessions.rooms_mut(who).refused = Some(RoomRefusal::Forbidden);
            return 0;
        }
        let name = self.context.names.room(room);
        let max = self.context.settings.tables.rooms_per_connection_max;
        let limit = JoinLimit { rooms_max: max, leaving: 0, sharers: 1 };
        match self.join_room(who, (name, room), limit) {
            Ok(member) => {
                self.shard.sessions.rooms_mut(who).primary = Some(member);
                let sequence = self.shard.sessions.of(who).auth_sequence;
                u16::from(self.shard.hosted_rooms.must_wait(member, Awaiting::Login, sequence))
            }
            // Others may have filled the tables: that is no reason to turn this client away.
            Err(error @ (JoinError::Already(_) | JoinError::TooMany | JoinError::Full)) => {
                self.io.metrics.table_refusals.add(u64::from(error == JoinError::Full));
                self.shard.sessions.rooms_mut(who).refused = Some(RoomRefusal::Full);
                0
            }
        }
    }

    /// A home has answered; with the last answer the login is complete.
    pub(crate) fn login_answered(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.phase != Phase::Registering {
            return;
        }
        session.answers_due = session.answers_due.saturating_sub(1);
        if session.answers_due == 0 {
            self.login_complete(connection);
        }
    }

    fn login_complete(&mut self, connection: ConnectionId) {
        let Some(open) = self.shard.sessions.set_open(connection) else { return };
        let session = self.shard.sessions.of_mut(&open);
        let (sequence, heard_at, ends) =
            (session.auth_sequence, session.heard_at.before(self.turn.now), session.ends);
        session.flow.logged_in();
        let room_refused = std::mem::take(&mut self.shard.sessions.rooms_mut(&open).refused);
        let idle_until = heard_at + self.policy.idle_timeout;
        let deadline = ends.time().map_or(idle_until, |end| end.min(idle_until));
        self.shard.sessions.timers.set(connection.index(), deadline);
        self.io.metrics.logins.add(1);
        self.audit(connection, AuditKind::Connected);
        let auth = Header::new(Operation::AUTH_REPLY, sequence, 0);
        let mut open = self.reply(open, auth, |_| {});
        if let Some(refusal) = room_refused {
            let (code, why) = match refusal {
                RoomRefusal::Full => {
                    (ErrorCode::BUSY, "logged in, but not in the room: the room table is full; join it later")
                }
                RoomRefusal::Forbidden => {
                    (ErrorCode::FORBIDDEN, "logged in, but not in the room: it is not one of the token's")
                }
            };
            let auth = Header::new(Operation::AUTH, sequence, 0);
            open = open.and_then(|open| self.refuse(open, auth, code, why));
        }
        if let Some(open) = open {
            self.resume_frames(open);
            self.watch_finished(connection);
            self.end_if_answered(connection);
        }
    }
}

/// Whether a client says that it is another user than its token does. Saying nothing contradicts
/// nothing.
fn contradicts(claimed: &Identity<'_>, verified: &Identity<'_>) -> bool {
    let mid = claimed.mid != 0 && claimed.mid != verified.mid;
    let uid = claimed.uid.is_some() && claimed.uid != verified.uid;
    mid || uid
}

fn code_of(error: AuthError) -> CloseCode {
    match error {
        AuthError::Malformed => CloseCode::PROTOCOL_ERROR,
        AuthError::Expired => CloseCode::TOKEN_EXPIRED,
        AuthError::Overload => CloseCode::OVERLOAD,
        _ => CloseCode::AUTH_FAILED,
    }
}

/// The reason that the client gets. It says which check failed only where that helps an honest
/// client.
fn label_of(error: AuthError) -> &'static str {
    match error {
        AuthError::Malformed => "the Auth body is malformed",
        AuthError::TokenMissing => "a token is required",
        AuthError::Expired => "the token has expired",
        AuthError::NotYetValid => "the token is not valid yet",
        AuthError::Mismatch => "the token names another user",
        AuthError::Key => "the key is not the token's",
        AuthError::Overload => "too many logins at once",
        _ => "the token was refused",
    }
}
