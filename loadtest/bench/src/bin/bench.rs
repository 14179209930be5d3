fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let (kind, proto, n, d, size, secs) = (&a[0], &a[1], a[2].parse::<usize>().unwrap(), a[3].parse::<usize>().unwrap(), a[4].parse::<usize>().unwrap(), a[5].parse::<f64>().unwrap());
    use bench::client::*; use std::time::Duration; use std::io::BufRead;
    let exe = std::env::current_exe().unwrap().with_file_name("bench-server");
    let mut child = std::process::Command::new(exe).args([kind.as_str(), "--cpu", "0", "--nice", "-15"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    bench::cpu::settle(1, -15).unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ports: Vec<u16> = line.split_whitespace().map(|w| w.parse().unwrap()).collect();
    let (p, port) = match proto.as_str() { "raw" => (Protocol::Raw, ports[0]), "goim" => (Protocol::Goim, ports[0]), "gws" => (Protocol::GoimWebSocket, ports[1]), _ => (Protocol::WebSocket, ports[0]) };
    let w = Window { warm_up: Duration::from_millis(200), length: Duration::from_secs_f64(secs) };
    let probe = Probe { server: child.id(), server_cpu: 0, client_cpu: 1 };
    eprintln!("pid {}", child.id());
    let extra = usize::from(d == 0);
    let r = (|| { let mut f = Fleet::over_uring(n + extra).unwrap(); f.open(([127,0,0,1], port).into(), p, n + extra, d == 0)?;
      if d == 0 { fan_out(&mut f, p, size, w, probe) } else { echo(&mut f, p, (d, size), w, probe) } })();
    child.kill().unwrap(); child.wait().unwrap();
    match r { Err(e) => println!("{kind} {proto}: {e}"), Ok(m) => println!("{kind:20} {proto:5} N={n} D={d} {size} B: {:.0} ns/msg, {:.0} k/s, client {:.0} ns, busy {:.2}/{:.2}, foreign {:.2}/{:.2}, p50 {} us p99 {} us", m.server_per_message(), m.rate()/1e3, m.client_per_message(), m.server_busy(), m.client_busy(), m.foreign_server, m.foreign_client, m.latency.value_at_quantile(0.5)/1000, m.latency.value_at_quantile(0.99)/1000) }
}
