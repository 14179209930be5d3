//! Reloading the configuration while running (SIGHUP).
//!
//! The new configuration is read and checked first, then what would be in force: the new values of
//! what may change while running with the old ones of what may not. A bad one changes nothing, nor
//! does one that opens what was closed by leaving something out ([`Config::reloaded`]). What may
//! not change while running is named in one log line.

use super::control::Control;
use gateway_auth::{TokenPolicy, Verifier};
use gateway_config::files;
use gateway_config::{Config, Origin, Problems};
use gateway_core::message::Message;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A worker with a full mailbox gets this long to take a message that must not be lost.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// Longest wait for a file system that hangs.
const READ_MAX: Duration = Duration::from_secs(5);

/// Bytes of the problems that are journaled at most.
const PROBLEMS_SIZE_MAX: usize = 2000;

/// Reads the configuration again, from where it was read at the start.
#[derive(Clone)]
pub struct ReloadSource(Arc<dyn Fn() -> Result<Config, Problems> + Send + Sync>);

impl ReloadSource {
    /// Reads with `load`.
    pub fn new(load: impl Fn() -> Result<Config, Problems> + Send + Sync + 'static) -> ReloadSource {
        ReloadSource(Arc::new(load))
    }
}

impl fmt::Debug for ReloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReloadSource")
    }
}

/// Changes the log level.
#[derive(Clone)]
pub struct LogHandle(Arc<dyn Fn(tracing::Level) + Send + Sync>);

impl LogHandle {
    /// Changes it with `set`.
    pub fn new(set: impl Fn(tracing::Level) + Send + Sync + 'static) -> LogHandle {
        LogHandle(Arc::new(set))
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

/// Reads, checks and applies. Says what happened in the log, the journal and the metrics.
pub(super) async fn reload(control: &Control, source: &ReloadSource, log: &LogHandle) {
    let old = control.config();
    let (new, in_force) = match read(Arc::clone(&old), source.clone()).await {
        Ok((new, in_force)) => (new, Arc::new(in_force)),
        Err(problems) => return refuse(control, &problems),
    };
    let (mut applied, mut waiting) = (Vec::new(), Vec::new());
    for (path, _) in old.source.values.changes(&new.source.values) {
        let applies = in_force.source.values.get(&path) == new.source.values.get(&path);
        // Without a verifier keys of tokens are not used.
        let applies = applies && (control.verifier.is_some() || !path.starts_with("auth."));
        if applies { applied.push(path) } else { waiting.push(path) }
    }
    if in_force.reloadable != old.reloadable {
        send_to_all(control, || Message::Reload(Arc::new(in_force.reloadable.clone()))).await;
    }
    (log.0)(in_force.log.level);
    if let (Some(verifier), Some(policy)) = (&control.verifier, &in_force.auth) {
        take_keys(control, verifier, policy);
    }
    let warnings = in_force.source.warnings.clone();
    control.set_config(in_force);
    control.metrics.count_reload(true);
    control.journal.record("reload", serde_json::json!({ "applied": applied, "need_restart": waiting }));
    tracing::info!("configuration reloaded; changed: {}", or_nothing(&applied));
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if !waiting.is_empty() {
        tracing::warn!("these changes need a restart: {}", waiting.join(", "));
    }
}

/// Reads and checks on a thread of its own: the thread that serves signals and `/healthz` never
/// waits for a file.
async fn read(old: Arc<Config>, source: ReloadSource) -> Result<(Config, Config), Problems> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let check = move || {
        let new = (source.0)()?;
        let in_force = old.reloaded(&new, &|file| files::read_regular(file))?;
        Ok((new, in_force))
    };
    let thread = std::thread::Builder::new().name("reload".into()).spawn(move || drop(answer.send(check())));
    let why = match (thread, tokio::time::timeout(READ_MAX, answered).await) {
        (Ok(_), Ok(Ok(checked))) => return checked,
        (Err(error), _) => format!("no thread to read the files with: {error}"),
        (Ok(_), Ok(Err(_))) => "the check of the configuration has failed; please report it".to_owned(),
        (Ok(_), Err(_)) => {
            format!("its files were not read within {} s; look at their file system", READ_MAX.as_secs())
        }
    };
    let mut problems = Problems::default();
    problems.push(&Origin::Default, "", why);
    Err(problems)
}

fn refuse(control: &Control, problems: &Problems) {
    control.metrics.count_reload(false);
    let text = problems.to_string();
    let mut end = PROBLEMS_SIZE_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    control.journal.record("reload_refused", serde_json::json!({ "problems": text[..end] }));
    tracing::error!("the configuration was not reloaded, the old one stays in force:\n{text}");
}

fn or_nothing(paths: &[String]) -> String {
    if paths.is_empty() { "nothing (key files were read again)".into() } else { paths.join(", ") }
}

fn take_keys(control: &Control, verifier: &Verifier, new: &TokenPolicy) {
    let mut policy = TokenPolicy::clone(&verifier.policy());
    let in_use = |number| control.workers.metrics().iter().any(|worker| worker.token_keys.of(number) > 0);
    policy.keys = new.keys.clone().in_place_of(&policy.keys, in_use);
    let without: Vec<&str> = policy.keys.unnumbered().collect();
    if !without.is_empty() {
        tracing::warn!(
            "255 earlier keys have sessions, so sessions of {} can not be closed by their kid",
            without.join(", ")
        );
    }
    verifier.set_policy(Arc::new(policy));
}

/// Hands every worker a message that must not be lost; waits a little for workers with a full
/// mailbox.
pub(super) async fn send_to_all(control: &Control, message: impl Fn() -> Message) {
    let deadline = Instant::now() + HAND_OVER_MAX;
    for worker in control.workers.ids() {
        while control.workers.send(worker, message()).is_err() {
            if Instant::now() >= deadline {
                tracing::error!(
                    worker = worker.0,
                    "the worker's mailbox stays full; it did not get {:?}",
                    message()
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
