use super::*;
use std::collections::BTreeSet;
use std::string::ToString;

#[test]
fn only_sendable_close_codes_exist() {
    for code in 0..=u16::MAX {
        let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        assert_eq!(CloseCode::new(code).map(CloseCode::get), sendable.then_some(code));
    }
}

#[test]
fn the_range_says_whether_to_reconnect() {
    for code in (0..=u16::MAX).filter_map(CloseCode::new) {
        let number = code.get();
        let expected = if number < 3000 {
            [1001, 1011, 1012, 1013, 1014].contains(&number)
        } else {
            number % 1000 < 500
        };
        assert_eq!(code.reconnect(), expected, "{code}");
    }
    assert!(CloseCode::SLOW_CONSUMER.reconnect() && !CloseCode::REPLACED.reconnect());
}

#[test]
fn labels_form_a_small_closed_set() {
    let close: BTreeSet<_> = (0..=u16::MAX).filter_map(CloseCode::new).map(CloseCode::label).collect();
    let error: BTreeSet<_> = (1..=u16::MAX).filter_map(ErrorCode::new).map(ErrorCode::label).collect();
    assert_eq!((close.len(), error.len()), (24, 12));
    assert_eq!(CloseCode::KICKED.to_string(), "3503 (kicked)");
    assert_eq!(ErrorCode::LIMITED.to_string(), "429 (limited)");
    assert_eq!(ErrorCode::new(0), None);
}
