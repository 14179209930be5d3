//! Threads with descriptors of their own: together they hold more connections than RLIMIT_NOFILE
//! allows a process. This is a program of its own, because the limit is the process's.

use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, Completion, Completions, Introspect, ListenerConfig, Mailbox, MailboxSender,
    Waker, mailbox,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Descriptors of a table. A test program has fewer than thirty open.
const LIMIT: u64 = 96;
/// Connections of each of four threads.
const EACH: usize = 48;

fn listener() -> ListenerConfig {
    ListenerConfig { backlog: EACH as u32, ..ListenerConfig::new("127.0.0.1:0".parse().unwrap()) }
}

/// Polls until `done`, which is given every completion.
fn until(backend: &mut EpollBackend, mut done: impl FnMut(&mut EpollBackend, Completion) -> bool) {
    let (since, mut batch) = (Instant::now(), Completions::with_capacity(128));
    while since.elapsed() < Duration::from_secs(60) {
        backend.poll(Duration::from_millis(100), &mut batch).unwrap();
        let mut ended = false;
        for completion in batch.drain() {
            ended |= done(backend, completion);
        }
        if ended {
            return;
        }
    }
    panic!("it took too long");
}

#[allow(unsafe_code)]
fn own_descriptors(waker: Waker) -> EpollBackend {
    // SAFETY: the thread opens nothing but what its backend does, and passes none of it on; other
    // threads hold the waker.
    unsafe { EpollBackend::with_own_descriptors(&BackendConfig::small(EACH), waker) }.unwrap()
}

/// Accepts all, echoes one message of each, and stays until another thread's wake-up ends it.
fn serve(waker: Waker, mailbox: &Mailbox<()>, listening: &Sender<SocketAddr>, holds: &Sender<usize>) {
    let mut backend = own_descriptors(waker);
    let (_, address) = backend.listen(&listener()).unwrap();
    listening.send(address).unwrap();
    let mut echoed = 0;
    until(&mut backend, |backend, completion| {
        if let Completion::Received { connection, buffer } = completion {
            backend.send(connection, buffer.freeze()).unwrap();
            echoed += 1;
        }
        echoed == EACH
    });
    backend.poll(Duration::ZERO, &mut Completions::with_capacity(128)).unwrap(); // last echo
    holds.send(backend.connection_count()).unwrap();
    let (since, mut batch) = (Instant::now(), Completions::with_capacity(128));
    while mailbox.pop().is_none() {
        assert!(mailbox.prepare_sleep());
        backend.poll(Duration::from_secs(240), &mut batch).unwrap();
        mailbox.finish_sleep();
        batch.drain().for_each(drop);
    }
    assert!(since.elapsed() < Duration::from_secs(60), "no thread was woken");
}

fn connect(waker: Waker, server: SocketAddr, stay: &Receiver<()>) {
    let mut backend = own_descriptors(waker);
    for _ in 0..EACH {
        backend.connect(None, server).unwrap();
    }
    let mut echoed = 0;
    until(&mut backend, |backend, completion| {
        match completion {
            Completion::Connected { connection } => {
                let hello = backend.pools().copy(b"hello").unwrap().freeze();
                backend.send(connection, hello).unwrap();
            }
            Completion::Received { buffer, .. } => echoed += usize::from(buffer.as_slice() == b"hello"),
            Completion::Closed { reason, .. } => panic!("closed: {}", reason.label()),
            _ => {}
        }
        echoed == EACH
    });
    let _ = stay.recv(); // the connections live as long as this thread
}

#[test]
fn threads_hold_more_than_the_limit_together_and_wake_each_other() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum: before.maximum }).unwrap();
    assert!(4 * EACH as u64 > LIMIT);
    // Made before any thread leaves the process's table, and held until all have ended.
    let wakers: Vec<Waker> = (0..4).map(|_| Waker::event_fd().unwrap()).collect();
    let (listening, addresses) = channel();
    let (holds, held) = channel();
    let mut servers = Vec::new();
    let mut ends: Vec<MailboxSender<()>> = Vec::new();
    for waker in wakers[..2].iter().cloned() {
        let (end, inbox) = mailbox(4, waker.clone());
        let (listening, holds) = (listening.clone(), holds.clone());
        servers.push(std::thread::spawn(move || serve(waker, &inbox, &listening, &holds)));
        ends.push(end);
    }
    let mut clients = Vec::new();
    let mut stays = Vec::new();
    for waker in wakers[2..].iter().cloned() {
        let (go, stay) = channel::<()>();
        let address = addresses.recv_timeout(Duration::from_secs(60)).unwrap();
        clients.push(std::thread::spawn(move || connect(waker, address, &stay)));
        stays.push(go);
    }
    let counts: Vec<usize> = (0..2).map(|_| held.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
    assert_eq!(counts, [EACH, EACH]);
    drop(stays);
    clients.into_iter().for_each(|client| client.join().unwrap());
    ends.iter().for_each(|end| end.send(()).unwrap());
    servers.into_iter().for_each(|server| server.join().unwrap());
    setrlimit(Resource::Nofile, before).unwrap();
}

#[test]
fn the_probe_says_that_it_works_here() {
    EpollBackend::probe_own_descriptors().expect("close_range(2) is allowed where these tests run");
}
