//! The flags that every command takes, and the configuration that they, the file and the
//! environment make.

use clap::Args;
use gateway_config::files;
use gateway_config::{Config, Problems, Sources};
use gateway_core::address::mid_from_text;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Args, Clone, Debug)]
pub(super) struct Settings {
    /// Configuration file (TOML).
    #[arg(long, short, global = true, env = "GATEWAY_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set any key: --set io.backend=epoll. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same as --set io.backend=…
    #[arg(long, global = true, value_name = "BACKEND")]
    backend: Option<String>,
    /// The same as --set io.workers=…
    #[arg(long, global = true, value_name = "COUNT")]
    workers: Option<String>,
    /// The same as --set limits.connections_max=…
    #[arg(long, global = true, value_name = "COUNT")]
    connections_max: Option<String>,
    /// The same as --set control.address=…
    #[arg(long, global = true, value_name = "ADDRESS")]
    control_address: Option<String>,
    /// The same as --set log.level=…
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Why nothing could be read.
#[derive(Debug)]
pub(super) struct Usage(pub(super) String);

impl Settings {
    fn flags(&self) -> Result<Vec<(String, String, String)>, Usage> {
        let mut flags = Vec::new();
        for setting in &self.set {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(Usage(format!(
                    "--set {setting}: expected KEY=VALUE, such as --set io.backend=epoll"
                )));
            };
            flags.push((path.trim().to_owned(), value.to_owned(), format!("--set {}", path.trim())));
        }
        let short = [
            ("backend", "io.backend", &self.backend),
            ("workers", "io.workers", &self.workers),
            ("connections-max", "limits.connections_max", &self.connections_max),
            ("control-address", "control.address", &self.control_address),
            ("log-level", "log.level", &self.log_level),
        ];
        let given = short.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value.as_ref()?)));
        flags.extend(given.map(|(flag, path, value)| (path.into(), value.clone(), format!("--{flag}"))));
        Ok(flags)
    }

    fn sources(&self, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Sources, Usage> {
        let file = match &self.config {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let bytes = read(path).map_err(|error| {
                    Usage(format!("{name}: can't be read: {error}; --config names the file"))
                })?;
                let text =
                    String::from_utf8(bytes).map_err(|_| Usage(format!("{name}: is not UTF-8 text")))?;
                Some((name, text))
            }
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Ok(Sources { file, environment: environment.collect(), flags: self.flags()? })
    }
}

/// A user's number, as a flag has it.
pub(super) fn mid(text: &str) -> Result<i64, String> {
    match (mid_from_text(text), text.parse::<i64>()) {
        (Some(0), _) => Err("0 is no user; one without a number is --uid NAME".into()),
        (Some(mid), _) => Ok(mid),
        (None, Ok(mid)) => Err(format!("is this user {mid}, or --uid {text}? Write one of the two")),
        (None, Err(_)) => {
            Err(format!("expected a whole number of 64 bits, such as 7; a user with a name is --uid {text}"))
        }
    }
}

/// Reads and checks the configuration.
pub(super) fn load(settings: &Settings) -> Result<Result<Config, Problems>, Usage> {
    Ok(Config::load(&settings.sources(|path| files::read(path))?, &|file| files::read(file)))
}

/// As [`load`], while the gateway runs: of regular files only.
pub(super) fn load_again(settings: &Settings) -> Result<Result<Config, Problems>, Usage> {
    let sources = settings.sources(|path| files::read_regular(path))?;
    Ok(Config::load(&sources, &|file| files::read_regular(file)))
}
