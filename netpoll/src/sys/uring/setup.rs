//! Making a ring: the best set of flags that the kernel takes, in sizes that the limits allow.
//!
//! Newer flags are dropped one set at a time when the kernel does not know them (`EINVAL`), and
//! sizes are halved when locked memory is short (`ENOMEM`: rings are charged against
//! RLIMIT_MEMLOCK, per user, without CAP_IPC_LOCK). Other errors are final.

use io_uring::IoUring;
use std::{fmt, io};

/// How the kernel delivers completions to the ring's thread, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingMode {
    /// In batches, when the thread asks for them (`SINGLE_ISSUER | DEFER_TASKRUN`, Linux 6.1).
    Deferred,
    /// At the thread's next entry into the kernel, without interrupting it (`COOP_TASKRUN`, Linux
    /// 5.19).
    Cooperative,
    /// As they occur.
    Plain,
}

/// The ring that was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSetup {
    /// Entries of the submission queue.
    pub sq_entries: u32,
    /// Entries of the completion queue.
    pub cq_entries: u32,
    /// How completions arrive.
    pub mode: RingMode,
    /// Without the indirection array of the submission queue (`NO_SQARRAY`, Linux 6.6).
    pub no_sq_array: bool,
    /// The ring's descriptor is registered: entering does not look it up each time.
    pub registered: bool,
}

impl RingMode {
    /// The mode's name in messages.
    pub const fn label(self) -> &'static str {
        match self {
            RingMode::Deferred => "deferred completions",
            RingMode::Cooperative => "cooperative completions",
            RingMode::Plain => "plain completions",
        }
    }
}

impl fmt::Display for RingSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, sq_entries, cq_entries) = (self.mode.label(), self.sq_entries, self.cq_entries);
        write!(f, "{mode}, {sq_entries} submissions, {cq_entries} completions")?;
        f.write_str(if self.no_sq_array { ", no array" } else { "" })?;
        f.write_str(if self.registered { ", registered" } else { "" })
    }
}

/// The smallest useful sizes.
const SQ_ENTRIES_MIN: u32 = 16;
const CQ_ENTRIES_MIN: u32 = 256;

impl RingSetup {
    /// The setup to ask for first.
    pub(crate) fn best(sq_entries: u32, cq_entries: u32) -> RingSetup {
        let sq_entries = sq_entries.max(SQ_ENTRIES_MIN).next_power_of_two();
        let cq_entries = cq_entries.next_power_of_two().max(sq_entries);
        RingSetup { sq_entries, cq_entries, mode: RingMode::Deferred, no_sq_array: true, registered: false }
    }

    /// Describes what was obtained when `wanted` was asked for first, and names a size that had to
    /// shrink.
    pub(crate) fn describe(self, wanted: RingSetup) -> String {
        let shrunk = self.sq_entries < wanted.sq_entries || self.cq_entries < wanted.cq_entries;
        match shrunk {
            true => format!(
                "{self} (less than the {} and {} asked for: locked memory is short)",
                wanted.sq_entries, wanted.cq_entries
            ),
            false => self.to_string(),
        }
    }

    /// The setup to ask for after `error`; `None` when no smaller one would help.
    fn step_down(self, error: &io::Error) -> Option<RingSetup> {
        match error.raw_os_error()? {
            libc::EINVAL if self.no_sq_array => Some(RingSetup { no_sq_array: false, ..self }),
            libc::EINVAL if self.mode == RingMode::Deferred => {
                Some(RingSetup { mode: RingMode::Cooperative, ..self })
            }
            libc::EINVAL if self.mode == RingMode::Cooperative => {
                Some(RingSetup { mode: RingMode::Plain, ..self })
            }
            libc::ENOMEM if self.cq_entries > CQ_ENTRIES_MIN => {
                let cq_entries = self.cq_entries / 2;
                let sq_entries = (self.sq_entries / 2).max(SQ_ENTRIES_MIN).min(cq_entries);
                Some(RingSetup { sq_entries, cq_entries, ..self })
            }
            _ => None,
        }
    }

    fn build(self) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(self.cq_entries);
        match self.mode {
            RingMode::Deferred => {
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
                builder.setup_submit_all();
            }
            RingMode::Cooperative => {
                builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
            }
            RingMode::Plain => {}
        }
        if self.no_sq_array {
            builder.setup_no_sqarray();
        }
        builder.build(self.sq_entries)
    }
}

/// Asks `attempt` for the first setup and, as it fails, for lesser ones.
fn obtain<T>(
    first: RingSetup,
    mut attempt: impl FnMut(RingSetup) -> io::Result<T>,
) -> io::Result<(T, RingSetup)> {
    let mut setup = first;
    loop {
        match attempt(setup) {
            Ok(made) => return Ok((made, setup)),
            Err(error) => match setup.step_down(&error) {
                Some(less) => setup = less,
                None => return Err(error),
            },
        }
    }
}

/// Makes the best ring that the kernel grants.
pub(super) fn make(first: RingSetup) -> io::Result<(IoUring, RingSetup)> {
    let (ring, mut setup) = obtain(first, RingSetup::build)?;
    let parameters = ring.params();
    // Everything here needs these: stable submissions, no dropped completions, a wait with a
    // timeout, silent sends. All are in Linux 5.17.
    let features = [
        parameters.is_feature_submit_stable(),
        parameters.is_feature_nodrop(),
        parameters.is_feature_ext_arg(),
        parameters.is_feature_skip_cqe_on_success(),
    ];
    if features.contains(&false) {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    setup.sq_entries = parameters.sq_entries();
    setup.cq_entries = parameters.cq_entries();
    Ok((ring, setup))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The setups that are asked for when `refuse` returns an error for them.
    fn asked(refuse: impl Fn(RingSetup) -> Option<i32>) -> (Vec<RingSetup>, Option<i32>) {
        let mut asked = Vec::new();
        let outcome = obtain(RingSetup::best(1024, 8192), |setup| {
            asked.push(setup);
            refuse(setup).map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
        });
        (asked, outcome.err().and_then(|error| error.raw_os_error()))
    }

    #[test]
    fn unknown_flags_are_dropped_set_by_set() {
        let (old, error) = asked(|setup| (setup.mode != RingMode::Plain).then_some(libc::EINVAL));
        assert_eq!(error, None);
        let seen: Vec<_> = old.iter().map(|setup| (setup.mode, setup.no_sq_array)).collect();
        assert_eq!(
            seen,
            [
                (RingMode::Deferred, true),
                (RingMode::Deferred, false),
                (RingMode::Cooperative, false),
                (RingMode::Plain, false)
            ]
        );
        assert_eq!(asked(|_| Some(libc::EINVAL)).1, Some(libc::EINVAL));
    }

    #[test]
    fn short_memory_halves_the_sizes_to_a_floor() {
        let (sizes, error) = asked(|setup| (setup.cq_entries > 1024).then_some(libc::ENOMEM));
        assert_eq!(error, None);
        assert_eq!(sizes.last().map(|setup| (setup.sq_entries, setup.cq_entries)), Some((128, 1024)));
        let (sizes, error) = asked(|_| Some(libc::ENOMEM));
        assert_eq!(error, Some(libc::ENOMEM));
        assert_eq!(sizes.last().map(|setup| setup.cq_entries), Some(CQ_ENTRIES_MIN));
    }

    #[test]
    fn a_ring_that_had_to_shrink_says_so() {
        let wanted = RingSetup::best(1024, 8192);
        assert_eq!(
            wanted.describe(wanted),
            "deferred completions, 1024 submissions, 8192 completions, no array"
        );
        let less = wanted.step_down(&io::Error::from_raw_os_error(libc::ENOMEM)).unwrap();
        let said = less.describe(wanted);
        assert!(
            said.contains("512 submissions, 4096") && said.contains("the 1024 and 8192 asked for"),
            "{said}"
        );
    }

    #[test]
    fn a_ban_is_final() {
        for number in [libc::EPERM, libc::ENOSYS, libc::EMFILE] {
            let (asked, error) = asked(|_| Some(number));
            assert_eq!((asked.len(), error), (1, Some(number)));
        }
    }
}
