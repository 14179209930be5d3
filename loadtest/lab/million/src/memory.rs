//! Memory that the host of a virtual machine has already given, so that a run measures the gateway
//! and not the host.
//!
//! A hypervisor gives memory when it is touched for the first time, and takes free memory back
//! where the guest reports it (`mm/page_reporting.c`, virtio-balloon's free page reporting). For
//! the kernel's fresh slabs that was a fifth of both processors in a ramp to a million
//! (docs/decisions/0017). A physical machine has neither.

use loadtest::report::units::bytes;
use loadtest::{kernel, note};
use std::hint::black_box;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Free blocks of this order (4 KiB << order) and larger are reported to the host; -1 where no
/// device asks for reports.
const REPORTED: &str = "/sys/module/page_reporting/parameters/page_reporting_order";
/// The largest order of free blocks.
const ORDER_MAX: u32 = 10;
/// Bytes left alone, for whatever else runs here.
const SPARED: u64 = 1 << 30;
/// The free memory that the kernel takes first is not known, so more is touched than a run needs.
const TOUCHED_TO_NEEDED: u64 = 4;
/// A run that needs less is over before it matters.
const WORTH_IT: u64 = 1 << 30;
/// Bytes that are touched between two checks of `stop`.
const STEP: usize = 64 << 20;
/// A script that waits for the end of its input, which is that of this program however it ends, and
/// then sets the order back.
const KEEPER: &str = "trap '' INT TERM HUP; cat >/dev/null; echo \"$1\" >\"$2\"";

/// Holds the memory while it lives; when it is dropped, reporting is as it was.
pub(crate) struct MemoryPrefault {
    keeper: Option<Child>,
    /// What was done, for the report.
    pub(crate) note: Option<String>,
}

impl MemoryPrefault {
    /// Stops the host from taking free memory back, then touches `needed` bytes of it and more,
    /// where this is a virtual machine that reports free memory and this process may stop that
    /// (root, not in a container). Elsewhere it does nothing. Takes up to a minute, or until
    /// `stop`.
    pub(crate) fn begin(needed: u64, stop: &AtomicBool) -> MemoryPrefault {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let order = std::fs::read_to_string(REPORTED).ok().and_then(|order| order.trim().parse::<u32>().ok());
        let (Some(order), true, true) = (order, is_virtual(&flags), needed >= WORTH_IT) else {
            return MemoryPrefault { keeper: None, note: None };
        };
        match stop_reporting(order) {
            Ok(keeper) => {
                let since = Instant::now();
                let size = share(needed, kernel::memory_free().min(kernel::memory_left_in_cgroup()));
                note!(
                    "memory: touching {}, so that the host of this virtual machine gives it now …",
                    bytes(size as f64)
                );
                let size = touch(size, stop);
                let note = format!(
                    "memory: a virtual machine, so {} were touched once in {:.1} s before the run, for the host gives them only then; \
                     none is given back meanwhile (page_reporting_order)",
                    bytes(size as f64),
                    since.elapsed().as_secs_f64()
                );
                MemoryPrefault { keeper, note: Some(note) }
            }
            Err(error) => {
                let note =
                    format!("memory: as the host of this virtual machine gives it ({REPORTED}: {error})");
                MemoryPrefault { keeper: None, note: Some(note) }
            }
        }
    }
}

/// Stops the reporting of free blocks. Returns the process that sets it back; `None` where none was
/// reported before.
fn stop_reporting(order: u32) -> io::Result<Option<Child>> {
    if order > ORDER_MAX {
        return Ok(None);
    }
    let keeper = Command::new("sh")
        .args(["-c", KEEPER, "sh", &order.to_string(), REPORTED])
        .stdin(Stdio::piped())
        .spawn()?;
    let keeper = MemoryPrefault { keeper: Some(keeper), note: None };
    std::fs::write(REPORTED, (ORDER_MAX + 1).to_string())?;
    let now = std::fs::read_to_string(REPORTED)?;
    if now.trim().parse::<u32>().is_ok_and(|order| order > ORDER_MAX) {
        return Ok(keeper.into_keeper());
    }
    Err(io::Error::other(format!("it stays at {}", now.trim())))
}

impl MemoryPrefault {
    fn into_keeper(mut self) -> Option<Child> {
        self.keeper.take()
    }
}

impl Drop for MemoryPrefault {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            drop(keeper.stdin.take());
            if !keeper.wait().is_ok_and(|status| status.success()) {
                note!(
                    "million: {REPORTED} could not be set back; write the number there that it should be (9 is the kernel's)"
                );
            }
        }
    }
}

/// Whether there is a host underneath (the flag that a hypervisor sets in CPUID leaf 1).
fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_ascii_whitespace).any(|flag| flag == "hypervisor")
}

/// Bytes of `free` to touch for a run that needs `needed`.
fn share(needed: u64, free: u64) -> u64 {
    (needed * TOUCHED_TO_NEEDED).min(free.saturating_sub(SPARED))
}

/// Writes so many bytes, on all processors, and releases them; returns how many it had, up to
/// `stop`.
fn touch(size: u64, stop: &AtomicBool) -> u64 {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let each = usize::try_from(size).unwrap_or(0) / threads;
    // All at once: what one thread released would be what another gets.
    let touched: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| touched(each, stop))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    black_box(&touched).iter().map(|block| block.len() as u64).sum()
}

fn touched(size: usize, stop: &AtomicBool) -> Vec<u8> {
    let mut block = Vec::new();
    if block.try_reserve_exact(size).is_ok() {
        while block.len() < size && !stop.load(Ordering::Relaxed) {
            block.resize(size.min(block.len() + STEP), 1);
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machine_says_so() {
        assert!(is_virtual("processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"));
        assert!(!is_virtual("model name\t: no hypervisor here\nflags\t\t: fpu vme\n"));
    }

    #[test]
    fn the_machine_keeps_room_for_others() {
        assert_eq!(share(1 << 30, 64 << 30), 4 << 30);
        assert_eq!(share(8 << 30, 22 << 30), 21 << 30);
        assert_eq!(share(8 << 30, 1 << 20), 0);
    }

    #[test]
    fn every_byte_is_written_or_none() {
        let goes_on = AtomicBool::new(false);
        let block = touched(STEP + 5, &goes_on);
        assert_eq!((block.len(), block.iter().all(|byte| *byte == 1)), (STEP + 5, true));
        assert!(touched(usize::MAX / 4, &goes_on).is_empty());
        assert_eq!(touch(2 << 20, &goes_on), 2 << 20);
    }

    #[test]
    fn a_stopped_prefault_touches_nothing_more() {
        assert_eq!(touch(2 << 20, &AtomicBool::new(true)), 0);
    }

    #[test]
    fn the_keeper_sets_the_order_back_at_the_end_of_its_input() {
        let path = std::env::temp_dir().join(format!("million-order-{}", std::process::id()));
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", "9"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!path.exists());
        drop(MemoryPrefault { keeper: Some(keeper), note: None });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "9\n");
        std::fs::remove_file(&path).unwrap();
    }
}
