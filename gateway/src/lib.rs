//! The gateway as a library: what `main.rs` puts together, and tests take apart.

pub mod address;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
mod inline_text;
pub mod metrics;
pub mod settings;
pub mod start;
pub mod start_screen;
pub mod worker {
    //! One shard of the gateway.
    pub mod message;
}

pub use inline_text::InlineText;
