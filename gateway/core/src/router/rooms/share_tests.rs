use super::*;
use crate::address::{Fingerprints, WorkerId};
use crate::message::CountChange;
use crate::session::text::TextStore;

const ALONE: JoinLimit = JoinLimit { rooms_max: 255, leaving: 0, sharers: 0 };

/// The rooms of one worker, with its connections.
struct Host {
    names: Fingerprints,
    rooms: HostedRooms,
    texts: TextStore,
    sessions: Vec<SessionRooms>,
    random: u64,
}

impl Host {
    /// Tables as small as the guarantee allows: a fifth is shared.
    fn new(connections: usize, workers: usize) -> Host {
        let hosted = entries_for(connections);
        let records = records_for(hosted, workers);
        let texts = TextStore::with_capacity(3 * hosted, 0, hosted_max(records, workers));
        let rooms = HostedRooms::with_capacity(RoomSizes::of(records, workers), hosted);
        Host {
            names: Fingerprints::new((1, 2)),
            rooms: rooms.for_connections(connections, texts.room_names_max()),
            texts,
            sessions: vec![SessionRooms::EMPTY; connections],
            random: 1,
        }
    }

    fn join_as(&mut self, session: usize, room: &str, limit: JoinLimit) -> bool {
        let name = self.names.room(room);
        let rooms = &mut self.sessions[session];
        let joined = self.rooms.join(&mut self.texts, (name, room), session as u32, rooms, limit);
        self.rooms.invariants();
        self.texts.invariants();
        joined.is_ok()
    }

    fn join(&mut self, session: usize, room: &str) -> bool {
        self.join_as(session, room, ALONE)
    }

    fn leave(&mut self, session: usize, room: &str) {
        let member = self.rooms.membership(self.names.room(room), &self.sessions[session]).unwrap();
        self.rooms.leave(&mut self.texts, member, &mut self.sessions[session]);
    }

    fn rooms_of(&self, session: usize) -> usize {
        usize::from(self.sessions[session].count)
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) as usize % below
    }

    /// Every connection of `range` enters two rooms in which no other is.
    fn newcomers_find_room(&mut self, range: std::ops::Range<usize>) {
        for session in range {
            for number in 0..GUARANTEED_ROOMS {
                let room = format!("new://{session}/{number}/{:r<20}", "");
                assert!(self.join(session, &room), "room {number} of newcomer {session}");
            }
        }
    }
}

#[test]
fn newcomers_have_two_rooms_whatever_others_hold() {
    let mut host = Host::new(40, 2);
    for hog in 0..20 {
        for number in 0..32 {
            host.join(hog, &format!("hog://{hog}/{number}"));
        }
    }
    assert!((0..20).all(|hog| host.rooms_of(hog) >= 2) && !host.join(0, "hog://one more"));
    host.newcomers_find_room(20..40);
}

#[test]
fn names_as_long_as_they_get_keep_no_connection_from_a_short_one() {
    let mut host = Host::new(40, 2);
    for hog in 0..20 {
        for number in 0..32 {
            let width = if hog % 4 == 0 { 36 } else { 255 };
            host.join(hog, &format!("{:x<width$}", format!("hog://{hog}/{number}/")));
        }
    }
    host.newcomers_find_room(20..40);
}

#[test]
fn hogs_in_pairs_and_hogs_in_the_same_rooms_hold_no_more() {
    for together in [2, 20] {
        let mut host = Host::new(40, 2);
        for number in 0..32 {
            for hog in 0..20 {
                host.join(hog, &format!("hog://{}/{number}", hog / together));
            }
        }
        host.newcomers_find_room(20..40);
    }
}

/// One connection makes rooms and leaves them again, and others keep them alive: then they are
/// first rooms of no connection.
#[test]
fn rooms_that_were_passed_on_take_nothing_from_newcomers() {
    let mut host = Host::new(40, 2);
    for keeper in 1..20 {
        host.join(keeper, "keep://a");
        host.join(keeper, "keep://b");
        for number in 0..32 {
            let room = format!("hog://{keeper}/{number}");
            if host.join(0, &room) {
                host.join(keeper, &room);
                host.leave(0, &room);
            }
        }
    }
    host.newcomers_find_room(20..40);
}

/// Whatever happened, a connection that is in fewer rooms than are guaranteed enters another one,
/// and nothing is left over.
#[test]
fn the_guarantee_holds_through_random_joins_and_leaves() {
    let mut host = Host::new(16, 3);
    let mut there: Vec<Vec<String>> = vec![vec![]; 16];
    for step in 0..6000 {
        let session = host.draw(16);
        let room = match host.draw(3) {
            0 => format!("popular://{}", host.draw(4)),
            1 => format!("few://{}", host.draw(40)),
            _ => format!("own://{step}"),
        };
        let leaves = host.draw(3) == 0;
        if there[session].contains(&room) {
            continue;
        }
        if leaves && !there[session].is_empty() {
            let index = host.draw(there[session].len());
            let room = there[session].swap_remove(index);
            host.leave(session, &room);
        } else if host.join(session, &room) {
            there[session].push(room);
        } else {
            assert!(there[session].len() >= usize::from(GUARANTEED_ROOMS), "step {step}: session {session}");
        }
        if host.draw(9) == 0 {
            while host.rooms.next_count_change().is_some() {}
        }
    }
    for session in 0..16 {
        host.rooms.leave_all(&mut host.texts, &mut host.sessions[session]);
    }
    while host.rooms.next_count_change().is_some() {}
    host.rooms.invariants();
    assert!(host.rooms.is_empty() && host.texts.used_cells() == 0 && host.rooms.memberships_len() == 0);
}

#[test]
fn the_holder_of_most_is_refused_and_others_are_not() {
    let mut host = Host::new(200, 1);
    let taken = (0..200).take_while(|number| host.join(0, &format!("hog://{number}"))).count();
    assert!((20..100).contains(&taken), "{taken}: a fifth of the shared part, and its first rooms");
    for number in 0..4 {
        assert!(host.join(1, &format!("modest://{number}")), "room {number}");
    }
    assert!(!host.join(0, "hog://one more"));
}

#[test]
fn connections_of_one_user_are_one_holder() {
    let mut host = Host::new(200, 1);
    let limit = |sharers| JoinLimit { sharers, ..ALONE };
    let mut further = |first: usize, devices: u8| {
        let mut taken = 0;
        for number in 0..100 {
            for device in first..first + usize::from(devices) {
                let room = format!("user://{device}/{number}");
                taken += usize::from(number > 1 && host.join_as(device, &room, limit(devices)));
                if number <= 1 {
                    assert!(host.join_as(device, &room, limit(devices)), "its first rooms are its own");
                }
            }
        }
        for device in first..first + usize::from(devices) {
            host.rooms.leave_all(&mut host.texts, &mut host.sessions[device]);
        }
        taken
    };
    let (one, eight) = (further(0, 1), further(10, 8));
    assert!(eight <= one + 8, "eight devices hold {eight} further rooms, one {one}");
}

#[test]
fn a_room_that_all_are_in_as_their_first_is_entered_as_a_third() {
    let mut host = Host::new(40, 1);
    for session in 0..40 {
        assert!(host.join(session, "lobby://"));
    }
    for session in 0..20 {
        for room in ["a://1", "b://1"] {
            host.join(session, room);
        }
        assert_eq!(host.rooms_of(session), 3, "session {session}");
    }
}

#[test]
fn leaving_a_first_room_makes_a_further_one_the_first() {
    let mut host = Host::new(10, 1);
    for room in ["a", "b", "c"] {
        assert!(host.join(0, room));
    }
    let used = |host: &Host| host.rooms.shared_levels().map(|(used, _)| used);
    assert_eq!(used(&host), [1, 1]);
    host.leave(0, "a");
    assert_eq!((used(&host), host.rooms_of(0)), ([0, 0], 2), "nothing is shared by one that is in two rooms");
    host.rooms.invariants();
}

/// Rooms that come and go before homes hear of them need no record for longer.
#[test]
fn rooms_of_a_moment_fill_no_table() {
    let mut host = Host::new(10, 1);
    host.join(0, "stays://");
    for number in 0..1000 {
        let room = format!("moment://{number}");
        assert!(host.join(1, &room), "room {number}");
        host.leave(1, &room);
    }
    let reported = std::iter::from_fn(|| host.rooms.next_count_change()).count();
    assert!(reported >= 1);
    assert_eq!(host.rooms.len(), 1);
    // At a home: a total of which no host is to hear any more.
    let mut home = HomeRooms::with_capacity(host.rooms.capacity(), 2);
    let change = |room, count| CountChange { room, count, before: 1 - count, appearance: 1 };
    for number in 0..1000 {
        let room = host.names.room(&format!("elsewhere://{number}"));
        assert!(home.set_host_count(WorkerId(1), change(room, 1)).is_some(), "room {number}");
        assert!(home.set_host_count(WorkerId(1), change(room, 0)).is_some());
        home.invariants();
    }
    while home.next_total_change().is_some() {}
    assert!(home.is_empty());
}

/// All workers host as many different rooms as they may, and every home has a record for each of
/// its rooms.
#[test]
fn homes_have_records_for_all_that_hosts_may_hold() {
    for workers in [1_usize, 2, 3, 8] {
        let records = RoomSizes::of(records_for(entries_for(200), workers), workers).home_records;
        let mut homes: Vec<HomeRooms> =
            (0..workers).map(|_| HomeRooms::with_capacity(records, workers)).collect();
        let mut hosts: Vec<Host> = (0..workers).map(|_| Host::new(200, workers)).collect();
        for (worker, host) in hosts.iter_mut().enumerate() {
            for number in 0.. {
                let (session, room) = (number % 200, format!("room://{worker}/{number}"));
                let name = host.names.room(&room);
                let sessions = &mut host.sessions[session];
                if host.rooms.join(&mut host.texts, (name, &room), session as u32, sessions, ALONE).is_err() {
                    break;
                }
            }
            host.rooms.invariants();
        }
        for (worker, host) in hosts.iter_mut().enumerate() {
            while let Some(change) = host.rooms.next_count_change() {
                let home = &mut homes[change.room.home(workers).index()];
                let taken = home.set_host_count(WorkerId(worker as u8), change);
                assert!(taken.is_some(), "a home of {workers} is full");
            }
        }
    }
}
