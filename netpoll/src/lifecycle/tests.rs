//! The life of connections without a backend.

use super::*;

impl Slot for Life {
    fn life(&self) -> &Life {
        self
    }
    fn life_mut(&mut self) -> &mut Life {
        self
    }
    fn is_stopped(&self) -> bool {
        false
    }
}

fn common(count: usize) -> (Common<Life>, Vec<ConnectionId>) {
    let mut common = Common::<Life>::new(&BackendConfig::small(count), count).unwrap();
    let ids = (0..count).map(|_| common.table.insert(Life::new(State::Open)).unwrap()).collect();
    (common, ids)
}

fn queue(common: &mut Common<Life>, id: ConnectionId) {
    let bytes = common.pools.copy(b"bytes").unwrap().freeze();
    common.queue(id, bytes, Priority::Reply).unwrap();
}

fn finish_peer(common: &mut Common<Life>, id: ConnectionId) -> PeerFinish {
    common.peer_finished(id, &mut Completions::with_capacity(1))
}

fn waiting(common: &Common<Life>) -> Vec<usize> {
    let mut all: Vec<_> = common.waiting().iter().map(|one| one.connection.index()).collect();
    for (place, one) in common.waiting().iter().enumerate() {
        assert_eq!(common.table.get(one.connection).unwrap().place as usize, place);
    }
    all.sort_unstable();
    all
}

#[test]
fn waiting_connections_are_listed_once_until_their_queue_is_empty_or_they_end() {
    let (mut common, ids) = common(4);
    for id in &ids {
        queue(&mut common, *id);
        common.send_must_wait(*id, || Timestamp::ZERO);
        common.send_must_wait(*id, || Timestamp::ZERO);
    }
    assert_eq!(waiting(&common), [0, 1, 2, 3]);
    assert!(common.end(ids[0], CloseReason::Local) && !common.end(ids[0], CloseReason::Failed));
    assert_eq!(waiting(&common), [1, 2, 3]);
    common.sent(ids[2], 5);
    assert_eq!(common.queue_emptied(ids[2]), Emptied::Nothing);
    assert_eq!(waiting(&common), [1, 3]);
    assert!(matches!(common.next_notice(), Some(Notice::Sent(id)) if id == ids[2]));
    assert_eq!(common.finish(ids[3], None), Finish::Flush);
    assert_eq!(waiting(&common), [1, 3], "a last message behind a slow queue waits, too");
    common.sent(ids[3], 5);
    assert_eq!(common.queue_emptied(ids[3]), Emptied::Shut);
    assert_eq!(finish_peer(&mut common, ids[1]), PeerFinish::Reported);
    assert_eq!(finish_peer(&mut common, ids[1]), PeerFinish::Nothing);
    assert_eq!(waiting(&common), [1]);
    common.sent(ids[1], 5);
    let Emptied::End(reason) = common.queue_emptied(ids[1]) else { panic!("both have finished") };
    assert_eq!(reason, CloseReason::PeerClosed);
    common.end(ids[1], reason);
    assert!(waiting(&common).is_empty() && common.pieces.used() == 0);
}

#[test]
fn a_stall_lasts_from_the_last_byte_that_the_socket_took() {
    let (mut common, ids) = common(2);
    let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
    queue(&mut common, ids[0]);
    common.send_must_wait(ids[0], || at(1));
    assert_eq!(common.stalled_for(ids[0], at(4)), Duration::from_secs(3));
    assert_eq!(common.stalled_for(ids[1], at(4)), Duration::ZERO, "it does not wait");
    common.note_time(|| at(5));
    common.sent(ids[0], 0);
    assert_eq!(common.stalled_for(ids[0], at(6)), Duration::from_secs(5), "nothing was taken");
    common.sent(ids[0], 2);
    common.send_must_wait(ids[0], || at(9));
    assert_eq!(common.stalled_for(ids[0], at(6)), Duration::from_secs(1));
    assert_eq!(common.stalled_for(ids[0], at(4)), Duration::ZERO, "a clock that is behind");
    common.end(ids[0], CloseReason::Local);
    assert_eq!(common.stalled_for(ids[0], at(9)), Duration::ZERO);
}

#[test]
fn the_last_copy_is_kept_only_until_the_wait() {
    let (mut common, ids) = common(1);
    queue(&mut common, ids[0]);
    common.send_must_wait(ids[0], || Timestamp::ZERO);
    let mut received = common.pools.take_receive().unwrap();
    received.append(b"from another");
    common.queue(ids[0], received.freeze(), Priority::Push).unwrap();
    assert_eq!(common.counters.send_copies, 1);
    assert!(common.end(ids[0], CloseReason::Local));
    assert!(!common.pools.is_full(), "the next receiver of the same bytes would find the copy");
    common.end_sends();
    assert!(common.pools.is_full());
}

#[test]
fn a_connection_that_its_owner_finished_ends_as_local() {
    let (mut common, ids) = common(1);
    queue(&mut common, ids[0]);
    assert_eq!(finish_peer(&mut common, ids[0]), PeerFinish::Reported);
    assert_eq!(common.finish(ids[0], None), Finish::Flush);
    common.sent(ids[0], 5);
    assert_eq!(common.queue_emptied(ids[0]), Emptied::End(CloseReason::Local));
}

#[test]
fn a_resumed_life_goes_on_where_it_was() {
    let phases = [Phase::Open, Phase::Finishing, Phase::Finished, Phase::PeerFinished, Phase::BothFinishing];
    for phase in phases {
        assert_eq!(Life::resumed(phase).phase(), Ok(phase));
    }
    assert_eq!(Life::new(State::Connecting).phase(), Err(ReleaseError::Connecting));
    for state in [State::Reserved, State::Ended, State::Closing] {
        assert_eq!(Life::new(state).phase(), Err(ReleaseError::Gone));
    }
}

#[test]
fn what_is_to_be_reported_goes_along_with_a_released_connection() {
    let (mut common, ids) = common(3);
    queue(&mut common, ids[0]);
    common.send_must_wait(ids[0], || Timestamp::ZERO);
    queue(&mut common, ids[1]);
    common.send_must_wait(ids[1], || Timestamp::ZERO);
    common.sent(ids[1], 5);
    common.queue_emptied(ids[1]); // and the batch had no room for `Sent`
    common.notices.push_back(Notice::Connected(ids[2]));
    let release = |common: &mut Common<Life>, id| common.release(id, &mut |_, _| {});
    assert_eq!(release(&mut common, ids[2]).unwrap_err(), ReleaseError::Connecting);
    for (id, queued) in [(ids[0], &b"bytes"[..]), (ids[1], b"")] {
        let (life, phase, awaits_sent) = release(&mut common, id).unwrap();
        assert!(awaits_sent && phase == Phase::Open, "{id:?}");
        let mut successor = Common::<Life>::new(&BackendConfig::small(3), 3).unwrap();
        successor.adopt(id, life, queued, Some(Timestamp::ZERO)).unwrap();
        if !queued.is_empty() {
            assert_eq!(waiting(&successor), [id.index()]);
            successor.sent(id, queued.len());
            assert_eq!(successor.queue_emptied(id), Emptied::Nothing);
        }
        assert!(matches!(successor.next_notice(), Some(Notice::Sent(other)) if other == id));
    }
    assert!(matches!(common.next_notice(), Some(Notice::Connected(id)) if id == ids[2]));
    assert!(common.next_notice().is_none());
}
