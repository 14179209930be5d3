//! After warm-up no worker thread allocates: not for an echo, a heartbeat, a push, a fan-out, nor
//! for clients that come and go. Counted by the allocator, so exact.

mod common;

use common::{BackendChoice, Gateway, frame, send_message, settings};
use gateway_core::alloc_guard::CountingAllocator;
use gateway_proto::body::{Join, RoomKey, Target};
use gateway_proto::frame::Operation;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn room(key: &str) -> RoomKey<'_> {
    RoomKey::parse(key.as_bytes()).unwrap()
}

/// Everything that clients do, once around.
fn workload(gateway: &Gateway, rounds: usize) {
    for round in 0..rounds {
        let mut clients: Vec<_> = (1..=20).map(|mid| gateway.login(mid, "live://1")).collect();
        let batch: Vec<u8> = (0..16).flat_map(|seq| frame(Operation(200), seq, &[7; 64])).collect();
        for client in &mut clients {
            client.write(&batch);
            (0..16).for_each(|_| drop(client.read()));
            assert_eq!(client.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
            // A frame in two halves, so that one straddles.
            let (head, tail) = batch.split_at(100);
            client.write(head);
            std::thread::yield_now();
            client.write(tail);
            (0..16).for_each(|_| drop(client.read()));
        }
        let to_user = send_message(Target::Mid(2 + (round % 10) as i64), b"hello", false);
        clients[0].send(Operation::SEND_MESSAGE, 1, &to_user);
        assert_eq!(clients[1 + round % 10].read().operation, 1000);
        assert_eq!(clients[0].read().operation, 5);
        let join = Join { room: room(["a", "b", "c"][round % 3]), since: None };
        let mut body = [0; 64];
        let size = join.emit(&mut body).unwrap();
        for client in &mut clients {
            assert_eq!(client.ask(Operation::JOIN, 1, &body[..size]).operation, 105);
        }
        clients[0].send(
            Operation::SEND_MESSAGE,
            2,
            &send_message(Target::Room(room("live://1")), &[9; 600], false),
        );
        for client in &mut clients[1..] {
            assert_eq!(client.read().body, [9; 600]);
        }
        clients[0].read();
        clients[0].read();
    }
}

fn no_allocation_after_warm_up(backend: &BackendChoice) {
    for workers in [1, 2] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        workload(&gateway, 6);
        let before = gateway.allocations();
        assert!(before > 0, "the allocator counts");
        workload(&gateway, 12);
        let after = gateway.allocations();
        assert_eq!(
            after - before,
            0,
            "allocations of {workers} workers over 240 sessions and 15 000 messages"
        );
    }
}

fn has_renewals(backend: &BackendChoice) -> bool {
    matches!(backend, BackendChoice::Epoll | BackendChoice::Uring(..))
}

/// In a silence the workers give memory back, and serve on without an allocation that would count.
fn a_silence_is_followed_by_more_of_the_same(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 64));
    workload(&gateway, 4);
    let before = gateway.allocations();
    for round in 1..=2 {
        std::thread::sleep(Duration::from_secs(6));
        let metrics = &gateway.threads.as_ref().unwrap().metrics;
        let renewals = || metrics.iter().map(|metrics| metrics.backend.renewals.get());
        // In poll mode the table keeps its addresses: it is emptied, not made anew.
        let renewed = if has_renewals(backend) { round } else { 0 };
        let until = Instant::now() + Duration::from_secs(60);
        while renewals().any(|count| count < renewed) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(renewals().all(|count| count == renewed), "{:?}", renewals().collect::<Vec<_>>());
        workload(&gateway, 4);
    }
    assert_eq!(gateway.allocations(), before);
}

on_each_backend!(no_allocation_after_warm_up, a_silence_is_followed_by_more_of_the_same);
