use super::*;
use crate::address::Fingerprints;

fn change(room: Fingerprint, count: u32, before: u32) -> CountChange {
    CountChange { room, count, before, appearance: 1 }
}

#[test]
fn a_home_knows_its_hosts_and_the_sum_through_random_changes() {
    let workers = 255;
    let names = Fingerprints::new((1, 2));
    let room_names: Vec<Fingerprint> = (0..5).map(|room| names.room(&format!("r://{room}"))).collect();
    let mut rooms = HomeRooms::with_capacity(8, workers);
    let mut counts = vec![vec![0_u32; workers]; room_names.len()];
    let mut random = 1_u64;
    for _ in 0..50_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (room, worker) = ((random >> 33) as usize % 5, (random >> 40) as usize % workers);
        let count = (random >> 50) as u32 % 3;
        let before = std::mem::replace(&mut counts[room][worker], count);
        let report = change(room_names[room], count, before);
        let answer = rooms.set_host_count(WorkerId(worker as u8), report);
        let total: u32 = counts[room].iter().sum();
        assert_eq!(answer, Some((total, before == 0 && count > 0)));
        while rooms.next_total_change().is_some() {}
        let hosts: Vec<usize> = (0..workers).filter(|worker| counts[room][*worker] > 0).collect();
        match rooms.find(room_names[room]) {
            Some(found) => {
                assert_eq!(rooms.hosts(found).map(WorkerId::index).collect::<Vec<_>>(), hosts);
                assert_eq!(rooms.total(found), total);
            }
            None => assert_eq!((hosts.len(), total), (0, 0)),
        }
    }
}

#[test]
fn what_was_reported_while_the_table_was_full_does_not_count() {
    let names = Fingerprints::new((1, 2));
    let (first, second) = (names.room("a://1"), names.room("a://2"));
    let mut rooms = HomeRooms::with_capacity(1, 2);
    assert_eq!(rooms.set_host_count(WorkerId(0), change(first, 3, 0)), Some((3, true)));
    assert_eq!(rooms.set_host_count(WorkerId(1), change(second, 2, 0)), None);
    assert_eq!(rooms.set_host_count(WorkerId(0), change(first, 0, 3)), Some((0, false)));
    while rooms.next_total_change().is_some() {}
    // One more has joined there before the refusal was heard; now there is room.
    assert_eq!(rooms.set_host_count(WorkerId(1), change(second, 3, 2)), Some((3, true)));
    // Of a host that is not known, nothing is taken away.
    assert_eq!(rooms.set_host_count(WorkerId(0), change(second, 0, 7)), Some((3, false)));
    assert_eq!(rooms.set_host_count(WorkerId(1), change(second, 0, 3)), Some((0, false)));
    while rooms.next_total_change().is_some() {}
    assert!(rooms.is_empty());
}

#[test]
fn what_a_room_reserves_hardly_depends_on_the_workers() {
    assert_eq!(HomeRooms::bytes_per_room(64), HomeRooms::bytes_per_room(1));
    assert_eq!(HomeRooms::bytes_per_room(255), HomeRooms::bytes_per_room(1) + 24);
}
