//! DPDK's environment layer: memory and devices, initialized once per process.

use super::signals;
use dpdk_sys as sys;
use std::ffi::{CStr, CString};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// The oldest supported release.
const RELEASE_MIN: (u32, u32) = (22, 11);

/// The reason that DPDK can not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EalError {
    /// The loaded library is older than the oldest supported release.
    Release(String),
    /// An argument has a zero byte in it.
    Argument(String),
    /// It was started before with other arguments, and can be started only once.
    StartedOtherwise(Vec<String>),
    /// It did not start. Its messages are on stderr.
    Start(String),
    /// A thread could not be registered, or not be started.
    Thread(String),
    /// A device could not be added.
    Attach(String, String),
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EalError::Release(found) => {
                let (year, month) = RELEASE_MIN;
                write!(
                    f,
                    "{found} is loaded, DPDK {year}.{month} LTS or newer is needed: install it, and build against it"
                )
            }
            EalError::Argument(argument) => write!(f, "the argument {argument:?} has a zero byte in it"),
            EalError::StartedOtherwise(arguments) => {
                write!(f, "DPDK runs already in this process, with {arguments:?}; it can be started once")
            }
            EalError::Start(why) => {
                write!(
                    f,
                    "DPDK does not start: {why}; its own messages are above, and `gateway dpdk-check` says what is missing"
                )
            }
            EalError::Thread(why) => write!(f, "a thread can't be made known to DPDK: {why}"),
            EalError::Attach(device, why) => {
                write!(f, "the device {device} can't be added: {why}; DPDK's own messages are above")
            }
        }
    }
}

impl std::error::Error for EalError {}

/// The arguments that DPDK was started with, and the result.
type Started = (Vec<String>, Result<(), EalError>);

/// `None`: not started yet. A failed start can not be repeated either.
static STARTED: Mutex<Option<Started>> = Mutex::new(None);

/// The proof that DPDK runs in this process, which it does until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Eal(());

/// The text of a DPDK error number, negative or not.
pub(super) fn error_text(number: i32) -> String {
    // SAFETY: takes any number; the text is static or this thread's until its next call.
    let text = unsafe { sys::rte_strerror(number.saturating_abs()) };
    // SAFETY: it is a C string, and copied before anything else is called.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The last error of this thread.
pub(super) fn last_error() -> String {
    // SAFETY: reads a number of this thread.
    error_text(unsafe { sys::shim_errno() })
}

impl Eal {
    /// Starts DPDK with these arguments (those of every DPDK program, such as `--in-memory`), or
    /// returns when it was started with them before. All threads keep their processors. Real-time
    /// signals are blocked in the calling thread, so call it before other threads are started.
    ///
    /// # Errors
    /// [`EalError`].
    pub fn start(arguments: &[String]) -> Result<Eal, EalError> {
        signals::block();
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if started.is_none() {
            *started = Some((arguments.to_vec(), start(arguments)));
        }
        match started.as_ref() {
            Some((with, _)) if with != arguments => Err(EalError::StartedOtherwise(with.clone())),
            Some((_, result)) => result.clone().map(|()| Eal(())),
            None => Err(EalError::Start("it was not started".into())),
        }
    }

    /// Whether a start in this process was tried.
    pub fn was_started() -> bool {
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// DPDK's name and release, such as `DPDK 22.11.11`.
    pub fn version() -> String {
        // SAFETY: returns a static C string.
        let text = unsafe { sys::rte_version() };
        // SAFETY: as above.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Registers the calling thread, which makes allocating packet buffers cheap, and lets devices'
    /// signals reach it.
    ///
    /// # Errors
    /// [`EalError::Thread`] beyond the number of threads that DPDK was built for (128).
    pub fn enter(self) -> Result<WorkerThread, EalError> {
        // SAFETY: DPDK runs; the guard unregisters the thread when it is dropped, on the same
        // thread.
        if unsafe { sys::rte_thread_register() } != 0 {
            return Err(EalError::Thread(last_error()));
        }
        signals::unblock();
        Ok(WorkerThread { on_its_thread: PhantomData })
    }

    /// Adds a virtual device, such as `net_tap0` with `iface=tap0`, that was not among the
    /// arguments.
    ///
    /// # Errors
    /// [`EalError::Attach`].
    pub fn attach(self, name: &str, arguments: &str) -> Result<(), EalError> {
        let failed = |why: String| EalError::Attach(name.to_owned(), why);
        let name_c = CString::new(name).map_err(|error| failed(error.to_string()))?;
        let arguments = CString::new(arguments).map_err(|error| failed(error.to_string()))?;
        // SAFETY: DPDK runs; the texts are C strings, which it copies.
        let result =
            unsafe { sys::rte_eal_hotplug_add(c"vdev".as_ptr(), name_c.as_ptr(), arguments.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(failed(error_text(result))) }
    }

    /// Removes a virtual device. Its port has to be closed.
    ///
    /// # Errors
    /// [`EalError::Attach`].
    pub fn detach(self, name: &str) -> Result<(), EalError> {
        let failed = |why: String| EalError::Attach(name.to_owned(), why);
        let name_c = CString::new(name).map_err(|error| failed(error.to_string()))?;
        // SAFETY: DPDK runs; the texts are C strings.
        let result = unsafe { sys::rte_eal_hotplug_remove(c"vdev".as_ptr(), name_c.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(failed(error_text(result))) }
    }
}

/// A thread that is registered with DPDK until this is dropped.
#[derive(Debug)]
pub struct WorkerThread {
    /// Keeps the guard on its thread.
    on_its_thread: PhantomData<*const ()>,
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        signals::block();
        // SAFETY: this thread was registered when the guard was made, and the guard can not leave
        // it.
        unsafe { sys::rte_thread_unregister() };
    }
}

/// `DPDK 22.11.11` → (22, 11).
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches(|one: char| !one.is_ascii_digit()).split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

fn start(arguments: &[String]) -> Result<(), EalError> {
    let version = Eal::version();
    if release(&version).is_none_or(|found| found < RELEASE_MIN) {
        return Err(EalError::Release(version));
    }
    let mut texts = Vec::with_capacity(arguments.len() + 1);
    for argument in ["gateway"].into_iter().chain(arguments.iter().map(String::as_str)) {
        texts.push(CString::new(argument).map_err(|_| EalError::Argument(argument.to_owned()))?);
    }
    // DPDK binds the calling thread to its first processor, so it gets a thread of its own.
    let thread = std::thread::Builder::new().name("dpdk-start".into()).spawn(move || {
        // DPDK keeps pointers to its arguments, and may change their order.
        let mut pointers: Vec<_> = texts.into_iter().map(CString::into_raw).collect();
        let count = pointers.len() as i32;
        pointers.push(std::ptr::null_mut());
        let pointers = pointers.leak();
        // SAFETY: the count is that of the C strings, which live as long as the process; called
        // once, under a lock.
        let result = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        if result < 0 { Err(EalError::Start(last_error())) } else { Ok(()) }
    });
    let thread = thread.map_err(|error| EalError::Thread(error.to_string()))?;
    thread.join().unwrap_or_else(|_| Err(EalError::Start("its thread panicked".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_year_and_month() {
        assert_eq!(release("DPDK 22.11.11"), Some((22, 11)));
        assert_eq!(release("DPDK 23.03.0-rc1"), Some((23, 3)));
        assert_eq!(release("DPDK"), None);
        assert!(release(&Eal::version()) >= Some(RELEASE_MIN));
    }
}
