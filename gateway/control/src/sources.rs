//! What workers past the kernel supply to the control thread: the state of their port, and the last
//! frames.

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

/// What a port and its host are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortState {
    /// The link is up.
    pub link_up: bool,
    /// The link comes up when another process takes its other end.
    pub waits_for_peer: bool,
    /// It is still being found out if others have one of the addresses.
    pub checking: bool,
    /// Own addresses that another host has.
    pub taken: Vec<IpAddr>,
}

/// Says what the port is like now.
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
