//! The coordinator's side: an agent in the place of a thread of workers.

use super::channel::{Receiver, Secret, Sender, greet};
use super::clocks::{Agreement, RoundTrip, estimate};
use super::message::{Job, News, Order};
use crate::clock::RunClock;
use crate::error::RunError;
use crate::scenario::Scenario;
use crate::settings::Settings;
use crate::worker::WorkerResult;
use crate::worker::control::{Control, Gauges, Interval};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Round trips by which a clock is set.
const TRIPS: usize = 32;
/// How often a round trip is made during the run.
const TRIP_EVERY: Duration = Duration::from_millis(250);
/// How often the coordinator's orders are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// An agent that says nothing for so long is lost: it has news every 20 ms.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// An agent has so long to close its connections and to hand its results over.
const RESULTS_WITHIN: Duration = Duration::from_secs(120);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// An agent that has its part of the run.
pub(crate) struct Connected {
    address: String,
    sender: Sender,
    receiver: Receiver,
    /// The quickest round trip, in ns.
    pub(crate) round_trip: u64,
}

/// What the run knows of an agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentState {
    pub(crate) address: String,
    pub(crate) agreement: Agreement,
    /// Why it was lost, if it was.
    pub(crate) lost: Option<String>,
}

/// Connects to `address` and hands over its part of a run of `settings`.
///
/// # Errors
/// An agent that is not there, does not know the secret, or refuses.
pub(crate) fn connect(
    address: &str,
    secret: &Secret,
    (scenario, settings, run): (&Scenario, &Settings, u32),
    (index, of): (u32, u32),
) -> Result<Connected, RunError> {
    let lost = |error: std::io::Error| {
        let advice = "start `loadtest agent --listen ADDRESS --secret-file FILE` there, with the same secret";
        RunError::new(format!("agent {address}: {error}"), advice)
    };
    let mut addresses = address.to_socket_addrs().map_err(lost)?;
    let socket = addresses.next().ok_or_else(|| lost(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let stream = TcpStream::connect_timeout(&socket, CONNECT_WITHIN).map_err(lost)?;
    let (mut sender, mut receiver) = greet(stream, secret).map_err(lost)?;
    let job = Job {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: scenario.file.clone(),
        settings: settings.clone(),
        token: settings.token.clone(),
        run,
        index,
        of,
    };
    sender.send(&Order::Job(Box::new(job))).map_err(lost)?;
    match receiver.receive().map_err(lost)? {
        News::Ready => Ok(Connected { address: address.to_owned(), sender, receiver, round_trip: 0 }),
        News::Refused(why) => Err(RunError::new(
            format!("agent {address} refuses: {why}"),
            "its machine may need other limits, or another version of loadtest",
        )),
        _ => Err(lost(std::io::Error::other("it answers out of turn"))),
    }
}

impl Connected {
    /// Compares its clock with `clock` and starts its workers.
    ///
    /// # Errors
    /// The connection's.
    pub(crate) fn start(&mut self, clock: RunClock) -> Result<(), RunError> {
        self.try_start(clock).map_err(|error| self.gone(&error))
    }

    fn try_start(&mut self, clock: RunClock) -> std::io::Result<()> {
        let mut trips = Vec::with_capacity(TRIPS);
        while trips.len() < TRIPS {
            self.sender.send(&Order::Ping(clock.now()))?;
            let News::Pong { asked, own } = self.receiver.receive()? else {
                return Err(std::io::Error::other("it answers out of turn"));
            };
            trips.push(RoundTrip { asked, own, answered: clock.now() });
        }
        self.round_trip = trips.iter().map(|trip| trip.answered - trip.asked).min().unwrap_or(0);
        let ahead = estimate(&trips).unwrap_or(0);
        self.sender.send(&Order::Start { ahead })
    }

    fn gone(&self, error: &std::io::Error) -> RunError {
        let what = format!("agent {} was lost: {error}", self.address);
        RunError::new(what, "see its machine, and run again").of_measurement()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Works as a thread of workers does: follows `control`, publishes, returns the results.
    ///
    /// # Errors
    /// An agent that was lost, or workers of it that failed; `state` says so too.
    pub(crate) fn work(
        self,
        control: &Control,
        gauges: &Gauges,
        intervals: &[mpsc::Sender<Interval>],
        clock: RunClock,
        state: &Mutex<AgentState>,
    ) -> Result<Vec<WorkerResult>, RunError> {
        let Connected { address, mut sender, receiver, .. } = self;
        let (news, arriving) = mpsc::channel();
        let reader = std::thread::spawn(move || read(receiver, clock, &news));
        let mut link = Link { control, gauges, intervals, clock, state, staged: None, finished: None };
        let found = link.follow(&mut sender, &arriving);
        // The reader ends with the connection.
        sender.shut();
        let _ = reader.join();
        found.map_err(|why| {
            state.lock().unwrap_or_else(PoisonError::into_inner).lost = Some(why.clone());
            let what = format!("agent {address} was lost: {why}");
            RunError::new(what, "see its machine, and run again").of_measurement()
        })
    }
}

/// News with the time of its arrival.
type Arrived = Result<(News, u64), String>;

fn read(mut receiver: Receiver, clock: RunClock, to: &mpsc::Sender<Arrived>) {
    loop {
        let news = receiver.receive().map(|news| (news, clock.now())).map_err(|error| error.to_string());
        let is_over = news.is_err();
        if to.send(news).is_err() || is_over {
            return;
        }
    }
}

/// A run's orders on their way to an agent, and its news on their way back.
struct Link<'a> {
    control: &'a Control,
    gauges: &'a Gauges,
    intervals: &'a [mpsc::Sender<Interval>],
    clock: RunClock,
    state: &'a Mutex<AgentState>,
    /// The last stage that it was ordered to, and the end of that.
    staged: Option<(usize, u64)>,
    /// When it was ordered to finish.
    finished: Option<Instant>,
}

impl Link<'_> {
    fn follow(
        &mut self,
        sender: &mut Sender,
        arriving: &mpsc::Receiver<Arrived>,
    ) -> Result<Vec<WorkerResult>, String> {
        let (mut heard, mut asked) = (Instant::now(), Instant::now());
        loop {
            self.order(sender).map_err(|error| error.to_string())?;
            if asked.elapsed() >= TRIP_EVERY && self.finished.is_none() {
                asked = Instant::now();
                sender.send(&Order::Ping(self.clock.now())).map_err(|error| error.to_string())?;
            }
            match arriving.recv_timeout(LOOK_EVERY) {
                Ok(news) => {
                    heard = Instant::now();
                    let (news, at) = news?;
                    if let Some(results) = self.take(news, at)? {
                        return Ok(results);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the connection ended".to_owned()),
            }
            let patience = self.finished.map_or(SILENCE_MAX, |_| RESULTS_WITHIN);
            if heard.elapsed() > patience {
                return Err(format!("it said nothing for {} s", patience.as_secs()));
            }
        }
    }

    /// Passes on what is new.
    fn order(&mut self, sender: &mut Sender) -> std::io::Result<()> {
        if let Some(window) = self.control.window() {
            match self.staged {
                Some((stage, end)) if stage == window.stage && end == window.end => {}
                Some((stage, _)) if stage == window.stage => {
                    sender.send(&Order::End { stage, time: window.end })?;
                }
                _ => sender.send(&Order::Stage(window))?,
            }
            self.staged = Some((window.stage, window.end));
        }
        if self.control.finish.load(Relaxed) && self.finished.is_none() {
            sender.send(&Order::Finish)?;
            self.finished = Some(Instant::now());
        }
        Ok(())
    }

    fn take(&mut self, news: News, at: u64) -> Result<Option<Vec<WorkerResult>>, String> {
        match news {
            News::Readings(readings) => self.gauges.store(&readings),
            News::Interval { flow, interval } => {
                let to = self.intervals.get(flow).ok_or("it has a flow of its own")?;
                let _ = to.send(interval);
            }
            News::Pong { asked, own } => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.agreement.take(RoundTrip { asked, own, answered: at });
            }
            News::Results(results) => return Ok(Some(results)),
            News::Failed(why) => return Err(why),
            News::Ready | News::Refused(_) => return Err("it answers out of turn".to_owned()),
        }
        Ok(None)
    }
}
