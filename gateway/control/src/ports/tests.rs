use super::*;
use std::cell::RefCell;

/// Waits for nothing, and says nothing.
fn impatient() -> Patience<'static> {
    Patience::new(Duration::ZERO, &|_| {})
}

fn claim(address: SocketAddr, patience: &Patience<'_>) -> Result<Claims, PortError> {
    Claims::new([("listener.tcp.address".to_owned(), address)].into_iter(), patience)
}

/// A free port.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_port_is_claimed_once_and_again_when_it_is_given_back() {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut first = claim(address, &impatient()).unwrap();
    assert_eq!(claim(address, &impatient()).unwrap_err().error.kind(), io::ErrorKind::AddrInUse);
    first.listening(&[address]);
    assert_eq!(claim(address, &impatient()).unwrap_err().error.kind(), io::ErrorKind::AddrInUse);
    drop(first);
    claim(address, &impatient()).unwrap();
}

#[test]
fn a_start_excludes_others_on_addresses_that_collide_and_a_gateway_does_not() {
    let port = free_port();
    let [one, other, all] =
        [[127, 0, 0, 1], [127, 0, 0, 2], [0, 0, 0, 0]].map(|ip| SocketAddr::from((ip, port)));
    let mut first = claim(one, &impatient()).unwrap();
    assert!(claim(all, &impatient()).is_err(), "the first has not got its listeners yet");
    first.listening(&[one]);
    // A listener with SO_REUSEPORT, as workers have.
    let listener = TcpListener::bind(one).unwrap();
    assert!(claim(all, &impatient()).is_err(), "the kernel's own check");
    claim(other, &impatient()).unwrap();
    drop(listener);
}

#[test]
fn a_port_without_a_living_process_is_waited_for_and_said_so() {
    // This process does not look for itself among the living, so its own listener stands for one
    // that is ending.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let said = RefCell::new(Vec::new());
    let listener = RefCell::new(Some(listener));
    let report = |line: &str| {
        said.borrow_mut().push(line.to_owned());
        if said.borrow().len() == 2 {
            listener.take();
        }
    };
    claim(address, &Patience::new(Duration::from_secs(60), &report)).unwrap();
    let said = said.into_inner();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("io.bind_wait_ms") && said[0].contains("60 s at most"), "{said:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = claim(listener.local_addr().unwrap(), &impatient()).unwrap_err().to_string();
    assert!(error.contains("is in use") && error.contains("ss -ltnp"), "{error}");
}

#[test]
fn what_is_no_matter_of_waiting_fails_at_once() {
    let patience = Patience::new(Duration::from_secs(600), &|line| panic!("{line}"));
    let error = claim("192.0.2.1:3101".parse().unwrap(), &patience).unwrap_err().to_string();
    assert!(error.contains("is no address of this machine"), "{error}");
    let error = bind_control("192.0.2.1:3111".parse().unwrap(), &patience).unwrap_err().to_string();
    assert!(error.starts_with("control.address = \"192.0.2.1:3111\""), "{error}");
    claim("192.0.2.1:0".parse().unwrap(), &patience).unwrap();
}

#[test]
fn a_living_process_is_named() {
    let mut script = std::process::Command::new("python3");
    script.args(["-c", "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\nsys.stdin.read()"]);
    let mut child =
        script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
    let patience = Patience::new(Duration::from_secs(600), &|line| panic!("{line}"));
    let error = claim(address, &patience).unwrap_err().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(error.contains(&format!("by process {} (python3", child.id())), "{error}");
}

#[test]
fn a_lock_of_ours_is_not_taken_for_a_squatters() {
    let name = owner::lock_name("test", &std::process::id());
    assert!(!owner::is_squatted(&name), "no process has it");
    let _held = lock("test", &std::process::id()).unwrap().unwrap();
    assert!(!owner::is_squatted(&name));
    assert!(lock("test", &std::process::id()).is_err());
}

/// Another user's process has taken the name of our lock: one that takes connections, one with
/// a full queue, and one that does not listen.
#[test]
fn a_squatter_on_a_locks_name_keeps_no_gateway_from_starting() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can be another user
    }
    for kind in ["takes", "full", "deaf"] {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let name = owner::lock_name("starting", &address.port());
        let code = format!(
            "import os, socket, sys\nos.setgroups([])\nos.setgid(65534)\nos.setuid(65534)\nkind = {kind:?}\ntype = socket.SOCK_DGRAM if kind == 'datagram' else socket.SOCK_STREAM\n\
             s = socket.socket(socket.AF_UNIX, type)\ns.bind('\\0' + {name:?})\n\
             if kind in ('takes', 'full'): s.listen(0)\nheld = []\n\
             while kind == 'full':\n  c = socket.socket(socket.AF_UNIX, type)\n  c.setblocking(False)\n\
             \x20 try: c.connect('\\0' + {name:?})\n  except BlockingIOError: break\n  held.append(c)\n\
             print('there', flush=True)\nsys.stdin.read()"
        );
        let mut squatter = std::process::Command::new("python3");
        squatter.args(["-c", &code]);
        let piped = std::process::Stdio::piped;
        let mut child = squatter.stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line, "there\n", "{kind}");
        let claims = claim(address, &impatient());
        child.kill().unwrap();
        child.wait().unwrap();
        let claims = claims.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((claims.starting.len(), claims.listening.len()), (0, 1), "{kind}");
    }
}

#[test]
fn one_gateway_may_listen_on_several_addresses_with_one_port() {
    let port = free_port();
    let addresses = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| SocketAddr::from((ip, port)));
    let named = addresses.map(|address| (format!("listener.x.address {address}"), address));
    let claims = Claims::new(named.into_iter(), &impatient()).unwrap();
    assert_eq!((claims.starting.len(), claims.listening.len()), (1, 2));
}
