//! Where io_uring is forbidden, unknown or short of memory: with the kernel's own seccomp filters,
//! which bind only the thread that installs them.
#![allow(unsafe_code)]

use netpoll::uring::probe;
use netpoll::{BackendConfig, UringBackend, UringConfig};

/// From linux/filter.h and linux/seccomp.h: load the call's number; if it is `call`, fail with
/// `error`; allow.
fn deny(call: libc::c_long, error: i32) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: takes no pointer.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program and its steps are live locals; the kernel copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The results of the probe and of the backend on a thread where `call` fails with `error`.
fn without(call: libc::c_long, error: i32) -> (String, Option<i32>) {
    std::thread::spawn(move || {
        deny(call, error);
        let message = probe().expect_err("the probe must notice").to_string();
        let made = UringBackend::new(&BackendConfig::small(4), &UringConfig::default());
        (message, made.err().and_then(|error| error.raw_os_error()))
    })
    .join()
    .unwrap()
}

#[test]
fn it_works_here() {
    let features = probe().expect("io_uring works on the machine that runs these tests");
    assert!(features.to_string().starts_with("io_uring works"), "{features}");
    let backend = UringBackend::new(&BackendConfig::small(4), &UringConfig::default()).unwrap();
    assert_eq!(backend.setup().mode, features.setup.mode);
}

#[test]
fn a_ban_is_named() {
    let (message, number) = without(libc::SYS_io_uring_setup, libc::EPERM);
    assert!(message.contains("making a ring") && message.contains("seccomp"), "{message}");
    assert_eq!(number, Some(libc::EPERM));
}

#[test]
fn a_ban_on_registering_or_entering_is_found_too() {
    let (message, number) = without(libc::SYS_io_uring_register, libc::EPERM);
    assert!(message.contains("seccomp"), "{message}");
    assert_eq!(number, Some(libc::EPERM));
    let (message, _) = without(libc::SYS_io_uring_enter, libc::EPERM);
    assert!(message.contains("sending through a ring") && message.contains("seccomp"), "{message}");
}

#[test]
fn an_unknown_call_is_named() {
    let (message, number) = without(libc::SYS_io_uring_setup, libc::ENOSYS);
    assert!(message.contains("kernel or sandbox"), "{message}");
    assert_eq!(number, Some(libc::ENOSYS));
}

#[test]
fn short_memory_is_named_after_smaller_sizes_were_tried() {
    let (message, number) = without(libc::SYS_io_uring_setup, libc::ENOMEM);
    assert!(message.contains("RLIMIT_MEMLOCK"), "{message}");
    assert_eq!(number, Some(libc::ENOMEM));
}

#[test]
fn a_table_beyond_the_limit_on_descriptors_is_refused() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    let config = BackendConfig::small(limit as usize + 1);
    let error =
        UringBackend::new(&config, &UringConfig::default()).err().expect("more than the table may hold");
    assert!([Some(libc::EMFILE), Some(libc::EINVAL)].contains(&error.raw_os_error()), "{error}");
}
