use super::*;
use crate::address::Fingerprints;
use crate::session::text::TextStore;

const LIMIT: JoinLimit = JoinLimit { rooms_max: 255, leaving: 0, sharers: 0 };

#[test]
fn a_host_reports_what_it_reported_before() {
    let names = Fingerprints::new((1, 2));
    let name = names.room("a://1");
    let mut rooms = HostedRooms::with_capacity(RoomSizes::of(4, 1), 4);
    let mut texts = TextStore::with_capacity(16, 0, 4);
    let mut sessions = [SessionRooms::EMPTY; 3];
    let reported =
        |rooms: &mut HostedRooms| rooms.next_count_change().map(|change| (change.before, change.count));
    for (session, list) in sessions.iter_mut().enumerate().take(2) {
        rooms.join(&mut texts, (name, "a://1"), session as u32, list, LIMIT).unwrap();
    }
    assert_eq!(reported(&mut rooms), Some((0, 2)));
    // All leave and another comes before the home has the count: for the home there were always
    // members here.
    sessions.iter_mut().for_each(|list| rooms.leave_all(&mut texts, list));
    rooms.join(&mut texts, (name, "a://1"), 2, &mut sessions[2], LIMIT).unwrap();
    assert_eq!(reported(&mut rooms), Some((2, 1)));
    rooms.leave_all(&mut texts, &mut sessions[2]);
    assert_eq!(reported(&mut rooms), Some((1, 0)));
    assert_eq!(reported(&mut rooms), None);
    assert!(rooms.is_empty());
    assert_eq!(texts.free_cells(), 16);
}

/// An answer to one member may end other connections, and what they leave may be another room's at
/// once.
#[test]
fn a_pass_over_members_outlasts_those_that_leave_meanwhile() {
    let names = Fingerprints::new((1, 2));
    let mut rooms = HostedRooms::with_capacity(RoomSizes::of(4, 1), 8);
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
