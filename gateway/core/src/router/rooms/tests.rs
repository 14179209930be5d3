use super::*;
use crate::address::{Fingerprints, WorkerId};
use crate::message::CountChange;
use crate::session::text::TextStore;

const LIMIT: JoinLimit = JoinLimit { rooms_max: 255, leaving: 0, sharers: 0 };

fn change(room: Fingerprint, count: u32, before: u32) -> CountChange {
    CountChange { room, count, before, appearance: 1 }
}

#[test]
fn a_home_knows_its_hosts_and_the_sum_through_random_changes() {
    let workers = 255;
    let names = Fingerprints::new((1, 2));
    let room_names: Vec<Fingerprint> = (0..5).map(|room| names.room(&format!("r://{room}"))).collect();
    let mut rooms = Rooms::with_capacity(8, 8, workers);
    let mut counts = vec![vec![0_u32; workers]; room_names.len()];
    let mut random = 1_u64;
    for _ in 0..50_000 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (room, worker) = ((random >> 33) as usize % 5, (random >> 40) as usize % workers);
        let count = (random >> 50) as u32 % 3;
        let before = std::mem::replace(&mut counts[room][worker], count);
        let told = change(room_names[room], count, before);
        let answer = rooms.set_host_count(WorkerId(worker as u8), told);
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
fn what_was_told_while_the_table_was_full_does_not_count() {
    let names = Fingerprints::new((1, 2));
    let (first, second) = (names.room("a://1"), names.room("a://2"));
    let mut rooms = Rooms::with_capacity(1, 4, 2);
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
fn a_host_tells_what_it_said_before() {
    let names = Fingerprints::new((1, 2));
    let name = names.room("a://1");
    let mut rooms = Rooms::with_capacity(4, 4, 1);
    let mut texts = TextStore::with_capacity(16, 0, 4);
    let mut sessions = [SessionRooms::EMPTY; 3];
    let told = |rooms: &mut Rooms| rooms.next_count_change().map(|change| (change.before, change.count));
    for (session, list) in sessions.iter_mut().enumerate().take(2) {
        rooms.join(&mut texts, (name, "a://1"), session as u32, list, LIMIT).unwrap();
    }
    assert_eq!(told(&mut rooms), Some((0, 2)));
    // All leave and another comes before the home has the count: for the home there were always
    // members here.
    sessions.iter_mut().for_each(|list| rooms.leave_all(&mut texts, list));
    rooms.join(&mut texts, (name, "a://1"), 2, &mut sessions[2], LIMIT).unwrap();
    assert_eq!(told(&mut rooms), Some((2, 1)));
    rooms.leave_all(&mut texts, &mut sessions[2]);
    assert_eq!(told(&mut rooms), Some((1, 0)));
    assert_eq!(told(&mut rooms), None);
    assert!(rooms.is_empty());
    assert_eq!(texts.free_cells(), 16);
}

/// An answer to one member may end other connections, and what they leave may be another room's at
/// once.
#[test]
fn a_pass_over_members_outlasts_those_that_leave_meanwhile() {
    let names = Fingerprints::new((1, 2));
    let mut rooms = Rooms::with_capacity(4, 8, 1);
    let mut texts = TextStore::with_capacity(16, 0, 4);
    let mut sessions = [SessionRooms::EMPTY; 5];
    let passed = names.room("a://1");
    for (session, list) in sessions.iter_mut().enumerate().take(4) {
        rooms.join(&mut texts, (passed, "a://1"), session as u32, list, LIMIT).unwrap();
    }
    rooms.begin_pass(rooms.find(passed).unwrap());
    let first = rooms.next_in_pass().unwrap();
    assert_eq!(rooms.session_of(first), 3, "the newest");
    // The next two leave, and a connection joins another room in a record of theirs.
    for gone in [1, 2] {
        rooms.leave_all(&mut texts, &mut sessions[gone]);
    }
    let other = (names.room("b://2"), "b://2");
    let member = rooms.join(&mut texts, other, 4, &mut sessions[4], LIMIT).unwrap();
    assert!(rooms.must_wait(member, Awaiting::Join, 7));
    let rest: Vec<MemberIndex> = std::iter::from_fn(|| rooms.next_in_pass()).collect();
    let rest: Vec<u32> = rest.into_iter().map(|member| rooms.session_of(member)).collect();
    assert_eq!(rest, [0], "of those that are left, and of no other room");
    assert!(rooms.is_awaiting(member));
    rooms.begin_pass(rooms.find(passed).unwrap()); // the last one has ended
    // A member that leaves as the last of a pass ends it.
    assert!(rooms.next_in_pass().is_some());
    rooms.leave_all(&mut texts, &mut sessions[0]);
    assert_eq!(rooms.next_in_pass(), None);
}

#[test]
fn what_a_room_reserves_hardly_depends_on_the_workers() {
    assert_eq!(Rooms::bytes_per_room(64), Rooms::bytes_per_room(1));
    assert_eq!(Rooms::bytes_per_room(255), Rooms::bytes_per_room(1) + 24);
}
