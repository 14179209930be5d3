//! The connection between a coordinator and an agent: both prove that they know the secret, and
//! every frame carries a tag that only they can make. Frames are not encrypted.
//!
//! ```text
//!   agent        ─► "LTA1" nonce                       coordinator
//!   coordinator  ─► nonce, proof                       agent
//!   agent        ─► proof                              coordinator
//!   both         ─► length (4) tag (32) JSON           each other
//! ```

use crate::error::RunError;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

const GREETING: &[u8; 4] = b"LTA1";
const NONCE_SIZE: usize = 32;
const TAG_SIZE: usize = 32;
/// Results of a million connections are some megabytes a flow.
const FRAME_SIZE_MAX: usize = 1 << 30;
/// A peer has so long for its part of the handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// A shorter secret could be guessed.
const SECRET_SIZE_MIN: usize = 16;

/// What coordinator and agents know.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// Reads the secret from a file; white space around it does not count.
    ///
    /// # Errors
    /// A file that cannot be read, or a secret that is too short.
    pub(crate) fn load(path: Option<&str>) -> std::result::Result<Secret, RunError> {
        let advice = "give --secret-file FILE with the same secret on all machines: head -c 32 /dev/urandom | base64 > FILE";
        let path = path.ok_or_else(|| RunError::new("agents need a secret", advice))?;
        let text = std::fs::read(path)
            .map_err(|error| RunError::new(format!("cannot read {path}: {error}"), advice))?;
        let text = text.trim_ascii().to_vec();
        if text.len() < SECRET_SIZE_MIN {
            let what = format!("the secret in {path} is shorter than {SECRET_SIZE_MIN} bytes");
            return Err(RunError::new(what, advice));
        }
        Ok(Secret(text))
    }

    fn tag(&self, parts: [&[u8]; 3]) -> Tag {
        sign(&Key::new(HMAC_SHA256, &self.0), &parts.concat())
    }

    fn proves(&self, parts: [&[u8]; 3], proof: &[u8]) -> Result<()> {
        verify(&Key::new(HMAC_SHA256, &self.0), &parts.concat(), proof)
            .map_err(|_| Error::new(ErrorKind::PermissionDenied, "its secret is another one"))
    }
}

/// One direction of a connection: its key, its name and the frames so far.
struct Lane {
    stream: TcpStream,
    key: Key,
    name: u8,
    count: u64,
}

impl Lane {
    fn tagged(&mut self, payload: &[u8]) -> Vec<u8> {
        let count = self.count.to_be_bytes();
        self.count += 1;
        [&[self.name][..], &count, payload].concat()
    }
}

/// The end that sends.
pub(super) struct Sender(Lane);

/// The end that receives.
pub(super) struct Receiver(Lane);

impl Sender {
    /// Sends one message.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let payload = serde_json::to_vec(message)?;
        let size = u32::try_from(payload.len()).ok().filter(|size| *size as usize <= FRAME_SIZE_MAX);
        let size = size.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a frame is too large"))?;
        let tagged = self.0.tagged(&payload);
        let tag = sign(&self.0.key, &tagged);
        self.0.stream.write_all(&[&size.to_be_bytes()[..], tag.as_ref(), &payload].concat())
    }

    /// Ends the connection for both ends of it.
    pub(super) fn shut(&self) {
        let _ = self.0.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Receiver {
    /// Receives one message.
    ///
    /// # Errors
    /// The connection's, or a frame that the peer did not make.
    pub(super) fn receive<M: DeserializeOwned>(&mut self) -> Result<M> {
        let (mut size, mut tag) = ([0; 4], [0; TAG_SIZE]);
        self.0.stream.read_exact(&mut size).map_err(ended)?;
        self.0.stream.read_exact(&mut tag).map_err(ended)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > FRAME_SIZE_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "a frame is too large"));
        }
        let mut payload = Vec::new();
        let read = (&mut self.0.stream).take(size as u64).read_to_end(&mut payload)?;
        if read < size {
            return Err(ended(ErrorKind::UnexpectedEof.into()));
        }
        let tagged = self.0.tagged(&payload);
        verify(&self.0.key, &tagged, &tag)
            .map_err(|_| Error::new(ErrorKind::PermissionDenied, "a frame has a wrong tag"))?;
        Ok(serde_json::from_slice(&payload)?)
    }
}

/// An end of the stream, in words.
fn ended(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::new(ErrorKind::UnexpectedEof, "the connection ended"),
        _ => error,
    }
}

/// A peer that does not greet in time, in words.
fn silent(error: Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::new(ErrorKind::TimedOut, "it does not greet; it may be busy with another run")
        }
        _ => ended(error),
    }
}

fn nonce() -> Result<[u8; NONCE_SIZE]> {
    let mut nonce = [0; NONCE_SIZE];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::other("no random numbers"))?;
    Ok(nonce)
}

/// The ends of a connection over which both have proven the secret.
fn ends(stream: TcpStream, key: &[u8], own: u8, other: u8) -> Result<(Sender, Receiver)> {
    stream.set_read_timeout(None)?;
    let lane = |stream, name| Lane { stream, key: Key::new(HMAC_SHA256, key), name, count: 0 };
    let twin = stream.try_clone()?;
    Ok((Sender(lane(stream, own)), Receiver(lane(twin, other))))
}

const COORDINATOR: (u8, &[u8]) = (1, b"coordinator");
const AGENT: (u8, &[u8]) = (2, b"agent");

/// The agent's end.
///
/// # Errors
/// The connection's, or a peer that does not know the secret.
pub(super) fn accept(mut stream: TcpStream, secret: &Secret) -> Result<(Sender, Receiver)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_WITHIN))?;
    let (own, mut other, mut proof) = (nonce()?, [0; NONCE_SIZE], [0; TAG_SIZE]);
    stream.write_all(&[GREETING, &own[..]].concat())?;
    stream.read_exact(&mut other)?;
    stream.read_exact(&mut proof)?;
    secret.proves([COORDINATOR.1, &own, &other], &proof)?;
    stream.write_all(secret.tag([AGENT.1, &other, &own]).as_ref())?;
    ends(stream, secret.tag([b"session", &own, &other]).as_ref(), AGENT.0, COORDINATOR.0)
}

/// The coordinator's end.
///
/// # Errors
/// The connection's, or a peer that does not know the secret.
pub(super) fn greet(mut stream: TcpStream, secret: &Secret) -> Result<(Sender, Receiver)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_WITHIN))?;
    let (own, mut greeting, mut other) = (nonce()?, [0; 4], [0; NONCE_SIZE]);
    stream.read_exact(&mut greeting).map_err(silent)?;
    if greeting != *GREETING {
        return Err(Error::new(ErrorKind::InvalidData, "it is no agent of this version"));
    }
    stream.read_exact(&mut other)?;
    let proof = secret.tag([COORDINATOR.1, &other, &own]);
    stream.write_all(&[&own[..], proof.as_ref()].concat())?;
    let mut proof = [0; TAG_SIZE];
    // An agent that does not believe the proof closes the connection.
    stream.read_exact(&mut proof).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            Error::new(ErrorKind::PermissionDenied, "it refused the secret, or is busy with another run")
        }
        _ => error,
    })?;
    secret.proves([AGENT.1, &own, &other], &proof)?;
    ends(stream, secret.tag([b"session", &other, &own]).as_ref(), COORDINATOR.0, AGENT.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn secret(text: &str) -> Secret {
        Secret(text.as_bytes().to_vec())
    }

    type Ends = Result<(Sender, Receiver)>;

    /// What both ends come to.
    fn pair(one: Secret, other: Secret) -> (Ends, Ends) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let agent = std::thread::spawn(move || accept(listener.accept().unwrap().0, &one));
        let coordinator = greet(TcpStream::connect(address).unwrap(), &other);
        (coordinator, agent.join().unwrap())
    }

    #[test]
    fn messages_pass_between_two_that_know_the_secret() {
        let (coordinator, agent) = pair(secret("0123456789abcdef"), secret("0123456789abcdef"));
        let ((mut to_agent, mut from_agent), (mut to_coordinator, mut from_coordinator)) =
            (coordinator.unwrap(), agent.unwrap());
        for text in ["one", "two"] {
            to_agent.send(&text).unwrap();
            assert_eq!(from_coordinator.receive::<String>().unwrap(), text);
        }
        to_coordinator.send(&vec![1, 2, 3]).unwrap();
        assert_eq!(from_agent.receive::<Vec<u32>>().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn another_secret_is_refused_by_both() {
        let (coordinator, agent) = pair(secret("0123456789abcdef"), secret("fedcba9876543210"));
        assert_eq!(agent.err().unwrap().kind(), ErrorKind::PermissionDenied);
        assert_eq!(coordinator.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_frame_that_is_changed_repeated_or_left_out_is_refused() {
        for change in 0..3 {
            let (coordinator, agent) = pair(secret("0123456789abcdef"), secret("0123456789abcdef"));
            let ((mut sender, _), (_, mut receiver)) = (coordinator.unwrap(), agent.unwrap());
            let payload = serde_json::to_vec("stop").unwrap();
            let tagged = sender.0.tagged(&payload);
            let tag = sign(&sender.0.key, &tagged);
            let frame = [&(payload.len() as u32).to_be_bytes()[..], tag.as_ref(), &payload].concat();
            match change {
                0 => {
                    let mut changed = frame;
                    changed[40] ^= 1;
                    sender.0.stream.write_all(&changed).unwrap();
                }
                1 => {
                    sender.0.stream.write_all(&[frame.clone(), frame].concat()).unwrap();
                    assert_eq!(receiver.receive::<String>().unwrap(), "stop");
                }
                _ => sender.send(&"next").unwrap(),
            }
            let error = receiver.receive::<String>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{change}");
        }
    }

    #[test]
    fn a_secret_is_long_enough() {
        let path = std::env::temp_dir().join(format!("loadtest-secret-{}", std::process::id()));
        std::fs::write(&path, "short\n").unwrap();
        let error = Secret::load(path.to_str()).err().unwrap().to_string();
        assert!(error.contains("shorter than 16"), "{error}");
        std::fs::write(&path, "  0123456789abcdef\n").unwrap();
        assert_eq!(Secret::load(path.to_str()).unwrap().0, b"0123456789abcdef");
        std::fs::remove_file(path).unwrap();
        assert!(Secret::load(None).err().unwrap().to_string().contains("--secret-file"));
    }
}
