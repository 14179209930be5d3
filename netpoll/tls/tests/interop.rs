//! Other implementations as clients of an echo server over the crate, on real sockets: OpenSSL's
//! command line, Python's `ssl`, Go's `crypto/tls`. Part of `make e2e`.

#[path = "handshakes/peers.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod peers;

use peers::{Server, Shared};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// What the server saw of one connection.
struct Seen {
    received: Vec<u8>,
    is_closed_by_peer: bool,
    fault: Option<netpoll_tls::RecordError>,
    is_resumed: bool,
    protocol: Option<Vec<u8>>,
}

/// Echoes what `count` connections send, one after the other, until each ends.
fn echo(count: usize, protocols: &[&str]) -> (SocketAddr, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::new(protocols);
    let server = move || {
        let connections = listener.incoming().take(count);
        connections.map(|socket| echo_one(&shared, socket.unwrap())).collect()
    };
    (address, std::thread::spawn(server))
}

fn echo_one(shared: &Shared, mut socket: TcpStream) -> Seen {
    let (mut server, mut echoed, mut bytes) = (Server::new(shared), 0, [0; 3000]);
    while let Ok(count @ 1..) = socket.read(&mut bytes) {
        server.receive(&bytes[..count]);
        assert_eq!(server.failure, None);
        let data = server.received[echoed..].to_vec();
        echoed += data.len();
        server.send(&data);
        if server.is_closed_by_peer || server.fault.is_some() {
            server.close();
        }
        if socket.write_all(&std::mem::take(&mut server.outbox)).is_err() || server.is_closed_by_peer {
            break;
        }
    }
    let Server { received, is_closed_by_peer, fault, peer, .. } = server;
    let peer = peer.expect("a handshake");
    Seen { received, is_closed_by_peer, fault, is_resumed: peer.is_resumed, protocol: peer.protocol }
}

/// A client's program, with pipes.
fn start(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}: install it"))
}

/// Reads a program's output until it has `text`.
fn read_until(output: &mut impl Read, text: &str) {
    let (mut seen, mut byte) = (vec![], [0]);
    while !seen.ends_with(text.as_bytes()) {
        let count = output.read(&mut byte).unwrap();
        assert!(count > 0, "ended before {text:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&byte);
    }
}

/// OpenSSL's client says `lines`, each once the one before has come back. A letter alone is a
/// command of the client's: k and K update keys.
fn openssl(arguments: &[&str], lines: &[&str]) -> Seen {
    let (address, server) = echo(1, &[]);
    let address = address.to_string();
    // Unbuffered: it writes to a pipe by stdio.
    let arguments =
        [&["-o0", "openssl", "s_client", "-connect", &address, "-servername", "gateway.example"], arguments]
            .concat();
    let mut child = start("stdbuf", &arguments);
    let mut say = child.stdin.take().unwrap();
    for line in lines {
        say.write_all(format!("{line}\n").as_bytes()).unwrap();
        match line.len() {
            1 => read_until(child.stderr.as_mut().unwrap(), "KEYUPDATE\n"),
            _ => read_until(child.stdout.as_mut().unwrap(), &format!("{line}\n")),
        }
    }
    say.write_all(b"Q\n").unwrap();
    child.wait().unwrap();
    server.join().unwrap().pop().unwrap()
}

#[test]
#[ignore = "needs OpenSSL, Python and Go: make e2e"]
fn openssl_echoes_over_every_suite() {
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let seen = openssl(&["-tls1_3", "-ciphersuites", suite], &["first line", "second line"]);
        assert_eq!(seen.received, b"first line\nsecond line\n", "{suite}");
        assert_eq!((seen.is_closed_by_peer, seen.fault), (true, None));
    }
    for suite in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
        let suite = format!("ECDHE-ECDSA-{suite}");
        let seen = openssl(&["-tls1_2", "-cipher", &suite], &["first line", "second line"]);
        assert_eq!(seen.received, b"first line\nsecond line\n", "{suite}");
        assert_eq!((seen.is_closed_by_peer, seen.fault), (true, None));
    }
}

#[test]
#[ignore = "needs OpenSSL, Python and Go: make e2e"]
fn openssl_updates_its_keys_and_asks_for_ours() {
    let lines = ["before it", "k", "its own key", "K", "both keys", "K", "once more"];
    let seen = openssl(&["-tls1_3"], &lines);
    assert_eq!(seen.received, b"before it\nits own key\nboth keys\nonce more\n");
    assert_eq!((seen.is_closed_by_peer, seen.fault), (true, None));
}

const PYTHON: &str = r#"
import socket, ssl, sys
host, port = sys.argv[1].rsplit(':', 1)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(['other', 'im/1'])
if sys.argv[2] == '1.2':
    context.maximum_version = ssl.TLSVersion.TLSv1_2
session = None
for connection in range(2):
    raw = socket.create_connection((host, int(port)))
    with context.wrap_socket(raw, server_hostname='gateway.example', session=session) as tls:
        for size in (1, 100, 16384, 40000):
            data = bytes(index % 251 for index in range(size))
            tls.sendall(data)
            back = b''
            while len(back) < size:
                part = tls.recv(65536)
                assert part, 'ended early'
                back += part
            assert back == data, size
        session = tls.session
        assert tls.session_reused == (connection == 1), connection
        assert tls.selected_alpn_protocol() == 'im/1'
        raw = tls.unwrap()
        raw.close()
print('done')
"#;

#[test]
#[ignore = "needs OpenSSL, Python and Go: make e2e"]
fn python_echoes_and_resumes() {
    for version in ["1.3", "1.2"] {
        let (address, server) = echo(2, &["im/1"]);
        let child = start("python3", &["-c", PYTHON, &address.to_string(), version]);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"done\n", "{}", String::from_utf8_lossy(&output.stderr));
        let seen = server.join().unwrap();
        assert_eq!(seen.iter().map(|seen| seen.is_resumed).collect::<Vec<_>>(), [false, true], "{version}");
        for seen in seen {
            assert_eq!(seen.received.len(), 1 + 100 + 16_384 + 40_000);
            assert!(seen.is_closed_by_peer && seen.protocol.as_deref() == Some(b"im/1"));
        }
    }
}

const GO: &str = r#"
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
)

func main() {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "gateway.example", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if os.Args[2] == "1.2" {
		config.MaxVersion = tls.VersionTLS12
	}
	for connection := 0; connection < 2; connection++ {
		conn, err := tls.Dial("tcp", os.Args[1], config)
		if err != nil {
			panic(err)
		}
		for _, size := range []int{1, 100, 16384, 40000} {
			data := bytes.Repeat([]byte{7}, size)
			if _, err := conn.Write(data); err != nil {
				panic(err)
			}
			back := make([]byte, size)
			if _, err := io.ReadFull(conn, back); err != nil {
				panic(err)
			}
			if !bytes.Equal(back, data) {
				panic("changed")
			}
		}
		if conn.ConnectionState().DidResume != (connection == 1) {
			panic("resumption")
		}
		conn.Close()
	}
	fmt.Println("done")
}
"#;

/// Whether Go offers the extended master secret (RFC 7627), as it does since 1.21. Without it the
/// server refuses TLS 1.2.
fn go_has_extended_master_secret() -> bool {
    let output = start("go", &["env", "GOVERSION"]).wait_with_output().unwrap().stdout;
    let version = String::from_utf8(output).unwrap();
    let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split('.').next());
    minor.and_then(|minor| minor.parse::<u32>().ok()).unwrap_or_else(|| panic!("{version:?}")) >= 21
}

#[test]
#[ignore = "needs OpenSSL, Python and Go: make e2e"]
fn go_echoes_and_resumes() {
    let folder = std::env::temp_dir().join(format!("netpoll-tls-go-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("main.go"), GO).unwrap();
    for version in ["1.3", "1.2"] {
        let (address, server) = echo(2, &[]);
        let program = folder.join("main.go");
        let child = start("go", &["run", program.to_str().unwrap(), &address.to_string(), version]);
        let output = child.wait_with_output().unwrap();
        if version == "1.2" && !go_has_extended_master_secret() {
            assert!(!output.status.success() && server.join().is_err(), "refused on both sides");
            continue;
        }
        assert_eq!(output.stdout, b"done\n", "{}", String::from_utf8_lossy(&output.stderr));
        let seen = server.join().unwrap();
        assert_eq!(seen.iter().map(|seen| seen.is_resumed).collect::<Vec<_>>(), [false, true], "{version}");
        assert!(seen.iter().all(|seen| seen.is_closed_by_peer && seen.received.len() == 56_485));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
