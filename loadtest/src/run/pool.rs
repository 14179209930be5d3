//! The workers of a run: threads of this process, or agents.

use crate::agents::{AgentState, Connected};
use crate::backend::{self, BackendContext};
use crate::client::goim::Goim;
use crate::client::raw::{Raw, WebSocketRaw};
use crate::client::websocket::Upgrade;
use crate::clock::RunClock;
use crate::error::RunError;
use crate::exporter::Exporter;
use crate::plan::{ProtocolKind, RunPlan};
use crate::worker::control::{Control, Gauges, Interval};
use crate::worker::{Assignment, WorkerResult};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Time for an order to come to all agents, in ns, besides some round trips.
const LEAD: u64 = 100_000_000;
const LEAD_TRIPS: u64 = 4;

type Intervals<E> = Vec<E>;

/// See the module's text.
pub(crate) struct WorkerPool {
    pub(crate) gauges: Vec<Arc<Gauges>>,
    pub(crate) threads: Vec<JoinHandle<Result<Vec<WorkerResult>, RunError>>>,
    /// The seconds of each flow.
    pub(crate) intervals: Intervals<mpsc::Receiver<Interval>>,
    pub(super) exporter: Option<Exporter>,
    agents: Vec<Arc<Mutex<AgentState>>>,
    /// So long before its time a stage is ordered, in ns.
    pub(super) lead: u64,
}

/// A channel for each flow.
fn channels(plan: &RunPlan) -> (Intervals<mpsc::Sender<Interval>>, Intervals<mpsc::Receiver<Interval>>) {
    plan.flows.iter().map(|_| mpsc::channel()).unzip()
}

impl WorkerPool {
    fn empty(intervals: Intervals<mpsc::Receiver<Interval>>) -> WorkerPool {
        let (gauges, threads, agents) = (Vec::new(), Vec::new(), Vec::new());
        WorkerPool { gauges, threads, intervals, exporter: None, agents, lead: 0 }
    }

    /// Starts the workers of `plan` in this process.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(crate) fn start(
        plan: &Arc<RunPlan>,
        control: &Arc<Control>,
        clock: RunClock,
        context: &BackendContext,
    ) -> Result<WorkerPool, RunError> {
        let (senders, intervals) = channels(plan);
        let mut pool = WorkerPool::empty(intervals);
        let duties = plan.duties();
        let count = backend::threads(plan.machinery.backend, plan.machinery.threads, duties.len());
        let mut assignments: Vec<Vec<Assignment>> = (0..count).map(|_| Vec::new()).collect();
        for (number, duty) in duties.into_iter().enumerate() {
            let gauges = Arc::new(Gauges::default());
            pool.gauges.push(gauges.clone());
            assignments[number % count].push(Assignment {
                plan: plan.clone(),
                duty,
                counts_thread: number < count,
                control: control.clone(),
                gauges,
                clock,
                context: context.clone(),
                intervals: senders.clone(),
            });
        }
        for (number, assigned) in assignments.into_iter().enumerate() {
            let plan = plan.clone();
            let work = move || {
                let pin = &plan.machinery.pin;
                if let Some(cpu) = pin.get(number % pin.len().max(1)) {
                    netpoll::pin_current_thread(*cpu).map_err(|error| {
                        RunError::new(
                            format!("cannot pin a worker to processor {cpu}: {error}"),
                            "check --pin against nproc",
                        )
                    })?;
                }
                work_by_protocol(&plan, assigned)
            };
            let thread = std::thread::Builder::new().name(format!("loadtest-{number}")).spawn(work);
            pool.threads.push(thread.map_err(|error| {
                RunError::new(
                    format!("cannot start thread {number}: {error}"),
                    "lower --workers or --threads",
                )
            })?);
        }
        Ok(pool)
    }

    /// Starts the workers of agents, which have their parts of `plan`.
    ///
    /// # Errors
    /// An agent that was lost.
    pub(super) fn of_agents(
        agents: Vec<Connected>,
        plan: &RunPlan,
        control: &Arc<Control>,
        clock: RunClock,
    ) -> Result<WorkerPool, RunError> {
        let (senders, intervals) = channels(plan);
        let mut pool = WorkerPool::empty(intervals);
        // None is followed by a thread before all have started: an error ends them all.
        let mut agents = agents;
        agents.iter_mut().try_for_each(|agent| agent.start(clock))?;
        for agent in agents {
            pool.lead = pool.lead.max(LEAD + LEAD_TRIPS * agent.round_trip);
            let gauges = Arc::new(Gauges::default());
            let address = agent.address().to_owned();
            let state = Arc::new(Mutex::new(AgentState { address, ..AgentState::default() }));
            pool.gauges.push(gauges.clone());
            pool.agents.push(state.clone());
            let (control, senders) = (control.clone(), senders.clone());
            pool.threads
                .push(std::thread::spawn(move || agent.work(&control, &gauges, &senders, clock, &state)));
        }
        Ok(pool)
    }

    /// What is known of the agents.
    pub(super) fn agents(&self) -> Vec<AgentState> {
        self.agents.iter().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

/// Chooses the protocol; the backend is chosen by [`backend::work`].
fn work_by_protocol(plan: &RunPlan, assigned: Vec<Assignment>) -> Result<Vec<WorkerResult>, RunError> {
    let kind = plan.machinery.backend;
    let path = plan.endpoints.websocket_path.clone();
    let upgrade = Upgrade { path, host: plan.endpoints.server_name.clone() };
    match plan.protocol {
        ProtocolKind::Raw => {
            let size = plan.flows.first().map_or(crate::stamp::STAMP_SIZE, |flow| flow.payload_size);
            backend::work(kind, &Raw { size }, assigned)
        }
        ProtocolKind::WebSocketRaw => backend::work(kind, &WebSocketRaw { upgrade }, assigned),
        ProtocolKind::Goim => {
            let upgrade = plan.websocket.then_some(upgrade);
            let protocol = Goim { identity: Arc::new(plan.identity.clone()), upgrade, run: plan.run };
            backend::work(kind, &protocol, assigned)
        }
    }
}
