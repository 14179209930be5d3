use super::fake::{CONNECTIONS, Gateway};
use serde_json::json;

const OK: &str = "{\"code\":0,\"message\":\"\"}\n";

#[test]
fn pushes_go_to_the_homes_of_their_names_and_are_answered_as_goim_answers() {
    let gateway = Gateway::start("");
    assert_eq!(gateway.post("/goim/push/keys?operation=1000&keys=a&keys=b", b"hello").text, OK);
    assert_eq!(gateway.post("/goim/push/mids?operation=1001&mids=7&mids=-9", b"hello").text, OK);
    assert_eq!(gateway.post("/goim/push/room?operation=1002&type=live&room=1%2F2", b"hello").text, OK);
    assert_eq!(gateway.post("/goim/push/all?operation=1003&speed=101", b"hello").text, OK);
    // goim before it knew types: the whole key.
    assert_eq!(gateway.post("/goim/push/room?operation=1004&room=live%3A%2F%2F1", b"hello").text, OK);
    gateway.until(|gateway| gateway.seen.lock().unwrap().len() == 8);
    assert_eq!(gateway.saw("room 1004 room"), 1);
    for (word, count) in
        [("name 1000 user", 2), ("name 1001 user", 2), ("room 1002 room", 1), ("all@51 1003 broadcast", 2)]
    {
        assert_eq!(gateway.saw(word), count, "{word}: {:?}", gateway.seen);
    }
    let pushes = gateway.pushes.lock().unwrap();
    let push = pushes.iter().find(|push| push.operation() == 1002).unwrap();
    let frame = [0, 0, 0, 21, 0, 16, 0, 1, 0, 0, 3, 234, 0, 0, 0, 0];
    assert_eq!(&push.for_tcp()[..], [&frame[..], b"hello"].concat());
    let message = [&[0x82, 21], &frame[..], b"hello"].concat();
    assert_eq!(&push.for_websocket()[..], message, "a whole WebSocket message");
}

// goim keeps users in a map (`PushMids`), keys in a list (`PushKeys`).
#[test]
fn a_user_that_is_named_twice_is_sent_the_message_once() {
    let gateway = Gateway::start("");
    assert_eq!(gateway.post("/goim/push/mids?operation=1000&mids=7&mids=8&mids=7&mids=07", b"x").text, OK);
    gateway.until(|gateway| gateway.pushes.lock().unwrap().len() >= 2);
    assert_eq!(gateway.get("/healthz").status, 200);
    assert_eq!(gateway.pushes.lock().unwrap().len(), 2, "{:?}", gateway.seen);
}

#[test]
fn nodes_are_named_by_what_clients_can_resolve() {
    let gateway = Gateway::start("node_host = \"edge.example.org\"\n");
    let nodes = gateway.get("/goim/nodes/weighted").json()["data"].clone();
    assert_eq!(
        (&nodes["domain"], &nodes["nodes"]),
        (&json!("edge.example.org"), &json!(["edge.example.org"]))
    );
    assert_eq!(gateway.get("/goim/nodes/instances").json()["data"][0]["hostname"], "edge.example.org");
}

#[test]
fn bad_requests_are_minus_400_with_status_200() {
    let gateway = Gateway::start("");
    for path in [
        "/goim/push/keys?operation=x&keys=a",
        "/goim/push/keys?keys=a",
        "/goim/push/mids?operation=111&mids=1",
        "/goim/push/all?operation=8",
        "/goim/push/room?operation=-5&room=a",
        "/goim/push/mids?operation=1000&mids=a",
        "/goim/push/mids?operation=1000&mids=99999999999999999999",
        "/goim/push/room?type=live&room=1",
        "/goim/push/room?operation=1000&type=live",
        "/goim/push/all",
        "/goim/push/all?operation=1&speed=fast",
    ] {
        let answer = gateway.post(path, b"x");
        assert_eq!((answer.status, &answer.json()["code"]), (200, &json!(-400)), "{path}");
    }
    let huge = vec![b'x'; 65_537];
    assert_eq!(gateway.post("/goim/push/all?operation=1000", &huge).json()["code"], -400);
    assert_eq!(gateway.post("/goim/push/all?operation=1000", &huge[1..]).json()["code"], 0);
    // goim takes a push without keys for done.
    assert_eq!(gateway.post("/goim/push/keys?operation=1000", b"x").text, OK);
    let many = vec!["keys=a"; 1001].join("&");
    assert_eq!(gateway.post(&format!("/goim/push/keys?operation=1000&{many}"), b"x").json()["code"], -400);
}

#[test]
fn online_and_nodes_have_goims_shapes() {
    let gateway = Gateway::start("");
    let total = gateway.get("/goim/online/total").json();
    assert_eq!(total["data"], json!({ "ip_count": 0, "conn_count": 2 * CONNECTIONS }));
    let top = gateway.get("/goim/online/top?type=live&limit=5").json();
    assert_eq!(top["data"], json!([{ "room_id": "1", "count": 4 }]));
    assert_eq!(gateway.get("/goim/online/top?type=none&limit=5").json()["data"], json!([]));
    assert_eq!(gateway.get("/goim/online/top?type=live").json()["code"], -400);
    let rooms = gateway.get("/goim/online/room?type=live&rooms=1&rooms=9").json();
    assert_eq!(rooms["data"], json!({ "1": 4, "9": 0 }));
    let rooms = gateway.get("/goim/online/room?rooms=live://1").json();
    assert_eq!(rooms["data"], json!({ "live://1": 4 }));
    let nodes = gateway.get("/goim/nodes/weighted?platform=web").json()["data"].clone();
    assert_eq!((&nodes["tcp_port"], &nodes["ws_port"]), (&json!(3101), &json!(3102)));
    assert_eq!(nodes["backoff"], json!({ "max_delay": 300, "base_delay": 3, "factor": 1.8, "jitter": 0.3 }));
    assert_eq!(nodes["heartbeat"], 240);
    let instances = gateway.get("/goim/nodes/instances").json()["data"].clone();
    assert_eq!(instances[0]["metadata"]["conn_count"], (2 * CONNECTIONS).to_string());
}

// O8: one walk over all rooms, however many ask, and probes do not wait for it.
#[test]
fn many_who_ask_for_the_top_make_one_walk() {
    let gateway = Gateway::start("");
    let walks = || gateway.inspections.load(std::sync::atomic::Ordering::Relaxed);
    let before = walks();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let top = gateway.get("/goim/online/top?type=live&limit=5").json();
                assert_eq!(top["data"], json!([{ "room_id": "1", "count": 4 }]));
            });
        }
    });
    // Two workers, a visit each.
    assert!((2..=4).contains(&(walks() - before)), "{} visits", walks() - before);
    let long = format!("/goim/online/top?type={}&limit=5", "a".repeat(5000));
    assert_eq!(gateway.get(&long).json()["data"], json!([]));
}
