//! Handshakes through lanes, step by step and on threads.

use crate::peers::{Client, Shared, client_config};
use netpoll::{Buffer, BufferPools, ConnectionId, PoolSize, PoolsConfig, Waker, mailbox};
use netpoll_tls::{
    Answer, HandshakeError, HandshakeThreads, Lane, Lanes, Request, SharedAcceptors, Step, lanes,
};
use rustls::crypto::aws_lc_rs;
use rustls::version::TLS13;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn setup(count: usize, requests_max: usize) -> (Lanes, Vec<Lane>, BufferPools) {
    let acceptors = SharedAcceptors::new(vec![Shared::new(&[]).acceptor]);
    let (sender, lanes) = lanes(count, requests_max, &acceptors).unwrap();
    let receive = PoolSize { size: 4096, count: 64 };
    let blocks = vec![PoolSize { size: 256, count: 1 }];
    let pools = BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).unwrap();
    (sender, lanes, pools)
}

fn client() -> Client {
    Client::new(client_config(&TLS13, aws_lc_rs::default_provider()), "gateway.example")
}

fn received(pools: &mut BufferPools, bytes: &[u8]) -> Buffer {
    let mut buffer = pools.take_receive().unwrap();
    assert_eq!(buffer.append(bytes), bytes.len());
    buffer
}

fn request(index: u32, bytes: Buffer) -> Request {
    Request { worker: 0, connection: ConnectionId::new(index, 0), acceptor: 0, machine: None, bytes }
}

#[test]
fn a_handshake_goes_through_a_lane_and_leaves_what_lies_behind_it() {
    let (sender, mut lanes, mut pools) = setup(1, 4);
    let (mut client, lane) = (client(), &mut lanes[0]);
    assert!(lane.next_answer().is_none());
    sender.send(request(7, received(&mut pools, &client.flush()))).ok().unwrap();
    assert_eq!(sender.len(), 1);
    let (_, answer) = lane.next_answer().unwrap();
    assert_eq!(answer.connection, ConnectionId::new(7, 0));
    let Step::More(machine) = answer.step else { panic!("one step is not enough") };
    client.receive(&answer.output.unwrap());
    client.send(b"early");
    let bytes = received(&mut pools, &client.flush());
    sender.send(Request { machine: Some(machine), ..request(7, bytes) }).ok().unwrap();
    let (_, answer) = lane.next_answer().unwrap();
    let Step::Done(mut established) = answer.step else { panic!("two steps are enough") };
    // The rest is opened where it was received.
    let mut rest = answer.rest.unwrap();
    let opened = established.layer.opener().open(rest.as_mut_slice(), 0).unwrap();
    let netpoll_tls::Opened::Data(range) = opened else { panic!("{opened:?}") };
    assert_eq!(&rest.as_slice()[range], b"early");
    assert!(!lane.is_unused(), "the ticket lies in a block");
    drop((answer.output, rest));
    assert!(lane.is_unused() && pools.is_full());
}

#[test]
fn full_lanes_return_the_request() {
    let (sender, mut lanes, mut pools) = setup(2, 4);
    for index in 0..4 {
        // All of one lane's connections: the other lane helps.
        sender.send(request(index * 2, received(&mut pools, b"x"))).ok().unwrap();
    }
    let back = sender.send(request(9, received(&mut pools, b"back"))).err().unwrap();
    assert_eq!(back.bytes.as_slice(), b"back");
    for lane in &mut lanes {
        let answered = std::iter::from_fn(|| lane.next_answer()).count();
        assert_eq!(answered, 2);
    }
    drop(back);
    assert!(pools.is_full());
}

#[test]
fn an_unknown_acceptor_and_garbage_fail() {
    let (sender, mut lanes, mut pools) = setup(1, 4);
    let hello = client().flush();
    sender.send(Request { acceptor: 9, ..request(0, received(&mut pools, &hello)) }).ok().unwrap();
    sender.send(request(1, received(&mut pools, &[22, 3, 1, 0, 4, 1, 0, 0, 0]))).ok().unwrap();
    let (_, unknown) = lanes[0].next_answer().unwrap();
    assert!(matches!(unknown.step, Step::Failed(HandshakeError::Internal)) && unknown.output.is_none());
    let (_, garbage) = lanes[0].next_answer().unwrap();
    assert!(matches!(garbage.step, Step::Failed(HandshakeError::Malformed)));
    assert_eq!(garbage.output.unwrap()[0], 21, "an alert");
}

#[test]
fn without_a_block_a_handshake_fails_and_the_lane_goes_on() {
    let (sender, mut lanes, mut pools) = setup(1, 4);
    let (mut kept, mut failures) = (vec![], 0);
    // Peers that never take their flights keep its blocks.
    for index in 0..3000 {
        let hello = client().flush();
        sender.send(request(index, received(&mut pools, &hello))).ok().unwrap();
        let (_, Answer { output, step, .. }) = lanes[0].next_answer().unwrap();
        kept.extend(output);
        if let Step::Failed(failure) = step {
            assert_eq!(failure, HandshakeError::Overload);
            failures += 1;
            break;
        }
    }
    assert_eq!(failures, 1);
    kept.clear();
    sender.send(request(0, received(&mut pools, &client().flush()))).ok().unwrap();
    assert!(matches!(lanes[0].next_answer().unwrap().1.step, Step::More(_)));
}

/// A worker's message.
struct Message(Answer);

impl From<Answer> for Message {
    fn from(answer: Answer) -> Message {
        Message(answer)
    }
}

#[test]
fn threads_answer_to_the_workers_mailbox() {
    let (sender, lanes, mut pools) = setup(2, 64);
    let waker = Waker::event_fd().unwrap();
    // A mailbox with one place: answers wait for room and none is lost.
    let (worker, mailbox) = mailbox(1, waker.clone());
    let threads = HandshakeThreads::start(lanes, &[worker]).unwrap();
    let hello = client().flush();
    for index in 0..20 {
        sender.send(request(index, received(&mut pools, &hello))).ok().unwrap();
    }
    let mut answered = vec![];
    let lost = || threads.counts().iter().map(|counts| counts.lost.load(Ordering::Relaxed)).sum::<u64>();
    while answered.len() < 20 {
        assert_eq!(lost(), 0);
        while let Some(Message(answer)) = mailbox.pop() {
            assert!(matches!(answer.step, Step::More(_)) && answer.output.is_some());
            answered.push(answer.connection.index());
        }
        if answered.len() < 20 && mailbox.prepare_sleep() {
            waker.wait(Duration::from_secs(1));
            mailbox.finish_sleep();
        }
    }
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..20));
    let steps: u64 = threads.counts().iter().map(|counts| counts.steps.load(Ordering::Relaxed)).sum();
    assert_eq!((steps, lost()), (20, 0));
    drop(threads);
    assert!(pools.is_full());
}
