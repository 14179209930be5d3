//! goim's push routes, and a page of metrics.

use super::Server;
use super::session::frame;
use netpoll::ConnectionId;

pub fn serve(server: &mut Server, id: ConnectionId, input: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let Some(head) = rest.windows(4).position(|window| window == b"\r\n\r\n") else { return at };
        let text = String::from_utf8_lossy(&rest[..head]).into_owned();
        let size = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        let end = head + 4 + size.unwrap_or(0);
        if rest.len() < end {
            return at;
        }
        let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = if target == "/metrics" {
            let clients = server.members(|session| session.is_ready()).len();
            format!("peer_deliveries_total {}\ngateway_connections {clients}\n", server.deliveries)
        } else {
            push(server, &target, &rest[head + 4..end])
        };
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        server.send(id, response.as_bytes());
        if target == "/metrics" {
            server.finish(id);
        }
        at += end;
    }
}

fn push(server: &mut Server, target: &str, body: &[u8]) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Lists come as repeated parameters, as gin binds them for goim.
    let fields = |name: &str| -> Vec<String> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
    };
    let field = |name: &str| fields(name).into_iter().next().unwrap_or_default();
    let operation: i32 = field("operation").parse().unwrap_or(0);
    let members = match path {
        "/goim/push/mids" => {
            let mids: Vec<i64> = fields("mids").iter().filter_map(|mid| mid.parse().ok()).collect();
            server.members(|session| session.accepts(operation) && mids.contains(&session.mid))
        }
        "/goim/push/keys" => {
            let keys = fields("keys");
            server.members(|session| session.accepts(operation) && keys.contains(&session.key))
        }
        "/goim/push/room" => {
            let room = format!("{}://{}", field("type"), field("room"));
            server.members(|session| session.room == room)
        }
        "/goim/push/all" => server.members(|session| session.accepts(operation)),
        _ => return "{\"code\":-400,\"message\":\"no such route\"}".to_owned(),
    };
    let bytes = frame(operation, 0, body);
    members.into_iter().for_each(|member| server.deliver(member, &bytes));
    "{\"code\":0,\"message\":\"\"}".to_owned()
}

impl Server {
    fn finish(&mut self, id: ConnectionId) {
        use netpoll::Backend;
        self.backend.finish(id, None);
    }
}
