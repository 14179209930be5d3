//! Logging in: the Auth frame, the verifier's verdict, and the answers of the homes.

use crate::auth::{AuthError, Verdict};
use crate::router::rooms::{Awaiting, JoinError};
use crate::session::{Phase, User};
use crate::settings::AuthMode;
use crate::worker::Worker;
use crate::worker::message::{AuditKind, Message, NameKind, VerifyRequest};
use gateway_proto::auth::{AuthRequest, SCRATCH_SIZE_MAX};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, Buffer, ConnectionId};

/// Who a client turned out to be.
#[derive(Clone, Copy)]
struct Identity<'a> {
    mid: i64,
    uid: Option<&'a str>,
    /// Unix seconds; 0: never.
    expires_at: u32,
    /// It may send to everyone.
    service: bool,
}

impl<B: Backend> Worker<B> {
    /// The first frame of a connection.
    pub(crate) fn auth(
        &mut self,
        connection: ConnectionId,
        sequence: i32,
        mut buffer: Buffer,
        body_start: usize,
    ) {
        buffer.advance(body_start);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.auth_sequence = sequence;
        }
        match self.context.settings.auth {
            AuthMode::None => self.login(connection, buffer.as_slice(), None),
            AuthMode::Jwt => {
                if let Some(session) = self.shard.sessions.get_mut(connection) {
                    session.phase = Phase::Verifying;
                }
                let request = VerifyRequest { address: self.address(connection), sequence, body: buffer };
                if self.post.verify(request).is_err() {
                    self.metrics.verifier_overloads.add(1);
                    self.refuse_login(connection, CloseCode::OVERLOAD, "too many logins at once");
                }
            }
        }
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
                    mid: claims.mid.unwrap_or(0),
                    uid: claims.uid(),
                    expires_at: claims.expires_at,
                    service: claims.service,
                };
                self.login(connection, verdict.body.as_slice(), Some(identity));
            }
            Err(error) => self.refuse_login(connection, code_of(*error), label_of(*error)),
        }
    }

    fn refuse_login(&mut self, connection: ConnectionId, code: CloseCode, reason: &str) {
        self.metrics.auth_failures.add(1);
        self.audit(connection, AuditKind::Refused(code));
        self.end(connection, code, reason);
    }

    /// Registers the session under its names; the reply goes out when their homes have answered. Without a verified
    /// identity the client is who it says it is.
    fn login(&mut self, connection: ConnectionId, body: &[u8], verified: Option<Identity<'_>>) {
        let mut scratch = [0; SCRATCH_SIZE_MAX];
        let request = match AuthRequest::parse(body, &mut scratch) {
            Ok(request) => request,
            Err(error) => {
                self.metrics.auth_failures.add(1);
                self.audit(connection, AuditKind::Refused(error.close_code()));
                return self.end_for(connection, error.close_code(), &error);
            }
        };
        let uid = request.uid.map(|uid| uid.as_str());
        let claimed = Identity { mid: request.mid, uid, expires_at: 0, service: false };
        let identity = match verified {
            None => claimed,
            Some(verified) if contradicts(&claimed, &verified) => {
                return self.refuse_login(connection, CloseCode::AUTH_FAILED, "the token names another user");
            }
            Some(verified) => verified,
        };
        match self.register(connection, &request, identity) {
            None => self.refuse_login(connection, CloseCode::OVERLOAD, "the server's tables are full"),
            Some(0) => self.login_complete(connection), // without a name or a room there is no home to ask
            Some(_) => {}
        }
    }

    /// Enters the session's names, accept set and room; returns how many homes will answer, `None` when a table is full.
    fn register(
        &mut self,
        connection: ConnectionId,
        request: &AuthRequest<'_>,
        identity: Identity<'_>,
    ) -> Option<u8> {
        let accepts = self.shard.sessions.accept_sets.acquire(request.accepts.as_slice());
        let session = self.shard.sessions.get_mut(connection)?;
        // From here on whatever was entered is given up with the session, so an early return leaks nothing.
        session.phase = Phase::Registering;
        session.accepts = accepts?;
        session.expires_at = identity.expires_at;
        session.service = identity.service;
        session.platform = request.platform.map_or(0, |platform| {
            self.context.names.key(platform.as_str()).bits() as u32 | 1 // never 0: that is "none given"
        });
        if let Some(key) = request.key {
            session.key = self.shard.texts.insert(key.as_str().as_bytes())?;
        }
        session.user = match (identity.uid, identity.mid) {
            (Some(uid), _) => User::Uid(self.shard.texts.insert(uid.as_bytes())?),
            (None, 0) => User::Anonymous,
            (None, mid) => User::Mid(mid),
        };
        let room = request.room.map(|room| room.as_str());
        if let Some(earlier) = request.key.and_then(|key| self.context.names.address_in(key.as_str())) {
            let (connection, code) = (earlier.connection(), CloseCode::REPLACED);
            self.post.send(earlier.worker(), Message::Evict { connection, code, reason: None });
        }
        let mut answers_due = self.claim_names(connection);
        if let Some(room) = room {
            answers_due += self.login_room(connection, room)?;
        }
        self.shard.sessions.get_mut(connection)?.answers_due = answers_due;
        Some(answers_due)
    }

    fn claim_names(&mut self, connection: ConnectionId) -> u8 {
        let Some(session) = self.shard.sessions.get(connection) else { return 0 };
        let platform = session.platform;
        let names = [(NameKind::Key, self.own_key_name(session)), (NameKind::User, self.user_name(session))];
        let from = self.address(connection);
        let workers = self.post.workers();
        let mut claims = 0;
        for (kind, name) in names {
            let Some(name) = name else { continue };
            self.post.send(name.home(workers), Message::Claim { kind, name, from, platform });
            claims += 1;
        }
        claims
    }

    /// Joins the room of the Auth frame; returns how many answers that needs.
    fn login_room(&mut self, connection: ConnectionId, room: &str) -> Option<u8> {
        let name = self.context.names.room(room);
        let max = self.context.settings.tables.rooms_per_connection_max;
        let session = self.shard.sessions.get_mut(connection)?;
        let index = connection.index() as u32;
        let texts = &mut self.shard.texts;
        match self.shard.rooms.join(texts, (name, room), index, &mut session.rooms, max) {
            Ok(member) => {
                session.rooms.primary = Some(member);
                let waits = self.shard.rooms.must_wait(member, Awaiting::Login, session.auth_sequence);
                Some(u8::from(waits))
            }
            // Others may have filled the tables: that is no reason to turn this client away.
            Err(JoinError::Already(_) | JoinError::TooMany | JoinError::Full) => {
                session.rooms.refused = true;
                Some(0)
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
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let (sequence, heard_at, expires_at) =
            (session.auth_sequence, session.heard_at.before(self.pace.now), session.expires_at);
        let room_refused = std::mem::take(&mut session.rooms.refused);
        session.flow.logged_in();
        self.shard.sessions.set_open(connection);
        let idle_until = heard_at + self.reloadable.idle_timeout;
        let deadline = self.token_deadline(expires_at).map_or(idle_until, |end| end.min(idle_until));
        self.shard.sessions.timers.set(connection.index(), deadline);
        self.metrics.logins.add(1);
        self.audit(connection, AuditKind::Connected);
        self.reply(connection, Header::new(Operation::AUTH_REPLY, sequence, 0), |_| {});
        if room_refused {
            let why = "logged in, but not in the room: the room table is full; join it later";
            self.refuse(connection, Header::new(Operation::AUTH, sequence, 0), ErrorCode::BUSY, why);
        }
        self.resume_frames(connection);
    }
}

/// Whether a client says that it is another user than its token does. Saying nothing contradicts nothing.
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

/// What the client is told. It does not say which check failed beyond what helps an honest client.
fn label_of(error: AuthError) -> &'static str {
    match error {
        AuthError::Malformed => "the Auth body is malformed",
        AuthError::TokenMissing => "a token is required",
        AuthError::Expired => "the token has expired",
        AuthError::NotYetValid => "the token is not valid yet",
        AuthError::Mismatch => "the token names another user",
        AuthError::Overload => "too many logins at once",
        _ => "the token was refused",
    }
}
