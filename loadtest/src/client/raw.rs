//! Bare bytes and bare WebSocket messages: what a server costs without a protocol of its own.
//!
//! A plain TCP stream is cut into messages of one fixed size. A connection is ready as soon as it
//! is connected (or upgraded). The same bytes serve as echo and, where the server sends each
//! message of one connection to all, as bare fan-out.

use super::template::{Template, payload};
use super::websocket::{Upgrade, read_messages, upgraded};
use super::{Carrier, Link, Progress, Protocol, Sink, Stage, Violation};
use crate::plan::FlowPlan;

/// Plain TCP, messages of a fixed size.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    /// Size of every message, in bytes.
    pub(crate) size: usize,
}

impl Protocol for Raw {
    fn hello(&self, _: u32, link: &mut Link, _: &mut Vec<u8>) {
        link.stage = Stage::Ready;
    }

    fn receive(
        &self,
        _: u32,
        _: &mut Link,
        input: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<Progress, Violation> {
        let whole = input.len() / self.size * self.size;
        input[..whole].chunks_exact(self.size).for_each(|message| sink.message(Carrier::Bare, message));
        let needed = if whole == input.len() { 0 } else { self.size };
        Ok(Progress { consumed: whole, needed })
    }

    fn template(&self, flow: &FlowPlan) -> Template {
        Template::new(payload(flow.payload_size), Some(0), None, None)
    }

    fn heartbeat(&self) -> Option<Template> {
        None
    }
}

/// WebSocket binary messages that the server echoes or fans out.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketRaw {
    pub(crate) upgrade: Upgrade,
}

impl Protocol for WebSocketRaw {
    fn hello(&self, index: u32, link: &mut Link, out: &mut Vec<u8>) {
        if link.stage == Stage::Connecting {
            self.upgrade.request(index, out);
            link.stage = Stage::Upgrading;
        } else {
            link.stage = Stage::Ready;
        }
    }

    fn receive(
        &self,
        index: u32,
        link: &mut Link,
        input: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<Progress, Violation> {
        let mut start = 0;
        if link.stage == Stage::Upgrading {
            let progress = self.upgrade.verify(index, input)?;
            if progress.consumed == 0 {
                return Ok(progress);
            }
            upgraded(link);
            link.stage = Stage::Ready;
            start = progress.consumed;
        }
        let progress = read_messages(&mut link.decoder, &mut input[start..], sink, |message, sink| {
            sink.message(Carrier::Bare, message);
            Ok(())
        })?;
        Ok(Progress { consumed: start + progress.consumed, needed: progress.needed })
    }

    fn template(&self, flow: &FlowPlan) -> Template {
        Template::new(payload(flow.payload_size), Some(0), None, None).in_websocket()
    }

    fn heartbeat(&self) -> Option<Template> {
        None
    }
}
