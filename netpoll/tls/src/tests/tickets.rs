use crate::handshake::{TicketKey, TicketKeys, Ticketer};
use rustls::server::ProducesTickets;

fn key(byte: u8) -> TicketKey {
    TicketKey::from_bytes(&[byte; TicketKey::SIZE])
}

fn ticketer() -> Ticketer {
    Ticketer::new(TicketKeys { next: key(2), current: key(1), previous: None })
}

fn rotate(ticketer: &Ticketer, next: u8) {
    ticketer.replace(ticketer.keys().rotated(key(next)));
}

#[test]
fn a_ticket_outlives_one_rotation_and_not_two() {
    let ticketer = ticketer();
    let ticket = ticketer.encrypt(b"a session").unwrap();
    assert_eq!(ticketer.decrypt(&ticket).unwrap(), b"a session");
    rotate(&ticketer, 3);
    assert_eq!(ticketer.decrypt(&ticket).unwrap(), b"a session");
    rotate(&ticketer, 4);
    assert_eq!(ticketer.decrypt(&ticket), None);
}

#[test]
fn a_server_that_has_not_rotated_yet_opens_tickets_of_one_that_has() {
    let (early, late) = (ticketer(), ticketer());
    rotate(&early, 3);
    let ticket = early.encrypt(b"a session").unwrap();
    assert_eq!(late.decrypt(&ticket).unwrap(), b"a session");
}

#[test]
fn a_changed_ticket_is_none() {
    let ticketer = ticketer();
    let ticket = ticketer.encrypt(b"a session").unwrap();
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(ticketer.decrypt(&changed), None, "byte {at}");
        assert_eq!(ticketer.decrypt(&ticket[..at]), None, "cut at {at}");
    }
}

#[test]
fn equal_sessions_have_different_tickets() {
    let ticketer = ticketer();
    assert_ne!(ticketer.encrypt(b"a session"), ticketer.encrypt(b"a session"));
}

#[test]
fn random_keys_differ() {
    let (one, other) = (TicketKeys::random().unwrap(), TicketKeys::random().unwrap());
    let ticket = Ticketer::new(one).encrypt(b"a session").unwrap();
    assert_eq!(Ticketer::new(other).decrypt(&ticket), None);
}
