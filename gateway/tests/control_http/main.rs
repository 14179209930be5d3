//! The control thread end to end: real HTTP in front, fake workers behind.

#![allow(unreachable_pub)]

mod api;
mod fake;
mod goim;
mod lifecycle;
mod limits;
mod metrics;
mod openapi;
mod signals;
mod wire;
