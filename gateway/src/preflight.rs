//! Checks of a valid configuration against this machine.
//!
//! A problem keeps the gateway from starting, or from doing what the configuration asks for: a
//! start and `gateway check` fail on it alike. Ports are tried by the check alone, for a start
//! takes them itself. A warning is allowed, and shown.

use crate::start::Prepared;
use gateway_config::{Config, JournalConfig};
use gateway_control::ports;
use rustix::fs::{Access, access};
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What a start fails on.
    pub problems: Vec<String>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// What a start and a check look at.
pub fn look(config: &Config) -> Findings {
    let mut findings = Findings::default();
    findings.problems.extend(config.control.cpu.and_then(|cpu| core("control.cpu", cpu)));
    if let Some(journal) = &config.journal {
        self::journal(journal, &mut findings);
    }
    for key in ["auth.key_file", "auth.jwks_file", "control.api_key_file"] {
        let file = config.source.values.text(key);
        findings.warnings.extend(writable_by_all(key, &file));
    }
    findings.warnings.extend(config.source.file.as_ref().and_then(|file| writable_by_all("--config", file)));
    findings
}

/// Whether a start would have the journal's folder to itself now.
pub fn journal_is_free(config: &Config) -> Option<String> {
    Some(gateway_control::Claim::check(config.journal.as_ref()?).err()?.to_string())
}

/// Whether a start would get its ports now.
pub fn ports(prepared: &Prepared) -> Vec<String> {
    let control = ("control.address".to_owned(), prepared.config.control.address);
    let all = prepared.plan.kernel_ports(&prepared.config).chain([control]);
    let taken = all.filter_map(|(key, address)| ports::check(&key, address).err());
    taken.map(|error| error.to_string()).collect()
}

/// A core that threads can't be bound to here.
fn core(key: &str, cpu: usize) -> Option<String> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let is_allowed = |cpu: usize| cpu < rustix::thread::CpuSet::MAX_CPU && allowed.is_set(cpu);
    if is_allowed(cpu) {
        return None;
    }
    let cores: Vec<String> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| is_allowed(*cpu))
        .map(|cpu| cpu.to_string())
        .collect();
    let cores = cores.join(", ");
    Some(format!(
        "{key} = {cpu}: this process may not run there; it may on {cores}: write one of these, or -1 for any"
    ))
}

/// Warns about key files that other users may write: writing one, or its folder, decides which
/// tokens are accepted.
fn writable_by_all(key: &str, file: &str) -> Option<String> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let path = Path::new(file);
    let mode = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.mode());
    if mode(path)? & OTHERS_WRITE != 0 {
        return Some(format!("{key} = \"{file}\" may be written by every user: `chmod o-w {file}`"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let mode = mode(folder)?;
    let shown = folder.display();
    (mode & OTHERS_WRITE != 0 && mode & STICKY == 0).then(|| {
        format!("{key} = \"{file}\" may be replaced by every user, for {shown} may be written by all: `chmod o-w {shown}`")
    })
}

/// Whether lines can be written to the journal's folder. A failure is a problem: a configured audit
/// journal must not turn out to be missing afterwards.
fn journal(config: &JournalConfig, findings: &mut Findings) {
    let directory = config.directory.as_path();
    let shown = directory.display();
    let make = "make it for the gateway's user by `install -d -o USER";
    let cant = |what: &dyn Display| {
        format!("journal.directory = \"{shown}\" {what}; or write journal.enabled = false")
    };
    if directory.is_dir() {
        if let Err(error) = access(directory, Access::WRITE_OK | Access::EXEC_OK) {
            findings.problems.push(cant(&format!(
                "can't be written by this user: {error}; give it to the gateway's user by `chown USER {shown}`, or run \
                 this as that user"
            )));
        }
        return;
    }
    if directory.exists() {
        return findings.problems.push(cant(&"is no folder; write the name of one"));
    }
    // The gateway makes it, if it may.
    let above = directory.ancestors().skip(1).find(|above| above.exists());
    let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if above.is_dir() && access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        findings.warnings.push(format!(
            "journal.directory = \"{shown}\" does not exist; the start makes it, or {make} {shown}`"
        ));
    } else {
        findings.problems.push(cant(&format!(
            "does not exist, and this user can't make it in {}: nothing would be journaled; {make} {shown}`",
            above.display()
        )));
    }
}
