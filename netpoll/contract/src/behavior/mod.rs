//! The behaviors, by subject. Each takes a seed, builds its own world and ends it.

pub mod chaos;
pub mod closing;
pub mod crowds;
pub mod dropping;
pub mod finishing;
pub mod half_closing;
pub mod handover;
pub mod opening;
pub mod pools;
pub mod queues;
pub mod stopping;
pub mod streams;
pub mod waiting;
