//! A thread for each connection, with blocking IO of the standard library: the shape of server that
//! needs no event loop.
//!
//! It speaks the gateway's frames, so that both echo the same bytes, and gathers: what one read
//! brings is answered by one write.

use super::announce::announce;
use crate::floor::listen;
use gateway_proto::frame::{Header, Operation, Peek};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Bytes that a read takes at most.
const READ_SIZE: usize = 16 << 10;
/// A thread's stack: the buffers are on the heap, and only touched pages take memory.
const STACK_SIZE: usize = 128 << 10;
/// The largest body: more than a case sends.
const BODY_SIZE_MAX: u32 = 8 << 10;

/// Serves until killed.
///
/// # Errors
/// The system's errors from the listener, or from starting a thread.
pub(super) fn serve() -> io::Result<()> {
    let (listener, port) = listen(false, 0)?;
    let listener = TcpListener::from(listener);
    announce(&[port]);
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::Builder::new()
            .stack_size(STACK_SIZE)
            // The generator notices the end of a connection, of whatever kind.
            .spawn(move || drop(echo(&stream)))?;
    }
}

/// Answers the frames of one connection until its end.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut input = vec![0; READ_SIZE];
    let mut output = Vec::with_capacity(READ_SIZE);
    let mut filled = 0;
    loop {
        let count = stream.read(&mut input[filled..])?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let used = answer(&input[..filled], &mut output)?;
        stream.write_all(&output)?;
        output.clear();
        input.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// Writes the answers to all whole frames of `input`; returns how many bytes these are.
///
/// # Errors
/// `InvalidData`: what came is no frame.
fn answer(input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
    let mut used = 0;
    loop {
        let rest = &input[used..];
        let header = match Header::peek(rest, BODY_SIZE_MAX) {
            Ok(Peek::Frame(header)) => header,
            Ok(Peek::Incomplete { .. }) => return Ok(used),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        };
        let frame = &rest[..header.frame_size()];
        if header.operation == Operation::AUTH {
            output.extend_from_slice(&header.reply(0).to_bytes());
        } else {
            output.extend_from_slice(frame);
        }
        used += frame.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_answered_and_the_rest_waits() {
        let login = [&Header::new(Operation::AUTH, 7, 2).to_bytes()[..], b"{}"].concat();
        let message = [&Header::new(Operation(200), 8, 3).to_bytes()[..], b"abc"].concat();
        let input = [&login[..], &message, &message[..5]].concat();
        let mut output = vec![];
        assert_eq!(answer(&input, &mut output).unwrap(), login.len() + message.len());
        let expected = [&Header::new(Operation::AUTH_REPLY, 7, 0).to_bytes()[..], &message].concat();
        assert_eq!(output, expected);
        assert!(answer(&[0; 16], &mut output).is_err());
    }
}
