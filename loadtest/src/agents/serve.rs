//! The agent's side: takes parts of runs, one at a time.

use super::channel::{Receiver, Secret, Sender, accept};
use super::message::{Job, News, Order};
use crate::backend::BackendContext;
use crate::clock::RunClock;
use crate::error::RunError;
use crate::limits;
use crate::plan::{Part, RunPlan};
use crate::run::WorkerPool;
use crate::scenario::{self, Scenario};
use crate::settings::Settings;
use crate::worker::control::{Control, Gauges};
use clap::Args;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often an agent has news.
const NEWS_EVERY: Duration = Duration::from_millis(20);

/// The flags of `loadtest agent`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AgentArgs {
    /// Address to wait for coordinators at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7311")]
    listen: String,
    /// File with the secret that coordinators must know
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// End after one run
    #[arg(long)]
    once: bool,
}

/// Takes parts of runs until the process ends.
///
/// # Errors
/// No secret, or an address that cannot be listened on.
pub(crate) fn serve(args: &AgentArgs) -> Result<(), RunError> {
    let secret = Secret::load(args.secret_file.as_deref())?;
    let listener =
        TcpListener::bind(&args.listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = listener.map_err(|error| {
        RunError::new(
            format!("cannot listen on {}: {error}", args.listen),
            "give --listen a free address of this machine",
        )
    })?;
    note!("agent at {address}");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let peer = stream.peer_addr().map_or_else(|_| "a peer".to_owned(), |peer| peer.to_string());
        match session(stream, &secret) {
            Ok(()) => note!("{peer}: done"),
            Err(error) => {
                note!("{peer}: {error}");
                continue;
            }
        }
        if args.once {
            break;
        }
    }
    Ok(())
}

/// One coordinator, from its greeting to the results.
fn session(stream: TcpStream, secret: &Secret) -> std::io::Result<()> {
    let (mut sender, mut receiver) = accept(stream, secret)?;
    let Order::Job(job) = receiver.receive()? else {
        return Err(std::io::Error::other("it orders out of turn"));
    };
    let plan = match plan(&job) {
        Ok(plan) => plan,
        Err(error) => {
            sender.send(&News::Refused(error.to_string()))?;
            return Err(std::io::Error::other(error.to_string()));
        }
    };
    note!("part {} of {} of {}", job.index + 1, job.of, plan.scenario);
    sender.send(&News::Ready)?;
    let own = RunClock::start();
    let ahead = loop {
        match receiver.receive()? {
            Order::Ping(asked) => sender.send(&News::Pong { asked, own: own.now() })?,
            Order::Start { ahead } => break ahead,
            _ => return Err(std::io::Error::other("it orders out of turn")),
        }
    };
    let found = work(&Arc::new(plan), own.ahead_by(ahead), &mut sender, receiver);
    if let Err(error) = &found {
        // The coordinator may be what was lost.
        let _ = sender.send(&News::Failed(error.to_string()));
    }
    sender.shut();
    found
}

/// The plan of a whole run, of which this agent does its part.
fn plan(job: &Job) -> Result<RunPlan, RunError> {
    let own = env!("CARGO_PKG_VERSION");
    if job.version != own {
        let what = format!("the coordinator is version {}, the agent {own}", job.version);
        return Err(RunError::new(what, "install one version on all machines"));
    }
    let scenario = Scenario::of_file(&job.scenario)?;
    // Agents write no files.
    let settings = Settings { token: job.token.clone(), json: None, html: None, ..job.settings.clone() };
    let mut plan = scenario::plan(&scenario, &settings)?;
    let is_part = job.of > 0 && job.index < job.of && plan.machinery.workers.is_multiple_of(job.of);
    if !is_part {
        return Err(RunError::new("the workers are not a multiple of the agents", "give whole parts"));
    }
    plan.run = job.run;
    plan.machinery.part = Some(Part { index: job.index, of: job.of });
    limits::check_descriptors(&plan, limits::raise_descriptors())?;
    Ok(plan)
}

/// The workers, from their start to their results.
fn work(
    plan: &Arc<RunPlan>,
    clock: RunClock,
    sender: &mut Sender,
    receiver: Receiver,
) -> std::io::Result<()> {
    let fault = |error: RunError| std::io::Error::other(error.to_string());
    let control = Arc::new(Control::new(plan.stages.len()));
    let context = BackendContext::open(plan).map_err(fault)?;
    let mut pool = WorkerPool::start(plan, &control, clock, &context).map_err(fault)?;
    let (to, orders) = mpsc::channel();
    let reader = std::thread::spawn(move || read(receiver, &to));
    let found = relay(&control, &pool, clock, sender, &orders);
    // Workers never outlive their run, whatever became of the coordinator.
    control.finish.store(true, Relaxed);
    let mut results = Vec::new();
    for thread in std::mem::take(&mut pool.threads) {
        let result = thread.join().map_err(|_| std::io::Error::other("a worker panicked"))?;
        results.extend(result.map_err(fault)?);
    }
    found?;
    intervals(&pool, sender)?;
    sender.send(&News::Results(results))?;
    // The coordinator ends the connection when it has them.
    let _ = reader.join();
    Ok(())
}

fn read(mut receiver: Receiver, to: &mpsc::Sender<std::io::Result<Order>>) {
    loop {
        let order = receiver.receive();
        let is_over = order.is_err();
        if to.send(order).is_err() || is_over {
            return;
        }
    }
}

/// Passes orders to the workers and their figures to the coordinator, until the end.
fn relay(
    control: &Control,
    pool: &WorkerPool,
    clock: RunClock,
    sender: &mut Sender,
    orders: &mpsc::Receiver<std::io::Result<Order>>,
) -> std::io::Result<()> {
    loop {
        match orders.recv_timeout(NEWS_EVERY) {
            Ok(order) => match order? {
                Order::Ping(asked) => sender.send(&News::Pong { asked, own: clock.now() })?,
                Order::Stage(window) if window.stage < control.stages() => control.start(window),
                Order::End { stage, time } if stage < control.stages() => control.end(stage, time),
                Order::Finish => return Ok(()),
                _ => return Err(std::io::Error::other("it orders out of turn")),
            },
            Err(RecvTimeoutError::Timeout) => {
                sender.send(&News::Readings(Gauges::sum(&pool.gauges)))?;
                intervals(pool, sender)?;
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(std::io::Error::other("the coordinator is gone"));
            }
        }
        if pool.threads.iter().any(JoinHandle::is_finished) {
            return Err(std::io::Error::other("a worker ended early"));
        }
    }
}

fn intervals(pool: &WorkerPool, sender: &mut Sender) -> std::io::Result<()> {
    for (flow, arriving) in pool.intervals.iter().enumerate() {
        while let Ok(interval) = arriving.try_recv() {
            sender.send(&News::Interval { flow, interval })?;
        }
    }
    Ok(())
}
