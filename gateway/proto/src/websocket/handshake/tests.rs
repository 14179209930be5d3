//! Requests and answers as text, one deviation at a time.

use super::*;
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const RULES: HandshakeRules<'static> = HandshakeRules {
    path: "/sub",
    origins: &[],
    protocols: &["goim.v2", "goim.v1"],
    head_size_max: HEAD_SIZE_MAX,
};
const FIELDS: [(&str, &str); 5] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// A request with a field replaced, or taken away where the value is empty.
fn request(line: &str, replaced: (&str, &str), added: &str) -> String {
    let mut text = format!("{line}\r\n");
    for (name, value) in FIELDS {
        let value = if name == replaced.0 { replaced.1 } else { value };
        if !value.is_empty() {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text + added + "\r\n"
}

fn plain_get(added: &str) -> String {
    request("GET /sub HTTP/1.1", ("", ""), added)
}

fn upgrade<'a>(text: &'a str, rules: &HandshakeRules<'static>) -> Request<'a, 'static> {
    match Request::parse(text.as_bytes(), rules) {
        Ok(HandshakeParse::Upgrade { consumed, request }) if consumed == text.len() => request,
        other => panic!("{other:?} for {text}"),
    }
}

fn refusal(text: &str) -> Option<HandshakeError> {
    Request::parse(text.as_bytes(), &RULES).err()
}

#[test]
fn the_standards_request_is_upgraded_at_no_cut_but_the_last() {
    let text = plain_get("");
    for cut in 0..text.len() {
        assert_eq!(Request::parse(&text.as_bytes()[..cut], &RULES), Ok(HandshakeParse::Incomplete));
    }
    let request = upgrade(&text, &RULES);
    assert_eq!((request.head.path, request.head.query, request.origin), ("/sub", None, None));
    // RFC 6455 §1.3.
    assert_eq!(&accept_key(request.key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn what_follows_the_head_is_left() {
    let text = plain_get("");
    let with_frame = text.clone() + "\u{1}frame";
    let parsed = Request::parse(with_frame.as_bytes(), &RULES);
    assert!(matches!(parsed, Ok(HandshakeParse::Upgrade { consumed, .. }) if consumed == text.len()));
}

#[test]
fn proxies_and_queries_are_seen() {
    let added = "x-forwarded-for: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nForwarded: for=4.4.4.4\r\n";
    let text = request("GET /sub?token=a?b HTTP/1.1", ("Connection", "keep-alive, uPGRADE"), added);
    let head = upgrade(&text, &RULES).head;
    assert_eq!((head.method, head.path, head.query), ("GET", "/sub", Some("token=a?b")));
    assert_eq!(head.host, b"server.example.com");
    assert_eq!(head.forwarded_for, Some(&b"2.2.2.2, 3.3.3.3"[..]));
    assert_eq!(head.forwarded, Some(&b"for=4.4.4.4"[..]));
}

// RFC 9112 §3.2.2: a server MUST accept a target in absolute form; its host overrules that of the
// field.
#[test]
fn targets_in_absolute_form_are_accepted() {
    for target in ["ws://a.example:3102/sub", "WS://a.example:3102/sub?x=y", "https://a.example:3102/sub"] {
        let text = request(&format!("GET {target} HTTP/1.1"), ("", ""), "");
        let head = upgrade(&text, &RULES).head;
        assert_eq!((head.path, head.host), ("/sub", &b"a.example:3102"[..]), "{target}");
    }
    for (target, error) in [
        ("ws://a.example/other", HandshakeError::NotFound),
        ("ws://a.example", HandshakeError::NotFound),
        ("ws:///sub", HandshakeError::Malformed),
        ("ftp://a.example/sub", HandshakeError::Malformed),
        ("a.example/sub", HandshakeError::Malformed),
    ] {
        assert_eq!(
            refusal(&request(&format!("GET {target} HTTP/1.1"), ("", ""), "")),
            Some(error),
            "{target}"
        );
    }
}

#[test]
fn the_proxy_protocol_is_named() {
    assert_eq!(refusal("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"), Some(HandshakeError::Proxy));
    assert_eq!(refusal("\r\n\r\n\0\r\nQUIT\n\u{21}"), Some(HandshakeError::Proxy));
}

#[test]
fn a_listener_has_a_bound_of_its_own_for_heads() {
    let rules = HandshakeRules { head_size_max: 64 << 10, ..RULES };
    let large = plain_get(&format!("Cookie: {}\r\n", "a".repeat(60 << 10)));
    upgrade(&large, &rules);
    assert_eq!(refusal(&large), Some(HandshakeError::HeadTooLarge));
}

#[test]
fn the_first_offered_protocol_that_is_spoken_is_chosen() {
    let cases = [
        ("", None),
        ("Sec-WebSocket-Protocol: x, y\r\n", None),
        ("Sec-WebSocket-Protocol: x, goim.v1 ,goim.v2\r\n", Some("goim.v1")),
        ("Sec-WebSocket-Protocol: x\r\nsec-websocket-protocol: goim.v2\r\n", Some("goim.v2")),
        ("Sec-WebSocket-Protocol: GOIM.V1\r\n", None),
    ];
    for (added, protocol) in cases {
        assert_eq!(upgrade(&plain_get(added), &RULES).protocol, protocol, "{added}");
    }
}

#[test]
fn origins_are_compared_without_case_and_may_be_missing() {
    let rules = HandshakeRules { origins: &["https://example.com", "http://localhost:8080"], ..RULES };
    let cases = [
        ("", true),
        ("Origin: https://example.com\r\n", true),
        ("Origin: HTTPS://Example.COM\r\n", true),
        ("Origin: http://localhost:8080\r\n", true),
        ("Origin: http://example.com\r\n", false),
        ("Origin: https://example.com.evil.test\r\n", false),
        ("Origin: https://example.com:444\r\n", false),
        ("Origin: null\r\n", false),
        ("Origin: \r\n", false),
        ("Origin: https://example.com\r\nOrigin: https://example.com\r\n", false),
    ];
    for (added, allowed) in cases {
        let text = plain_get(added);
        let found = Request::parse(text.as_bytes(), &rules);
        let expected = if allowed { None } else { Some(HandshakeError::Origin) };
        assert_eq!(found.err(), expected, "{added}");
    }
    upgrade(&plain_get("Origin: null\r\n"), &RULES);
}

#[test]
fn every_deviation_has_its_refusal() {
    use HandshakeError::*;
    let lines = [
        ("POST /sub HTTP/1.1", Method),
        ("HEAD /sub HTTP/1.1", Method),
        ("OPTIONS * HTTP/1.1", Method),
        ("GET /sub HTTP/1.0", HttpVersion),
        ("GET /sub HTTP/2.0", HttpVersion),
        ("GET /other HTTP/1.1", NotFound),
        ("GET /sub/ HTTP/1.1", NotFound),
        ("GET /SUB HTTP/1.1", NotFound),
        ("GET * HTTP/1.1", Malformed),
        ("GET gopher://server.example.com/sub HTTP/1.1", Malformed),
        ("GET  /sub HTTP/1.1", Malformed),
        ("G\u{0}T /sub HTTP/1.1", Malformed),
    ];
    for (line, error) in lines {
        assert_eq!(refusal(&request(line, ("", ""), "")), Some(error), "{line}");
    }
    let fields = [
        (("Host", ""), Host),
        (("Host", " "), Host),
        (("Connection", ""), Connection),
        (("Connection", "close"), Connection),
        (("Connection", "upgraded"), Connection),
        (("Sec-WebSocket-Version", ""), WebSocketVersion),
        (("Sec-WebSocket-Version", "8"), WebSocketVersion),
        (("Sec-WebSocket-Version", "13, 8"), WebSocketVersion),
        (("Sec-WebSocket-Key", ""), Key),
        (("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"), Key),
        (("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR=="), Key),
        (("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSEh"), Key),
        (("Sec-WebSocket-Key", "!!!!IHNhbXBsZSBub25jZQ=="), Key),
    ];
    for (replaced, error) in fields {
        let found = refusal(&request("GET /sub HTTP/1.1", replaced, ""));
        assert_eq!(found, Some(error), "{replaced:?}");
    }
    let added = [
        ("Host: again\r\n", Host),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", Key),
        ("Sec-WebSocket-Version: 13\r\n", WebSocketVersion),
        ("Content-Length: 1\r\n", Body),
        ("Content-Length: 0\r\nContent-Length: 5\r\n", Body),
        ("Transfer-Encoding: chunked\r\n", Body),
        ("a b: c\r\n", Malformed),
        ("a: b\r\n c\r\n", Malformed),
        ("a: \u{0}\r\n", Malformed),
    ];
    for (field, error) in added {
        assert_eq!(refusal(&plain_get(field)), Some(error), "{field}");
    }
    upgrade(&plain_get("Content-Length: 0\r\n"), &RULES);
}

#[test]
fn the_head_has_a_size_and_a_count() {
    let rest = HEAD_SIZE_MAX - plain_get("a: \r\n").len();
    upgrade(&plain_get(&format!("a: {}\r\n", "b".repeat(rest))), &RULES);
    let over = plain_get(&format!("a: {}\r\n", "b".repeat(rest + 1)));
    assert_eq!(refusal(&over), Some(HandshakeError::HeadTooLarge));
    assert_eq!(refusal(&over[..HEAD_SIZE_MAX]), Some(HandshakeError::HeadTooLarge));
    assert_eq!(refusal(&over[..HEAD_SIZE_MAX - 1]), None);
    upgrade(&plain_get(&"a: b\r\n".repeat(HEADERS_MAX - 5)), &RULES);
    let many = plain_get(&"a: b\r\n".repeat(HEADERS_MAX - 4));
    assert_eq!(refusal(&many), Some(HandshakeError::TooManyHeaders));
}

#[test]
fn a_plain_request_is_the_callers_to_answer() {
    for (line, path) in [("GET / HTTP/1.1", "/"), ("HEAD /healthz?x HTTP/1.1", "/healthz")] {
        for upgrade in ["", "h2c"] {
            let text = request(line, ("Upgrade", upgrade), "");
            let Ok(HandshakeParse::Plain { consumed, head }) = Request::parse(text.as_bytes(), &RULES) else {
                panic!("{text}");
            };
            assert_eq!((consumed, head.path), (text.len(), path));
        }
    }
}

#[test]
fn refusals_are_whole_responses() {
    use HandshakeError::*;
    let all = [
        Malformed,
        Proxy,
        HeadTooLarge,
        TooManyHeaders,
        HttpVersion,
        Method,
        Host,
        Body,
        NotFound,
        Connection,
        WebSocketVersion,
        Key,
        Origin,
        NotUpgrade,
    ];
    for error in all {
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = response.parse(error.response()) else {
            panic!("{error}")
        };
        assert_eq!(response.code, Some(error.status()));
        let get = |name: &str| response.headers.iter().find(|field| field.name == name).map(|f| f.value);
        assert_eq!(get("Connection"), Some(&b"close"[..]));
        let size = (error.response().len() - head).to_string();
        assert_eq!(get("Content-Length"), Some(size.as_bytes()));
        let versioned = get("Sec-WebSocket-Version") == Some(b"13");
        assert_eq!(versioned, error.status() == 426);
    }
    let labels: BTreeSet<_> = all.iter().map(|error| error.label()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((labels.len(), texts.len()), (all.len(), all.len()));
}

#[test]
fn both_ends_agree() {
    for protocol in [None, Some("goim.v2")] {
        let mut out = [0; 512];
        let written = client_request("/sub?a=b", "h:3102", *b"0123456789abcdef", protocol, &mut out);
        let (size, key) = written.expect("it fits");
        let text = String::from_utf8(out[..size].to_vec()).expect("ASCII");
        let request = upgrade(&text, &RULES);
        assert_eq!((request.key, request.protocol), (&key, protocol));
        let mut answer = [0; 256];
        let size = accept_response(request.key, request.protocol, &mut answer).expect("it fits");
        for cut in 0..size {
            assert_eq!(verify_response(&answer[..cut], &key), Ok(ResponseParse::Incomplete));
            assert_eq!(accept_response(&key, protocol, &mut [0; 256][..cut]), None);
        }
        let accepted = Ok(ResponseParse::Accepted { consumed: size });
        assert_eq!(verify_response(&answer, &key), accepted);
        assert_eq!(verify_response(&answer, b"AAAAAAAAAAAAAAAAAAAAAA=="), Err(ResponseError::Accept));
    }
}

#[test]
fn nothing_is_smuggled_into_a_head() {
    let mut out = [0; 512];
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(accept_response(key, Some("a\r\nb: c"), &mut out), None);
    assert_eq!(accept_response(key, Some(""), &mut out), None);
    for (path, host, protocol) in [
        ("sub", "h", None),
        ("/a b", "h", None),
        ("/\r\n", "h", None),
        ("/", "", None),
        ("/", "h\r\n", None),
        ("/", "h", Some("a,b")),
    ] {
        assert_eq!(client_request(path, host, [0; 16], protocol, &mut out), None, "{path} {host}");
    }
    assert_eq!(client_request("/", "h", [0; 16], None, &mut out[..100]), None);
}

#[test]
fn every_bad_answer_has_its_refusal() {
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let verify = |text: &str| verify_response(text.as_bytes(), key);
    assert_eq!(verify(good), Ok(ResponseParse::Accepted { consumed: good.len() }));
    let cases = [
        (good.replace("101", "200"), ResponseError::Status(200)),
        (good.replace("WebSocket\r", "h2c\r"), ResponseError::Upgrade),
        (good.replace("upgrade\r", "close\r"), ResponseError::Connection),
        (good.replace("s3p", "S3p"), ResponseError::Accept),
        (good.replace("Sec-WebSocket-Accept", "X"), ResponseError::Accept),
        (good.replace("HTTP/1.1", "SMTP"), ResponseError::Malformed),
        (good.replace("\r\n\r\n", &"\r\na: b".repeat(70)) + "\r\n\r\n", ResponseError::HeadTooLarge),
        (good.replace("101", "x"), ResponseError::Malformed),
        (format!("HTTP/1.1 101 x\r\na: {}", "b".repeat(HEAD_SIZE_MAX)), ResponseError::HeadTooLarge),
    ];
    for (text, error) in &cases {
        assert_eq!(verify(text), Err(*error), "{text}");
    }
    let texts: BTreeSet<_> = cases.iter().map(|(_, error)| error.to_string()).collect();
    let labels: Vec<_> = cases.iter().map(|(_, error)| error.label()).collect();
    assert_eq!((texts.len(), labels[0]), (6, "status"));
}
