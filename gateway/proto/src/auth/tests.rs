//! Auth bodies as clients write them, and as they should not.

use super::*;
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

fn error(body: &str) -> Option<AuthError> {
    AuthRequest::parse(body.as_bytes(), &mut [0; SCRATCH_SIZE_MAX]).err()
}

/// Parses, and renders what came out.
fn show(body: &str) -> String {
    let mut scratch = [0; SCRATCH_SIZE_MAX];
    match AuthRequest::parse(body.as_bytes(), &mut scratch) {
        Ok(r) => {
            let text = |name: Option<Name<'_>>| name.map_or(String::new(), |name| name.as_str().into());
            let room = r.room.map_or("", |room| room.as_str());
            let accepts: Vec<_> = r.accepts.as_slice().iter().map(|operation| operation.0).collect();
            let (key, platform, uid) = (text(r.key), text(r.platform), text(r.uid));
            let resume = r.resume.unwrap_or("-");
            format!("{} {key}|{room}|{platform}|{uid}|{} {accepts:?} {resume}", r.mid, r.token)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_clients_send_parses() {
    let cases = [
        ("{}", "0 |||| [] -"),
        (
            r#"{"mid":123, "room_id":"live://1000", "platform":"web", "accepts":[1000,1001,1002]}"#,
            "123 |live://1000|web|| [1000, 1001, 1002] -",
        ),
        (
            r#"{"mid":-9223372036854775808,"key":"k","uid":"u","token":"a.b.c","resume":{"s":[1]},"accepts":[]}"#,
            r#"-9223372036854775808 k|||u|a.b.c [] {"s":[1]}"#,
        ),
        (r#" { "mid" : 9223372036854775807 } "#, "9223372036854775807 |||| [] -"),
        (
            r#"{"mid":null,"key":null,"room_id":null,"accepts":null,"token":null,"resume":null}"#,
            "0 |||| [] -",
        ),
        (r#"{"key":"","room_id":"","uid":""}"#, "0 |||| [] -"),
        (r#"{"key":"a\"\\\/\u00E9\ud83d\uDE00"}"#, "0 a\"\\/é😀|||| [] -"),
        (r#"{"key":"\u4e2d","uid":"é","platform":"\u0069os"}"#, "0 中||ios|é| [] -"),
        (r#"{"\u006did":7,"Mid":8}"#, "7 |||| [] -"),
        (
            r#"{"accepts":[-1,0,2147483647,-2147483648,1,1]}"#,
            "0 |||| [-1, 0, 2147483647, -2147483648, 1, 1] -",
        ),
        (r#"{"resume":  "x"  ,"mid":1}"#, r#"1 |||| [] "x""#),
        (r#"{"mid":-0}"#, "0 |||| [] -"),
    ];
    for (body, expected) in cases {
        assert_eq!(show(body), expected, "{body}");
    }
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let values = [
        "1",
        "-0.5e+10",
        "1E5",
        "true",
        "false",
        "null",
        r#""\n\u0000""#,
        "[]",
        "{}",
        r#"[{},[[]],{"mid":9}]"#,
        r#"{"mid":[9,{"key":"x"}],"":"]}"}"#,
        "[1 , 2\n]",
        r#"{ "a" : { "b" : [ ] } , "c" : 1 }"#,
    ];
    for value in values {
        for body in [format!(r#"{{"x":{value},"mid":3}}"#), format!(r#"{{"mid":3,"x":{value}}}"#)] {
            assert_eq!(show(&body), "3 |||| [] -", "{body}");
        }
        let kept = format!(r#"{{"resume":{value},"mid":3}}"#);
        let expected = if value == "null" { "-" } else { value };
        assert_eq!(show(&kept), format!("3 |||| [] {expected}"));
    }
}

#[test]
fn what_is_not_json_is_refused_wherever_it_stands() {
    let values = [
        "",
        "nul",
        "True",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "NaN",
        "'a'",
        r#""a"#,
        r#""\"#,
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\ud83d\ude0""#,
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{]",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "{1:2}",
        "{a:1}",
        "[",
        "{",
        "]",
        "\"\n\"",
        "\"\\é\"",
        "1 1",
        "// x",
    ];
    for value in values {
        for name in ["x", "resume"] {
            let body = format!(r#"{{"{name}":{value}}}"#);
            assert_eq!(error(&body), Some(AuthError::Syntax), "{body}");
        }
    }
    for value in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\ud83d""#,
        r#""\ud83d\ue000""#,
        r#""\ud83d\uffff""#,
    ] {
        for name in ["x", "resume", "key"] {
            let body = format!(r#"{{"{name}":{value}}}"#);
            assert_eq!(error(&body), Some(AuthError::HalfPair), "{body}");
        }
    }
    for body in
        ["", " ", "[]", "1", "null", r#""{}""#, "{", r#"{"mid"}"#, r#"{"mid":1,}"#, "{,}", r#"{"mid":1"#]
    {
        assert_eq!(error(body), Some(AuthError::Syntax), "{body}");
    }
    // RFC 8259 §8.1: one byte order mark may be ignored, where it can stand.
    assert_eq!(error("\u{feff}{}"), None);
    assert_eq!(error("\u{feff}\u{feff}{}"), Some(AuthError::Syntax));
    assert_eq!(error("{}\u{feff}"), Some(AuthError::TrailingBytes));
    assert_eq!(AuthRequest::parse(b"{\"key\":\"\xff\"}", &mut []), Err(AuthError::NotUtf8));
}

#[test]
fn depth_is_bounded_without_recursion() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let core = if open == "[" { "" } else { "1" };
        for (levels, expected) in [(15, None), (16, Some(AuthError::TooDeep))] {
            let body = format!(r#"{{"x":{}{core}{}}}"#, open.repeat(levels), close.repeat(levels));
            assert_eq!(error(&body), expected);
            assert_eq!(error(&body.replace('x', "resume")), expected);
        }
    }
    assert_eq!(error(&"[".repeat(65_536)), Some(AuthError::Syntax));
    assert_eq!(error(&format!("{{\"x\":{}", "[".repeat(65_536))), Some(AuthError::TooDeep));
    assert_eq!(error(&r#"{"x":"#.repeat(10_000)), Some(AuthError::TooDeep));
    // Closing brackets are matched with what they close.
    assert_eq!(error(r#"{"x":[{"a":[]]}}"#), Some(AuthError::Syntax));
}

#[test]
fn every_field_has_its_limits() {
    use Field::*;
    let sized = [
        ("key", KEY_SIZE_MAX, Key),
        ("uid", UID_SIZE_MAX, Uid),
        ("platform", PLATFORM_SIZE_MAX, Platform),
        ("room_id", ROOM_SIZE_MAX, RoomId),
        ("token", TOKEN_SIZE_MAX, Token),
    ];
    for (name, size_max, field) in sized {
        for (unit, size) in [("a", 1), (r"\u0061", 1), (r"\u00e9", 2), ("é", 2), (r"\ud83d\ude00", 4)] {
            let body = |count: usize| format!(r#"{{"{name}":"{}"}}"#, unit.repeat(count));
            assert_eq!(error(&body(size_max / size)), None, "{name} {unit}");
            let over = error(&body(size_max / size + 1));
            assert_eq!(over, Some(AuthError::TooLong(field)), "{name} {unit}");
        }
        for control in [r"\n", r"\u0000", r"\u009f", "\u{7f}"] {
            let body = format!(r#"{{"{name}":"a{control}"}}"#);
            assert_eq!(error(&body), Some(AuthError::NotPrintable(field)), "{name}");
        }
        for value in ["1", "[]", "{}", "true", "[\"a\"]"] {
            let found = error(&format!(r#"{{"{name}":{value}}}"#));
            assert_eq!(found, Some(AuthError::WrongType(field)), "{name} {value}");
        }
    }
    let resume = |size: usize| format!(r#"{{"resume":"{}"}}"#, "a".repeat(size - 2));
    assert_eq!(error(&resume(RESUME_SIZE_MAX)), None);
    assert_eq!(error(&resume(RESUME_SIZE_MAX + 1)), Some(AuthError::TooLong(Resume)));
}

#[test]
fn numbers_are_integers_of_their_size() {
    let mid = |value: &str| error(&format!(r#"{{"mid":{value}}}"#));
    for value in ["9223372036854775808", "-9223372036854775809", "99999999999999999999999"] {
        assert_eq!(mid(value), Some(AuthError::OutOfRange(Field::Mid)), "{value}");
    }
    for value in ["7.0", "1.5", "1e3", "7E0"] {
        assert_eq!(mid(value), Some(AuthError::NotWhole(Field::Mid)), "{value}");
    }
    assert_eq!(
        AuthError::NotWhole(Field::Mid).to_string(),
        "auth field mid is not whole: write 7, not 7.0 or 7e0"
    );
    assert_eq!(error("\u{feff}{\"mid\":7}"), None, "a byte order mark is ignored");
    for value in [r#""1""#, "[1]", "true", "{}"] {
        assert_eq!(mid(value), Some(AuthError::WrongType(Field::Mid)), "{value}");
    }
    let accepts = |value: &str| error(&format!(r#"{{"accepts":{value}}}"#));
    for value in ["[2147483648]", "[-2147483649]"] {
        assert_eq!(accepts(value), Some(AuthError::OutOfRange(Field::Accepts)), "{value}");
    }
    for value in ["1", r#""1000,1001""#, "{}", r#"["1"]"#, "[null]", "[[1]]"] {
        assert_eq!(accepts(value), Some(AuthError::WrongType(Field::Accepts)), "{value}");
    }
    for value in ["[1,]", "[1 2]", "[1", "[1}"] {
        assert_eq!(accepts(value), Some(AuthError::Syntax), "{value}");
    }
    let many = |count: usize| format!("[{}]", ["1"].repeat(count).join(","));
    assert_eq!(accepts(&many(ACCEPTS_MAX)), None);
    assert_eq!(accepts(&many(ACCEPTS_MAX + 1)), Some(AuthError::TooManyAccepts));
}

#[test]
fn a_field_given_twice_is_refused() {
    for field in Field::ALL {
        let name = field.name();
        let body = format!(r#"{{"{name}":null,"x":1,"x":2,"{name}":null}}"#);
        assert_eq!(error(&body), Some(AuthError::Duplicate(field)));
    }
    assert_eq!(error(r#"{"mid":1,"\u006did":1}"#), Some(AuthError::Duplicate(Field::Mid)));
    assert_eq!(error("{}x"), Some(AuthError::TrailingBytes));
    assert_eq!(error("{} {}"), Some(AuthError::TrailingBytes));
}

#[test]
fn scratch_is_needed_for_escapes_only() {
    let plain = br#"{"key":"abc","uid":"d"}"#;
    assert!(AuthRequest::parse(plain, &mut []).is_ok());
    let escaped = br#"{"key":"\u0061bc","uid":"\u0064"}"#;
    for size in 0..4 {
        let found = AuthRequest::parse(escaped, &mut [0; 4][..size]).err();
        assert_eq!(found, Some(AuthError::ScratchFull));
    }
    let mut scratch = [0; 4];
    let request = AuthRequest::parse(escaped, &mut scratch).expect("four are enough");
    assert_eq!(request.key.map(Name::as_str), Some("abc"));
    assert_eq!(request.uid.map(Name::as_str), Some("d"));
}

#[test]
fn a_request_is_refused_or_the_same_at_every_cut() {
    let body = r#"{"mid":1,"key":"a\ud83d\ude00","accepts":[1,2],"x":[{"y":"z"}],"resume":{"a":1.5}}"#;
    for cut in 0..body.len() {
        assert_eq!(error(&body[..cut]), Some(AuthError::Syntax), "cut {cut}");
    }
    assert_eq!(error(body), None);
}

#[test]
fn what_is_emitted_parses_to_the_same() {
    let mut accepts = Accepts::default();
    for operation in [1000, -7] {
        assert_eq!(accepts.push(Operation(operation)), Ok(()));
    }
    let name = |text: &'static str| Name::parse(text.as_bytes()).ok();
    let request = AuthRequest {
        mid: -1,
        key: name(r#"a"b\c"#),
        room: RoomKey::parse(b"live://1").ok(),
        platform: name("web"),
        accepts,
        token: "a.b-c_d",
        uid: name("é😀"),
        resume: Some(r#"{"x":[1]}"#),
    };
    let mut out = [0; 256];
    let size = request.emit(&mut out).expect("it fits");
    let mut scratch = [0; 64];
    assert_eq!(AuthRequest::parse(&out[..size], &mut scratch), Ok(request));
    let mut short = [0; 256];
    assert!((0..size).all(|end| request.emit(&mut short[..end]).is_none()));
    let empty = AuthRequest::default().emit(&mut out).expect("it fits");
    assert_eq!(&out[..empty], br#"{"mid":0}"#);
}

#[test]
fn errors_name_themselves() {
    let field = Field::Mid;
    let all = [
        AuthError::NotUtf8,
        AuthError::Syntax,
        AuthError::HalfPair,
        AuthError::TooDeep,
        AuthError::TrailingBytes,
        AuthError::Duplicate(field),
        AuthError::WrongType(field),
        AuthError::OutOfRange(field),
        AuthError::NotWhole(field),
        AuthError::TooLong(field),
        AuthError::NotPrintable(field),
        AuthError::TooManyAccepts,
        AuthError::ScratchFull,
    ];
    let labels: BTreeSet<_> = all.iter().map(|error| error.label()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((labels.len(), texts.len()), (all.len(), all.len()));
    assert!(AuthError::TooLong(Field::RoomId).to_string().contains("room_id"));
    assert!(AuthError::ScratchFull.close_code().reconnect() && !AuthError::Syntax.close_code().reconnect());
}
