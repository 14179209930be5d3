//! What workers on a poll-mode port supply to the control thread: the state of the port, and the
//! last frames.

use std::fmt;
use std::net::IpAddr;

/// Makes a file of the frames that workers keep.
pub struct CaptureSource(pub(super) Box<dyn Fn() -> Vec<u8> + Send + Sync>);

impl CaptureSource {
    /// `file` is called on the control thread, once a request; workers do not wait for it.
    pub fn new(file: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> CaptureSource {
        CaptureSource(Box::new(file))
    }
}

impl fmt::Debug for CaptureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureSource")
    }
}

/// State of a port and its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortState {
    /// The link is up.
    pub link_up: bool,
    /// The link comes up when another process takes its other end.
    pub waits_for_peer: bool,
    /// The check whether another host has one of the addresses is still under way.
    pub checking: bool,
    /// Own addresses that another host has.
    pub taken: Vec<IpAddr>,
}

/// Reports the state of the port.
pub struct PortSource(pub(super) Box<dyn Fn() -> PortState + Send + Sync>);

impl PortSource {
    /// `state` is called on the control thread, four times a second; workers do not wait for it.
    pub fn new(state: impl Fn() -> PortState + Send + Sync + 'static) -> PortSource {
        PortSource(Box::new(state))
    }
}

impl fmt::Debug for PortSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortSource")
    }
}
