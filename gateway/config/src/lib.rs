//! The configuration: what an operator writes, and what it means.
//!
//! ```text
//!   defaults ◄ file ◄ environment ◄ flags          each value with its place
//!        └────────── Values ───────────┘           every key known, every value fits its type
//!                      │ build
//!                      ▼
//!                    Config                        keys that must agree do
//!                      │ + what the system allows (SystemLimits), + backend
//!                      ▼
//!                    Plan                          workers, sizes, memory: sums that fit
//! ```
//!
//! [`schema`] declares every key once. All problems are reported at once, each with its place and
//! its remedy. A start, `gateway check` and a reload take the same steps, and so give the same
//! verdict.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

mod access;
mod backend;
mod build;
mod cgroup;
mod collide;
mod config;
mod descriptors;
mod dpdk;
mod dpdk_devices;
mod dpdk_keys;
mod dubious;
pub mod files;
pub mod fuzzing;
mod guarantee;
mod load;
pub mod memory;
mod nearest;
mod opening;
mod plan;
mod pools;
mod print;
mod problem;
pub mod schema;
mod source;
mod system;
#[cfg(test)]
mod tests;
mod units;
mod unknown;
mod value;
mod values;

pub use backend::BackendKind;
pub use cgroup::CpuQuota;
pub use collide::collide;
pub use config::{
    ApplicationConfig, Config, ConfigSource, ControlConfig, IoConfig, JournalConfig, LimitsConfig, LogConfig,
    MemoryConfig, Secret,
};
pub use dpdk::{CardWork, DpdkConfig, OwnAddress, is_pci};
pub use nearest::nearest;
pub use plan::{MemoryEntry, MemoryPlan, Plan, Reserves};
pub use pools::{blocks, largest_block};
pub use print::{effective, schema as schema_text};
pub use problem::{Origin, Problem, Problems};
pub use source::{FILE_SIZE_MAX, Sources};
pub use system::SystemLimits;
pub use units::{bytes_text, grouped};
pub use unknown::meant_section;
pub use value::{Kind, Value};
pub use values::Values;
