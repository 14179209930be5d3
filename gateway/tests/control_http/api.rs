use super::fake::{Behaviour, CONNECTIONS, Gateway};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn post(gateway: &Gateway, path: &str, body: &Value) -> super::fake::Answer {
    gateway.post(path, body.to_string().as_bytes())
}

#[test]
fn a_message_reports_how_many_it_was_handed_to() {
    let gateway = Gateway::start("");
    for (target, receivers) in [
        (json!({ "mid": 7 }), 1),
        (json!({ "mid": "7" }), 1),
        (json!({ "mid": 8 }), 0),
        (json!({ "uid": "seven" }), 1),
        (json!({ "key": "key-7" }), 1),
        (json!({ "room": "live://1" }), 3),
    ] {
        let answer = post(
            &gateway,
            "/api/v1/publish",
            &json!({ "target": target, "operation": 1000, "payload": "é" }),
        );
        assert_eq!((answer.status, answer.json()), (200, json!({ "receivers": receivers })), "{target}");
    }
    let body = json!({ "operation": 1005, "payload_base64": "AAEC", "deliveries_per_second_max": 9 });
    assert_eq!(post(&gateway, "/api/v1/broadcast", &body).json(), json!({ "receivers": 20 }));
    assert_eq!(gateway.saw("all@5 1005 broadcast"), 2);
    assert!(gateway.pushes.lock().unwrap().last().unwrap().for_tcp().ends_with(&[0, 1, 2]));
    let body =
        json!({ "target": { "room": "live://1" }, "operation": 1006, "payload": "x", "essential": true });
    post(&gateway, "/api/v1/publish", &body);
    assert_eq!(gateway.saw("room 1006 user"), 1);
}

#[test]
fn a_push_that_workers_refuse_is_no_push_to_nobody() {
    let gateway = Gateway::start("");
    let push = |target: Value| json!({ "target": target, "operation": 1000, "payload": "x" });
    for target in [json!({ "room": "live://503" }), json!({ "mid": 503 })] {
        let answer = post(&gateway, "/api/v1/publish", &push(target));
        assert_eq!(answer.error(), (503, "target_busy".into()));
        assert_eq!(answer.retry_after.as_deref(), Some("1"));
    }
    let list = json!([push(json!({ "room": "live://503" })), push(json!({ "room": "live://1" }))]);
    let results = post(&gateway, "/api/v1/publish", &list).json();
    assert_eq!((&results[0]["error"]["code"], &results[1]["receivers"]), (&json!("target_busy"), &json!(3)));
    let answer = post(&gateway, "/api/v1/publish", &push(json!({ "room": "live://404" })));
    assert_eq!(answer.json(), json!({ "receivers": 0 }), "a room without members");
    for (room, code) in [("503", -500), ("404", 0), ("1", 0)] {
        let path = format!("/goim/push/room?operation=1000&type=live&room={room}");
        assert_eq!(gateway.post(&path, b"x").json()["code"], code, "room {room}");
    }
}

#[test]
fn a_list_of_messages_has_a_result_each_and_neighbours_leave_together() {
    let gateway = Gateway::start("");
    let to =
        |target: Value, payload: &str| json!({ "target": target, "operation": 1000, "payload": payload });
    let (room, user) = (json!({ "room": "live://1" }), json!({ "mid": 7 }));
    let list = json!([
        to(room.clone(), "one"),
        to(room.clone(), "two"),
        to(user, "three"),
        to(json!({ "mid": 8 }), "four"),
        to(room.clone(), &"x".repeat(65_000)),
        to(room, &"y".repeat(65_000)),
    ]);
    let answer = post(&gateway, "/api/v1/publish", &list);
    let receivers: Vec<_> = [3, 3, 1, 0, 3, 3].map(|count| json!({ "receivers": count })).into();
    assert_eq!((answer.status, answer.json()), (200, Value::Array(receivers)));
    let pushes = gateway.pushes.lock().unwrap();
    let frames: BTreeSet<_> =
        pushes.iter().map(|push| (push.frames(), push.frames_size() > 60_000)).collect();
    assert_eq!((pushes.len(), frames), (5, BTreeSet::from([(1, false), (1, true), (2, false)])));
    drop(pushes);
    let mut bad = to(json!({ "mid": 7 }), "x");
    bad["operation"] = json!(5);
    let answer = post(&gateway, "/api/v1/publish", &json!([to(json!({ "mid": 7 }), "x"), bad]));
    assert_eq!(answer.error(), (400, "bad_request".into()));
    assert!(answer.text.contains("[1]: operation"), "{}", answer.text);
    let many = Value::Array(vec![to(json!({ "mid": 7 }), "x"); 1001]);
    assert_eq!(post(&gateway, "/api/v1/publish", &many).error().0, 400);
    assert_eq!(gateway.pushes.lock().unwrap().len(), 5, "a list that is refused is refused whole");
}

#[test]
fn what_does_not_fit_is_refused_with_advice() {
    let gateway = Gateway::start("");
    let target = json!({ "mid": 7 });
    for (body, part) in [
        (json!({ "target": target, "operation": 999, "payload": "x" }), "at least 1000"),
        (json!({ "target": target, "operation": 1000 }), "exactly one of payload"),
        (
            json!({ "target": target, "operation": 1000, "payload": "x", "payload_base64": "" }),
            "exactly one of payload",
        ),
        (json!({ "target": target, "operation": 1000, "payload_base64": "!" }), "RFC 4648"),
        (json!({ "target": {}, "operation": 1000, "payload": "x" }), "exactly one of mid"),
        (
            json!({ "target": { "mid": 1, "uid": "a" }, "operation": 1000, "payload": "x" }),
            "exactly one of mid",
        ),
        (
            json!({ "target": { "mid": "x" }, "operation": 1000, "payload": "x" }),
            "mid as a whole number of 64 bits, such as 7",
        ),
        (json!({ "target": { "mid": "007" }, "operation": 1000, "payload": "x" }), "without zeros in front"),
        (
            json!({ "target": { "mid": 7.0 }, "operation": 1000, "payload": "x" }),
            "floating point `7.0`, expected mid as a whole number",
        ),
        (
            json!({ "target": { "mid": u64::MAX }, "operation": 1000, "payload": "x" }),
            "expected mid as a whole number",
        ),
        (json!({ "target": { "room": "a".repeat(256) }, "operation": 1000, "payload": "x" }), "255 bytes"),
        (json!({ "target": target, "operation": 1000, "payload": "x", "prio": 1 }), "unknown field `prio`"),
        (json!({ "target": target, "operation": 1u64 << 40, "payload": "x" }), "i32"),
        (json!([]), "openapi.json"),
    ] {
        let answer = post(&gateway, "/api/v1/publish", &body);
        assert_eq!(answer.error(), (400, "bad_request".into()), "{body}");
        assert!(answer.text.contains(part), "{body}: {}", answer.text);
    }
    assert_eq!(gateway.post("/api/v1/publish", b"{").error().0, 400);
    let plain = gateway.call("POST", "/api/v1/publish", &[("content-type", "text/plain")], b"{}");
    assert_eq!(plain.error(), (415, "unsupported_media_type".into()));
    let large = "x".repeat(65_537);
    let answer =
        post(&gateway, "/api/v1/publish", &json!({ "target": target, "operation": 1000, "payload": large }));
    assert_eq!(answer.error(), (413, "too_large".into()));
    let huge = "x".repeat(2_000_000);
    let answer =
        post(&gateway, "/api/v1/publish", &json!({ "target": target, "operation": 1000, "payload": huge }));
    assert_eq!(answer.error(), (413, "too_large".into()));
}

#[test]
fn kicks_close_by_any_name() {
    let gateway = Gateway::start("");
    for body in [json!({ "mid": 7 }), json!({ "uid": "seven" }), json!({ "key": "key-7" })] {
        assert_eq!(post(&gateway, "/api/v1/kick", &body).json(), json!({ "closed": 1 }), "{body}");
    }
    let id = gateway.get("/api/v1/connections?limit=1").json()["connections"][0]["connection"].clone();
    let body = json!({ "connection": id, "code": 4001, "reason": "maintenance" });
    assert_eq!(post(&gateway, "/api/v1/kick", &body).json(), json!({ "closed": 1 }));
    assert_eq!((gateway.saw("kick 3503"), gateway.saw("kick 4001 maintenance")), (3, 1));
    assert_eq!(post(&gateway, "/api/v1/kick", &json!({ "mid": 8 })).error().0, 404);
    assert_eq!(post(&gateway, "/api/v1/kick", &json!({ "connection": "ff00000000000000" })).error().0, 404);
    for body in [
        json!({}),
        json!({ "mid": 7, "key": "a" }),
        json!({ "mid": 7, "code": 1000 }),
        json!({ "mid": 7, "code": 5000 }),
        json!({ "connection": "xyz" }),
        json!({ "connection": "+000000000000001" }),
        json!({ "key": "" }),
        json!({ "mid": 7, "reason": "x".repeat(124) }),
        json!({ "mid": 7, "reason": "two\nlines" }),
    ] {
        assert_eq!(post(&gateway, "/api/v1/kick", &body).error().0, 400, "{body}");
    }
}

/// Kicks of all connections, at once, on workers that take their time.
#[test]
fn a_kick_of_many_is_done_or_refused_and_never_half() {
    let behaviour = Behaviour { kicks_late: true, ..Behaviour::default() };
    let gateway = Gateway::start_with("", behaviour);
    let kick = || post(&gateway, "/api/v1/kick", &json!({ "all": true }));
    std::thread::scope(|scope| {
        let under_way: Vec<_> = (0..8).map(|_| scope.spawn(kick)).collect();
        gateway.until(|gateway| gateway.saw("kick 3503") == 16);
        assert_eq!(kick().error(), (503, "busy".into()), "the ninth");
        assert_eq!(gateway.saw("kick 3503"), 16, "no worker has heard of it");
        gateway.seen.lock().unwrap().push((0, "go".into()));
        for kick in under_way {
            assert_eq!(kick.join().unwrap().json(), json!({ "closed": 2 }));
        }
    });
    assert_eq!(kick().json(), json!({ "closed": 2 }), "and now there is room");
}

#[test]
fn a_kick_of_many_waits_for_a_worker_whose_mailbox_is_full() {
    let behaviour = Behaviour { stuck: true, ..Behaviour::default() };
    let gateway = Gateway::start_with("[limits]\nmailbox_messages_max = 64\n", behaviour);
    for _ in 0..64 {
        gateway.post("/goim/push/all?operation=1000", b"x");
    }
    std::thread::scope(|scope| {
        let kick = scope.spawn(|| post(&gateway, "/api/v1/kick", &json!({ "all": true })));
        gateway.seen.lock().unwrap().push((0, "free".into()));
        assert_eq!(kick.join().unwrap().json(), json!({ "closed": 2 }));
    });
    assert_eq!(gateway.saw("kick 3503"), 2, "each worker once");
}

#[test]
fn lists_come_in_pages_without_gaps_and_repetitions() {
    let gateway = Gateway::start("");
    for limit in [1, 2, 3, CONNECTIONS, 2 * CONNECTIONS, 1000] {
        let mut found = BTreeSet::new();
        let mut after = String::new();
        loop {
            let page = gateway.get(&format!("/api/v1/connections?limit={limit}{after}")).json();
            let rows = page["connections"].as_array().unwrap();
            assert!(rows.len() <= limit);
            for row in rows {
                assert!(found.insert(row["connection"].to_string()), "{row} twice");
            }
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(found.len(), 2 * CONNECTIONS, "limit {limit}");
    }
    let row = gateway.get("/api/v1/connections?limit=1").json()["connections"][0].clone();
    assert_eq!(
        (&row["mid"], &row["transport"], &row["listener"]),
        (&json!("9223372036854775807"), &json!("tcp"), &json!("tcp"))
    );
    let same = gateway.get(&format!("/api/v1/connections/{}", row["connection"].as_str().unwrap())).json();
    assert_eq!(same, row);
    assert_eq!(gateway.get("/api/v1/connections?mid=7").json()["connections"].as_array().unwrap().len(), 2);
    assert_eq!(gateway.get("/api/v1/connections?mid=8").json()["connections"].as_array().unwrap().len(), 0);
    assert_eq!(
        gateway.get("/api/v1/connections?key=key-7").json()["connections"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn rooms_are_found_with_their_slashes() {
    let gateway = Gateway::start("");
    let rooms = gateway.get("/api/v1/rooms?limit=3").json();
    assert_eq!(rooms["rooms"].as_array().unwrap().len(), 3);
    assert_eq!(
        rooms["rooms"][0],
        json!({ "room": "live://1", "worker": 0, "local_members": 2, "members": 4 })
    );
    let rest = gateway.get(&format!("/api/v1/rooms?after={}", rooms["next"].as_str().unwrap())).json();
    assert_eq!((rest["rooms"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    for path in ["/api/v1/rooms/live://1", "/api/v1/rooms/live:%2F%2F1"] {
        assert_eq!(gateway.get(path).json(), json!({ "room": "live://1", "members": 4 }), "{path}");
    }
    assert_eq!(gateway.get("/api/v1/rooms/live:%2F%2F2").error(), (404, "not_found".into()));
}

#[test]
fn list_parameters_are_checked() {
    let gateway = Gateway::start("");
    for query in
        ["limit=0", "limit=1001", "limit=x", "after=1", "after=a.b", "mid=x", "mid=1&uid=a", "colour=red"]
    {
        let answer = gateway.get(&format!("/api/v1/connections?{query}"));
        assert_eq!(answer.error(), (400, "bad_request".into()), "{query}");
    }
    assert_eq!(gateway.get("/api/v1/connections?after=300.0").json()["next"], Value::Null);
    assert_eq!(gateway.get("/api/v1/connections/0").error().0, 400);
    assert_eq!(gateway.get("/api/v1/connections/0000000900000001").error().0, 404);
}

#[test]
fn a_silent_worker_is_a_gateway_timeout() {
    let gateway = Gateway::start_with("", Behaviour { mute: true, ..Behaviour::default() });
    let body = json!({ "target": { "mid": 7 }, "operation": 1000, "payload": "x" });
    assert_eq!(post(&gateway, "/api/v1/publish", &body).error(), (504, "worker_timeout".into()));
    assert!(gateway.get("/metrics").text.contains("\ngateway_control_timeouts_total 1\n"));
    assert_eq!(gateway.get("/api/v1/stats").status, 200);
}

#[test]
fn a_full_mailbox_says_when_to_come_back() {
    let behaviour = Behaviour { stuck: true, ..Behaviour::default() };
    let gateway = Gateway::start_with("[limits]\nmailbox_messages_max = 64\n", behaviour);
    for _ in 0..64 {
        gateway.post("/goim/push/all?operation=1000", b"x");
    }
    let body = json!({ "target": { "mid": 7 }, "operation": 1000, "payload": "x" });
    let answer = post(&gateway, "/api/v1/publish", &body);
    assert_eq!(answer.error(), (503, "mailbox_full".into()));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    assert_eq!(gateway.post("/goim/push/all?operation=1000", b"x").json()["code"], -500);
    gateway.seen.lock().unwrap().push((0, "free".into()));
}

#[test]
fn keys_are_needed_where_they_are_set() {
    let gateway = Gateway::start("api_key = \"s3cret-key\"\ngoim_api_key = \"other-key\"\n");
    let with = |name: &str, value: &str, path: &str| gateway.call("GET", path, &[(name, value)], b"").status;
    assert_eq!(gateway.get("/api/v1/stats").error(), (401, "unauthorized".into()));
    assert_eq!(with("authorization", "Bearer s3cret-key", "/api/v1/stats"), 200);
    assert_eq!(with("x-api-key", "s3cret-key", "/api/v1/stats"), 200);
    for wrong in ["s3cret-ke", "s3cret-key ", "s3cret-keyy", "", "other-key"] {
        let expected = if wrong == "s3cret-key " { 200 } else { 403 };
        assert_eq!(with("x-api-key", wrong, "/api/v1/stats"), expected, "{wrong:?}");
    }
    assert_eq!(with("authorization", "Basic s3cret-key", "/api/v1/stats"), 401);
    assert_eq!(gateway.post("/goim/push/all?operation=1000", b"x").status, 401);
    assert_eq!(with("x-api-key", "other-key", "/goim/online/total"), 200);
    for open in ["/", "/healthz", "/readyz", "/metrics", "/goim/nodes/weighted", "/api/v1/openapi.json"] {
        assert_eq!(gateway.get(open).status, 200, "{open}");
    }
}

#[test]
fn unknown_paths_and_methods_say_so() {
    let gateway = Gateway::start("");
    assert_eq!(gateway.get("/api/v2").error(), (404, "not_found".into()));
    assert_eq!(gateway.post("/api/v1/stats", b"").error(), (405, "method_not_allowed".into()));
    assert_eq!(gateway.get("/goim/push/all").error().0, 405);
    let index = gateway.get("/").text;
    for (_, path) in gateway_control::routes()
        .iter()
        .filter(|(method, path)| *method == "GET" && !path.contains(['{', '?']))
    {
        let linked = index.contains(&format!("href=\"{path}\""));
        assert!(linked || path.starts_with("/goim") || path == "/", "{path} is not on the index page");
    }
}

#[test]
fn stats_add_up() {
    let gateway = Gateway::start("");
    let stats = gateway.get("/api/v1/stats").json();
    assert_eq!(
        (&stats["connections"], &stats["workers"], &stats["stage"]),
        (&json!(10), &json!(2), &json!("ready"))
    );
    assert_eq!(stats["deliveries"], json!({ "reply": 0, "user": 0, "room": 0, "broadcast": 0 }));
}

#[test]
fn what_cannot_be_decoded_is_an_error_like_any_other() {
    let gateway = Gateway::start("");
    for path in [
        "/api/v1/rooms/%ff",
        "/api/v1/connections/%c3",
        "/api/v1/connections?uid=%ff",
        "/api/v1/connections?uid=%zz",
        "/api/v1/rooms?limit=%",
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.error(), (400, "bad_request".into()), "{path}: {}", answer.text);
        assert!(answer.text.contains("can't be decoded"), "{path}: {}", answer.text);
    }
    for path in ["/goim/online/room?type=live&rooms=%ff", "/goim/online/top?type=%&limit=3"] {
        assert_eq!(gateway.get(path).json()["code"], -400, "{path}");
    }
    assert_eq!(gateway.post("/goim/push/room?operation=1000&room=%f", b"x").json()["code"], -400);
    assert_eq!(gateway.get("/api/%ff").error().0, 404);
}

#[test]
fn arrays_are_no_objects() {
    let gateway = Gateway::start("");
    for (path, body) in [
        ("/api/v1/kick", json!(["0000000000000001", null, null, null, null, null])),
        ("/api/v1/broadcast", json!([1000, "x", null, false, 0])),
        ("/api/v1/publish", json!([[{ "mid": 7 }, 1000, "x", null, false]])),
        ("/api/v1/publish", json!({ "target": [7, null, null, null], "operation": 1000, "payload": "x" })),
        ("/api/v1/kick", json!("x")),
    ] {
        let answer = post(&gateway, path, &body);
        assert_eq!(answer.error(), (400, "bad_request".into()), "{body}: {}", answer.text);
        assert!(answer.text.contains("expected an object, {…}"), "{body}: {}", answer.text);
    }
    assert!(gateway.pushes.lock().unwrap().is_empty() && gateway.saw("kick 3503") == 0);
}

#[test]
fn every_answer_ends_its_line() {
    let gateway = Gateway::start("");
    let list = post(
        &gateway,
        "/api/v1/publish",
        &json!([{ "target": { "mid": 7 }, "operation": 1000, "payload": "x" }]),
    );
    let mut answers = vec![list, gateway.post("/goim/push/all?operation=1000", b"x")];
    answers.push(gateway.post("/goim/push/all?operation=1", b"x"));
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/stats",
        "/api/v1/rooms",
        "/nowhere",
        "/goim/online/total",
    ]
    .into_iter()
    .chain(["/api/v1/openapi.json", "/goim/nodes/instances", "/api/v1/kick", "/"])
    {
        answers.push(gateway.get(path));
    }
    for answer in answers {
        assert!(answer.text.ends_with('\n') && !answer.text.ends_with("\n\n"), "{:?}", answer.text);
    }
}

// Lists whose workers do not answer hold what they hold for two seconds; a request of its own is
// answered meanwhile.
#[test]
fn lists_leave_tickets_to_others() {
    let gateway = Gateway::start("");
    let list: Vec<Value> =
        (0..1000).map(|mid| json!({ "target": { "mid": mid }, "operation": 1000, "payload": "x" })).collect();
    let list = Value::Array(list).to_string();
    std::thread::scope(|scope| {
        let lists: Vec<_> =
            (0..5).map(|_| scope.spawn(|| gateway.post("/api/v1/publish", list.as_bytes()))).collect();
        for _ in 0..20 {
            let body = json!({ "target": { "mid": 7 }, "operation": 1001, "payload": "x" });
            assert_eq!(post(&gateway, "/api/v1/publish", &body).status, 200);
        }
        for list in lists {
            let answer = list.join().unwrap();
            assert_eq!(answer.status, 200);
            let results = answer.json();
            let without =
                results.as_array().unwrap().iter().filter(|one| one["error"]["code"] == "busy").count();
            assert_eq!(without, 0, "a list waits for tickets");
        }
    });
}
