use super::*;

fn head(text: &str) -> Result<Head, HeadError> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let mut scan = HeadScan::default();
    match scan.whole(&bytes)? {
        Some(size) => parse(&bytes.slice(..size), size),
        None => panic!("not whole: {text:?}"),
    }
}

fn error(text: &str) -> (HeadError, u16) {
    let error = head(text).expect_err(text);
    (error, error.status().as_u16())
}

#[test]
fn a_head_is_whole_at_its_empty_line_wherever_it_is_cut() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\n\n",
    ] {
        for cut in 1..text.len() {
            let mut scan = HeadScan::default();
            assert_eq!(scan.whole(&text.as_bytes()[..cut]), Ok(None), "{text:?} at {cut}");
            let more = format!("{text}GET");
            assert_eq!(scan.whole(more.as_bytes()), Ok(Some(text.len())), "{text:?} at {cut}");
        }
        // Byte by byte, too.
        let mut scan = HeadScan::default();
        let whole = (1..=text.len()).find(|end| scan.whole(&text.as_bytes()[..*end]).unwrap().is_some());
        assert_eq!(whole, Some(text.len()), "{text:?}");
    }
}

#[test]
fn what_is_not_http_is_seen_at_its_first_bytes() {
    let first = |bytes: &[u8]| HeadScan::default().whole(bytes);
    assert_eq!(first(b"\x16\x03\x01\x02\x00"), Err(HeadError::Tls));
    assert_eq!(first(b"PROXY TCP4 1.2.3.4"), Err(HeadError::Proxy));
    assert_eq!(first(b"\0\0\0\x10\0\x10"), Err(HeadError::NotHttp));
    assert_eq!(first(&[b'A'; 40]), Err(HeadError::NotHttp));
    assert_eq!(first(b" GET"), Err(HeadError::NotHttp));
    assert_eq!(first(b"GET"), Ok(None));
    assert!(is_proxy_v2(b"\r\n\r\n\0\r\nQUIT\n\x21"));
    assert_eq!(empty_lines(b"\r\n\n\r\nGET"), 5);
    assert_eq!(empty_lines(b"\rGET"), 0);
}

#[test]
fn bad_heads_have_the_statuses_of_the_rfcs() {
    let host = "Host: a\r\n";
    let fields = |count: usize| "a: b\r\n".repeat(count);
    for (text, status) in [
        ("garbage\r\n\r\n".to_owned(), 400),
        ("GET /\r\n\r\n".into(), 400),
        ("GET / HTTX/1.1\r\n\r\n".into(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", fields(64)), 431),
        (format!("GET / HTTP/1.1\r\n{host}x: {}\r\n\r\n", "a".repeat(20_000)), 431),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(LINE_SIZE_MAX)), 414),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 5, 6\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: -5\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        (format!("GET / HTTP/9.9\r\n{host}\r\n"), 505),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        (format!("GET * HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("GET a.example/x HTTP/1.1\r\n{host}\r\n"), 400),
        (format!("CONNECT a:1 HTTP/1.1\r\n{host}\r\n"), 501),
        (format!("GET / HTTP/1.1\r\n{host}Expect: 200-ok\r\n\r\n"), 417),
        (format!("GET / HTTP/1.1\r\n{host}a b: c\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host} folded\r\n\r\n"), 400),
    ] {
        assert_eq!(error(&text).1, status, "{}", &text[..text.len().min(90)]);
    }
}

#[test]
fn good_heads_say_what_they_mean() {
    let parsed = head("POST /a?b=c HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5, 5\r\n\r\n").unwrap();
    assert_eq!((parsed.path(), parsed.query(), &parsed.host[..]), ("/a", "b=c", &b"a:1"[..]));
    assert_eq!((parsed.framing, parsed.keeps_alive), (BodyFraming::Length(5), true));
    let absolute = head("GET HTTP://b:2/x?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((absolute.path(), absolute.query(), &absolute.host[..]), ("/x", "y", &b"b:2"[..]));
    assert_eq!(head("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n").unwrap().path(), "/");
    let star = head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(star.path(), "*");
    let old = head("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((old.version, old.keeps_alive, old.host.len()), (Version::HTTP_10, false, 0));
    assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keeps_alive);
    assert!(!head("GET / HTTP/1.1\r\nHost: a\r\nConnection: te, close\r\n\r\n").unwrap().keeps_alive);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n";
    let chunked = head(chunked).unwrap();
    assert_eq!((chunked.framing, chunked.expects_continue), (BodyFraming::Chunked, true));
}

#[test]
fn a_thousand_names_of_128_bytes_fit_percent_encoded() {
    let names = format!("&keys={}", "%D0".repeat(128)).repeat(1000);
    let text = format!("POST /goim/push/keys?operation=1000{names} HTTP/1.1\r\nHost: a\r\n\r\n");
    let parsed = head(&text).unwrap();
    assert_eq!(parsed.query().len(), "operation=1000".len() + names.len());
    assert_eq!(parsed.uri().unwrap_err(), HeadError::LineTooLong, "the router takes less");
}
