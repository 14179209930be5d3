//! The record layer of a connection after its handshake.
//!
//! ```text
//!   record ─► Opener::open ─► Data (where it was received) │ Nothing │ Closed │ Alert
//!                               └─ KeyUpdate: new receive key at once; an answer is due
//!   seal_control, until None ─► KeyUpdate, warnings: before further data
//!   seal ─► one record of application data       seal_alert ─► close_notify, or the last word
//! ```
//!
//! Limits: a sending key is renewed after [`RENEW_AT`] records, where AES-GCM allows about 2^24.5
//! full ones (RFC 8446, 5.5); the peer is asked to renew its own after as many. TLS 1.2 cannot
//! renew: [`SealError::Exhausted`], and the owner ends the connection. One request of ours is
//! outstanding at a time. At most 32 records in a row may bring nothing.

use crate::alert::{Alert, RecordError};
use crate::cipher::Cipher;
use crate::direction::{Direction, Plaintext};
use crate::messages::{Message, Messages, write_key_update};
use crate::rate::Rate;
use crate::record::{OVERHEAD_SIZE_MAX, PLAINTEXT_SIZE_MAX, content};
use crate::suite::{IV_SIZE, Role, Suite, Version};
use std::ops::Range;

/// Records under one key before it is renewed.
pub(crate) const RENEW_AT: u64 = 1 << 23;
/// Records under a key of TLS 1.2, alerts of the end included.
const EXHAUSTED_AT: u64 = 1 << 24;
/// Records in a row that may bring nothing.
const IDLE_RECORDS_MAX: u8 = 32;
/// The most bytes of a control message: a KeyUpdate.
const CONTROL_SIZE_MAX: usize = 5;

/// One direction's keys as the handshake leaves them, and the number of its next record.
pub enum Traffic<'a> {
    /// TLS 1.3: the traffic secret.
    Secret {
        /// As long as [`Suite::secret_size`] says.
        secret: &'a [u8],
        /// Records under its key so far.
        sequence: u64,
    },
    /// TLS 1.2.
    Key {
        /// As long as [`Suite::key_size`] says.
        key: &'a [u8],
        /// With AES-GCM: 4 bytes of salt, then 8 that sequence numbers are mixed into.
        iv: &'a [u8; IV_SIZE],
        /// Records under the key so far.
        sequence: u64,
    },
}

impl Traffic<'_> {
    fn direction(&self, suite: Suite) -> Direction {
        match self {
            Traffic::Secret { secret, sequence } => Direction::of_secret(suite, secret, *sequence),
            Traffic::Key { key, iv, sequence } => Direction::of_key(suite, key, iv, *sequence),
        }
    }
}

/// What a record brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Application data, at this place in the record; at least one byte.
    Data(Range<usize>),
    /// Nothing for the owner. A control message may be due: [`RecordLayer::seal_control`].
    Nothing,
    /// The peer's `close_notify`: its direction has ended. In TLS 1.3 it may still receive.
    Closed,
    /// An alert of the peer, by its description, that ends the connection.
    Alert(u8),
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// A control message goes first: [`RecordLayer::seal_control`].
    ControlDue,
    /// The key of a TLS 1.2 connection is used up: only [`RecordLayer::seal_alert`] is left.
    Exhausted,
    /// An alert has ended this direction.
    Ended,
}

/// What is due, and how far the connection's life has come.
#[derive(Default)]
struct Flags {
    /// The peer has asked for our next key.
    answer_due: bool,
    /// The peer's next key has been asked for, and has not come.
    request_outstanding: bool,
    /// The peer's next key is to be asked for.
    request_due: bool,
    /// TLS 1.2: another handshake has been refused, or is to be.
    renegotiation: Renegotiation,
    receive_ended: bool,
    send_ended: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Renegotiation {
    #[default]
    None,
    RefusalDue,
    Refused,
}

/// Keys, numbers and state of one connection: plain data, zeros after it is dropped.
pub struct RecordLayer {
    receive: Direction,
    send: Direction,
    key_updates: Rate,
    messages: Messages,
    role: Role,
    idle_records: u8,
    flags: Flags,
}

const _: () = assert!(RecordLayer::SIZE <= 232);

impl RecordLayer {
    /// Bytes of a connection's record layer.
    pub const SIZE: usize = size_of::<RecordLayer>();
    /// The most bytes of a record of [`RecordLayer::seal_control`] or [`RecordLayer::seal_alert`].
    pub const CONTROL_RECORD_SIZE_MAX: usize = CONTROL_SIZE_MAX + OVERHEAD_SIZE_MAX;

    /// The record layer that follows a handshake.
    ///
    /// # Panics
    /// If the two directions are of different versions, or a key has not its suite's size.
    pub fn new(role: Role, suite: Suite, receive: &Traffic<'_>, send: &Traffic<'_>) -> RecordLayer {
        let (receive, send) = (receive.direction(suite), send.direction(suite));
        assert_eq!(receive.version(), send.version());
        RecordLayer {
            receive,
            send,
            key_updates: Rate::default(),
            messages: Messages::default(),
            role,
            idle_records: 0,
            flags: Flags::default(),
        }
    }

    /// The connection's version.
    pub fn version(&self) -> Version {
        self.send.version()
    }

    /// The connection's suite.
    pub fn suite(&self) -> Suite {
        self.send.suite()
    }

    /// What opens records, for a batch of them: the key is expanded once.
    pub fn opener(&mut self) -> Opener<'_> {
        let cipher = self.receive.cipher();
        Opener { layer: self, cipher }
    }

    /// Bytes that a record has before its plaintext.
    pub fn plaintext_start(&self) -> usize {
        self.send.plaintext_start()
    }

    /// Bytes of the record of a plaintext of `size` bytes.
    pub fn record_size(&self, size: usize) -> usize {
        self.send.record_size(size)
    }

    /// Seals application data in place: `record` is as long as [`RecordLayer::record_size`] says,
    /// and the plaintext lies in it at [`RecordLayer::plaintext_start`]. At most
    /// [`PLAINTEXT_SIZE_MAX`] bytes.
    ///
    /// # Errors
    /// [`SealError`]; then `record` is as it was.
    ///
    /// # Panics
    /// If `record` is too short for any plaintext, or longer than a record may be.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        assert!((self.record_size(0)..=self.record_size(PLAINTEXT_SIZE_MAX)).contains(&record.len()));
        if self.flags.send_ended {
            return Err(SealError::Ended);
        }
        if self.is_exhausted() {
            return Err(SealError::Exhausted);
        }
        if self.is_control_due() {
            return Err(SealError::ControlDue);
        }
        self.send.seal(content::APPLICATION_DATA, record);
        Ok(())
    }

    /// Whether a control message goes before further data.
    pub fn is_control_due(&self) -> bool {
        !self.flags.send_ended
            && (self.flags.renegotiation == Renegotiation::RefusalDue || self.is_key_update_due())
    }

    fn is_key_update_due(&self) -> bool {
        self.version() == Version::Tls13
            && (self.flags.answer_due || self.send.sequence() >= RENEW_AT || self.is_request_due())
    }

    fn is_request_due(&self) -> bool {
        !self.flags.request_outstanding && (self.flags.request_due || self.receive.sequence() >= RENEW_AT)
    }

    /// Whether the connection has to end because TLS 1.2 cannot renew its key.
    pub fn is_exhausted(&self) -> bool {
        self.version() == Version::Tls12 && self.send.sequence() >= RENEW_AT
    }

    /// Asks the peer for its next key at the next [`RecordLayer::seal_control`]. At most one
    /// request is outstanding; TLS 1.2 has none.
    pub fn request_key_update(&mut self) {
        self.flags.request_due = true;
    }

    /// Seals the next control message that is due into the front of `record`, which has at least
    /// [`RecordLayer::CONTROL_RECORD_SIZE_MAX`] bytes, and returns the record's size. `None`:
    /// nothing is due.
    pub fn seal_control(&mut self, record: &mut [u8]) -> Option<usize> {
        if !self.is_control_due() {
            return None;
        }
        if self.flags.renegotiation == Renegotiation::RefusalDue {
            self.flags.renegotiation = Renegotiation::Refused;
            return Some(self.seal_message(content::ALERT, &Alert::NoRenegotiation.to_bytes(), record));
        }
        let requested = self.is_request_due();
        let size = self.seal_message(content::HANDSHAKE, &write_key_update(requested), record);
        // The update itself went under the old key (RFC 8446, 4.6.3).
        self.send.renew();
        self.flags.answer_due = false;
        if requested {
            self.flags.request_due = false;
            self.flags.request_outstanding = true;
        }
        Some(size)
    }

    /// Seals an alert into the front of `record`, which has at least
    /// [`RecordLayer::CONTROL_RECORD_SIZE_MAX`] bytes, and returns the record's size. It ends this
    /// direction. `None`: the direction has ended before.
    pub fn seal_alert(&mut self, alert: Alert, record: &mut [u8]) -> Option<usize> {
        if self.flags.send_ended || self.send.sequence() >= EXHAUSTED_AT {
            return None;
        }
        self.flags.send_ended = true;
        Some(self.seal_message(content::ALERT, &alert.to_bytes(), record))
    }

    fn seal_message(&mut self, content: u8, message: &[u8], record: &mut [u8]) -> usize {
        let (start, size) = (self.plaintext_start(), self.record_size(message.len()));
        let record = &mut record[..size];
        record[start..start + message.len()].copy_from_slice(message);
        self.send.seal(content, record);
        size
    }

    /// The receiving and the sending direction.
    pub(crate) fn directions(&mut self) -> (&mut Direction, &mut Direction) {
        (&mut self.receive, &mut self.send)
    }
}

/// Opens records of one connection; see [`RecordLayer::opener`].
pub struct Opener<'a> {
    layer: &'a mut RecordLayer,
    cipher: Cipher,
}

impl Opener<'_> {
    /// Opens a whole record in place, header included. `now_ms` is the time in milliseconds, which
    /// bounds the rate of KeyUpdates. Records behind the peer's `close_notify` are ignored
    /// (RFC 8446, 6.1).
    ///
    /// # Errors
    /// [`RecordError`]: the owner sends its alert and ends the connection.
    pub fn open(&mut self, record: &mut [u8], now_ms: u64) -> Result<Opened, RecordError> {
        if self.layer.flags.receive_ended {
            return Ok(Opened::Nothing);
        }
        let opened = self.open_and_handle(record, now_ms);
        self.layer.flags.receive_ended = !matches!(opened, Ok(Opened::Data(_) | Opened::Nothing));
        opened
    }

    fn open_and_handle(&mut self, record: &mut [u8], now_ms: u64) -> Result<Opened, RecordError> {
        let Plaintext { content, start, end } = self.layer.receive.open(&self.cipher, record)?;
        let plaintext = &record[start..end];
        let is_tls13 = self.layer.version() == Version::Tls13;
        if is_tls13 && content != content::HANDSHAKE && self.layer.messages.is_within() {
            return Err(RecordError::Interleaved);
        }
        match content {
            content::APPLICATION_DATA if plaintext.is_empty() => self.count_idle(),
            content::APPLICATION_DATA => {
                self.layer.idle_records = 0;
                Ok(Opened::Data(start..end))
            }
            content::HANDSHAKE => self.handle_messages(plaintext, now_ms),
            content::ALERT => self.handle_alert(plaintext),
            _ => Err(RecordError::Unexpected),
        }
    }

    fn count_idle(&mut self) -> Result<Opened, RecordError> {
        if self.layer.idle_records == IDLE_RECORDS_MAX {
            return Err(RecordError::TooManyEmpty);
        }
        self.layer.idle_records += 1;
        Ok(Opened::Nothing)
    }

    fn handle_messages(&mut self, content: &[u8], now_ms: u64) -> Result<Opened, RecordError> {
        let layer = &mut *self.layer;
        match layer.messages.take(layer.receive.version(), layer.role, content)? {
            None => self.count_idle(),
            Some(Message::KeyUpdate { requested }) => {
                if !layer.key_updates.admit(now_ms) {
                    return Err(RecordError::TooManyKeyUpdates);
                }
                layer.flags.answer_due |= requested;
                layer.flags.request_outstanding = false;
                layer.receive.renew();
                self.cipher = layer.receive.cipher();
                Ok(Opened::Nothing)
            }
            Some(Message::Renegotiation) => {
                if layer.flags.renegotiation != Renegotiation::None {
                    return Err(RecordError::Renegotiation);
                }
                layer.flags.renegotiation = Renegotiation::RefusalDue;
                Ok(Opened::Nothing)
            }
        }
    }

    /// An alert is alone in its record and whole (RFC 8446, 5.1).
    fn handle_alert(&mut self, content: &[u8]) -> Result<Opened, RecordError> {
        let [level, description]: [u8; 2] = content.try_into().map_err(|_| RecordError::Malformed)?;
        let is_warning = self.layer.version() == Version::Tls12 && level == Alert::WARNING;
        match description {
            close if close == Alert::CloseNotify as u8 => Ok(Opened::Closed),
            canceled if canceled == Alert::UserCanceled as u8 => self.count_idle(),
            _ if is_warning => self.count_idle(),
            description => Ok(Opened::Alert(description)),
        }
    }
}
