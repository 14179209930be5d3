//! The cost of a port alone: `port_floor [--in-flight N] [--size BYTES] [--seconds S]`.
//!
//! ```text
//!   this process: keeps N frames on the way ◄── memif ──► a child: sends every frame back
//! ```
//!
//! No ARP, no IP, no TCP: what remains is DPDK's queue, our packet buffers and the copy into a
//! transmit buffer, which the stack pays for, too. Prints the rate, and per frame the time of the
//! child's rounds that moved frames, by its clock. Says so without the feature `dpdk`.

#[cfg(not(feature = "dpdk"))]
fn main() {
    eprintln!(
        "port_floor needs DPDK: cargo run --release -p dpdk-backend --features dpdk --example port_floor"
    );
    std::process::exit(2);
}

#[cfg(feature = "dpdk")]
fn main() {
    floor::main();
}

#[cfg(feature = "dpdk")]
mod floor {
    use dpdk_backend::device::{Device, Frame, Received};
    use dpdk_backend::ffi::Queue;
    use dpdk_backend::host::{Host, HostConfig};
    use netpoll::{BackendConfig, BufferPools, MonotonicClock};
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const BURST: usize = 32;

    struct Options {
        in_flight: usize,
        size: usize,
        seconds: u64,
        /// Of the child: the place of the link.
        socket: Option<String>,
    }

    fn options() -> Options {
        let mut options = Options { in_flight: 256, size: 134, seconds: 3, socket: None };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().unwrap_or_default();
            let number = || value.parse().unwrap_or_else(|_| usage());
            match flag.as_str() {
                "--in-flight" => options.in_flight = number(),
                "--size" => options.size = number().clamp(60, 1500),
                "--seconds" => options.seconds = number() as u64,
                "--socket" => options.socket = Some(value),
                _ => usage(),
            }
        }
        options
    }

    fn usage() -> ! {
        eprintln!("port_floor [--in-flight N] [--size BYTES] [--seconds S]");
        std::process::exit(2);
    }

    /// One end of the link, ready to move frames.
    struct End {
        queue: Queue,
        pools: BufferPools,
        frames: Vec<Received>,
        clock: MonotonicClock,
    }

    impl End {
        fn open(role: &str, socket: &str) -> (Host, End) {
            let device = format!("net_memif0,role={role},id=0,socket={socket},socket-abstract=no");
            let mut sizes = BackendConfig::small(1);
            sizes.pools.receive.count = 1024;
            let config = HostConfig::on_virtual("port-floor", &device, [10, 0, 0, 1].into(), 24);
            let host = Host::open(config, 1, &sizes).unwrap_or_else(|error| fail(&error.to_string()));
            let mut queue = host.queue(0).unwrap_or_else(|| fail("no queue"));
            let memory = queue.receive_memory().unwrap_or_else(|| fail("no memory"));
            let pools =
                BufferPools::over(&sizes.pools, memory).unwrap_or_else(|error| fail(&error.to_string()));
            (host, End { queue, pools, frames: Vec::with_capacity(BURST), clock: MonotonicClock::start() })
        }

        /// Receives a burst and sends each frame back. Returns their number.
        fn turn(&mut self) -> u64 {
            let now = self.clock.now();
            self.queue.receive_burst(now, &mut self.pools, &mut self.frames);
            let count = self.frames.len() as u64;
            for mut frame in self.frames.drain(..) {
                let bytes = &mut frame.buffer;
                if bytes.len() >= 12 {
                    let (to, from) = bytes.as_mut_slice()[..12].split_at_mut(6);
                    to.swap_with_slice(from);
                }
                while self.queue.transmit(now, &Frame::whole(bytes.as_slice())).is_err() {
                    self.queue.transmit_burst(self.clock.now());
                }
            }
            self.queue.transmit_burst(now);
            count
        }
    }

    fn fail(what: &str) -> ! {
        eprintln!("port_floor: {what}");
        std::process::exit(1);
    }

    pub(super) fn main() {
        let options = options();
        match &options.socket {
            Some(socket) => reflect(socket, options.seconds),
            None => measure(&options),
        }
    }

    /// The child: sends frames back for this long after the first one, and then reports the time
    /// that it took.
    fn reflect(socket: &str, seconds: u64) {
        let (host, mut end) = End::open("server", socket);
        let _known = host.enter().unwrap_or_else(|error| fail(&error.to_string()));
        let (mut count, mut busy, mut first) = (0, Duration::ZERO, None);
        loop {
            let round = end.clock.now();
            if first.is_some_and(|first| round.since(first) > Duration::from_secs(seconds)) {
                break;
            }
            let moved = end.turn();
            if moved > 0 {
                first = first.or(Some(round));
                count += moved;
                busy += end.clock.now().since(round);
            } else {
                std::hint::spin_loop();
            }
        }
        println!("{count} {}", busy.as_nanos());
    }

    /// Keeps frames on the way until the child has enough.
    fn measure(options: &Options) {
        let socket = std::env::temp_dir().join(format!("port-floor-{}.sock", std::process::id()));
        let socket = socket.to_string_lossy().into_owned();
        let program = std::env::current_exe().unwrap_or_else(|error| fail(&error.to_string()));
        let seconds = options.seconds.to_string();
        let mut child = Command::new(program)
            .args(["--socket", &socket, "--seconds", &seconds])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| fail(&error.to_string()));
        std::thread::sleep(Duration::from_millis(500));
        let (host, mut end) = End::open("client", &socket);
        let _known = host.enter().unwrap_or_else(|error| fail(&error.to_string()));
        let start = end.clock.now();
        while !end.queue.link_is_up() && end.clock.now().since(start) < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let bytes = vec![7; options.size];
        for _ in 0..options.in_flight {
            let now = end.clock.now();
            while end.queue.transmit(now, &Frame::whole(&bytes)).is_err() {
                end.queue.transmit_burst(end.clock.now());
            }
        }
        let start = end.clock.now();
        while end.clock.now().since(start) < Duration::from_secs(options.seconds) {
            end.turn();
        }
        let _ = child.wait();
        let mut text = String::new();
        if let Some(mut said) = child.stdout.take() {
            let _ = said.read_to_string(&mut text);
        }
        let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse::<f64>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(count), Some(busy)) if count > 0.0 => println!(
                "{:.0} frames/s of {} B there and back, {} in flight; {:.0} ns a frame received and sent, {:.0} % of the time busy",
                count / options.seconds as f64,
                options.size,
                options.in_flight,
                busy / count,
                busy / 1e7 / options.seconds as f64
            ),
            _ => fail("the child said nothing"),
        }
        let _ = std::fs::remove_file(&socket);
    }
}
