//! What a run is asked for in addition to the load: the gateway, its backend, and what is written.

use clap::{Args, ValueEnum};
use loadtest::settings::units::Count;

/// The heading of these flags.
pub(crate) const HEADING: &str = "Gateway";

/// The backend of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GatewayBackend {
    /// io_uring.
    #[default]
    #[value(name = "io_uring")]
    IoUring,
    /// epoll.
    Epoll,
    /// A user-space TCP stack.
    Dpdk,
}

impl GatewayBackend {
    /// Its name in configurations and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            GatewayBackend::IoUring => "io_uring",
            GatewayBackend::Epoll => "epoll",
            GatewayBackend::Dpdk => "dpdk",
        }
    }

    /// Whether there is no kernel between the gateway and its clients.
    pub(crate) fn is_past(self) -> bool {
        self == GatewayBackend::Dpdk
    }
}

/// What is made around the load.
#[derive(Args, Clone, Debug)]
pub(crate) struct Orders {
    /// Scenario file; flags win over it [default: the built-in scenario `million`]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(crate) scenario: Option<String>,
    /// The gateway's program, which is started, measured and stopped; ports and sizes are chosen
    /// for it [default: `gateway` next to this program]
    #[arg(long, value_name = "PROGRAM", help_heading = HEADING)]
    pub(crate) gateway: Option<String>,
    /// Its backend
    #[arg(long, value_enum, default_value_t, help_heading = HEADING)]
    pub(crate) gateway_backend: GatewayBackend,
    /// Connections of the run to compare with; 0: none [default: 10k, or none if there are fewer]
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pub(crate) small: Option<Count>,
    /// The benchmark's program (target/release/bench), to measure the bare floor of a broadcast to
    /// as many, after the gateway; for io_uring [default: that of the stored benchmark]
    #[arg(long, value_name = "PROGRAM", help_heading = HEADING)]
    pub(crate) floor: Option<String>,
    /// File of thresholds [default: the program's own]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(crate) thresholds: Option<String>,
    /// Folder for report.json and summary.md
    #[arg(long, value_name = "FOLDER", help_heading = HEADING)]
    pub(crate) report: Option<String>,
}
