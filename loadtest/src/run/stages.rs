//! The stages of a run, one after the other.

use super::{ASK_EVERY, LOOK_EVERY, Run, StageOutput};
use crate::monitor::{self, Usage};
use crate::plan::StageKind;
use crate::worker;
use crate::worker::control::{Gauges, Window};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Within this time a worker has published its counts: it does so every 100 ms, and turns at least
/// every 250 ms.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(350);

impl Run<'_> {
    /// One stage, from its start until it has settled and rested.
    pub(super) fn stage(&mut self, stage: usize) {
        let plan = self.plan.clone();
        let before = self.context.flood(plan.stages[stage].syn_rate.unwrap_or(0));
        let mut output = match plan.stages[stage].kind {
            StageKind::Hold | StageKind::Churn { .. } => self.traffic(stage),
            StageKind::Disconnect | StageKind::Reconnect => self.turn_over(stage),
        };
        output.syns = self.context.flood(0).saturating_sub(before);
        self.pause(plan.stages[stage].rest);
        output.rested = self.watcher.read();
        self.stages.push(output);
    }

    fn read(&self) -> Usage {
        self.watcher.read()
    }

    /// Reads the server at the end of a window. A worker in poll mode publishes its counts a few
    /// times a second, so its last ones come later.
    fn read_end(&self) -> Usage {
        if self.plan.machinery.link.is_some() {
            std::thread::sleep(PUBLISHED_WITHIN);
        }
        self.read()
    }

    /// Warm-up, window, and what is still under way then.
    fn traffic(&mut self, stage: usize) -> StageOutput {
        let plan = self.plan.stages[stage].clone();
        // Every worker has seen the stage by then.
        let turns = 2 * worker::wait_max(&self.plan).as_nanos() as u64;
        let traffic_start = self.now() + turns + self.pool.lead;
        let start = traffic_start + plan.phases.warmup.as_nanos() as u64;
        let mut window =
            Window { stage, traffic_start, start, end: start + plan.phases.measure.as_nanos() as u64 };
        if self.stopped() {
            window.end = window.start;
        }
        let delivered_before = self.sum(|gauges| &gauges.delivered);
        self.control.start(window);
        let name = |what: &str| {
            if self.plan.stages.len() > 1 { format!("{}: {what}", plan.name) } else { what.to_owned() }
        };
        let (warming, measuring) = (name("warming up"), name("measuring"));
        self.progress.phase(&warming, (start - traffic_start) / 1_000_000);
        self.wait_until(start, traffic_start, None);
        let before = self.read();
        self.progress.phase(&measuring, window.end.saturating_sub(start) / 1_000_000);
        self.wait_until(window.end, start, plan.until_delivered.then_some(delivered_before));
        if self.now() < window.end {
            // Stopped before the window began, it has no length.
            window.end = self.now();
            window.start = window.start.min(window.end);
            self.control.end(stage, window.end);
        }
        let end = self.read_end();
        let unsettled = self.wait_for_deliveries(&window);
        self.output(window, before, end, unsettled)
    }

    fn output(&self, window: Window, start: Usage, end: Usage, unsettled: bool) -> StageOutput {
        StageOutput {
            window,
            unsettled,
            settled_at: self.now(),
            seconds: Vec::new(),
            start,
            end,
            rested: end,
            emptied_at: None,
            syns: 0,
        }
    }

    /// Waits until `time`; or, with a number of deliveries, until there are more and no more are
    /// owed.
    fn wait_until(&mut self, time: u64, from: u64, delivered_before: Option<u64>) {
        let mut last = (self.now(), self.sum(|gauges| &gauges.delivered));
        while self.now() < time && !self.stopped() {
            self.watch_server();
            let left = Duration::from_nanos(time.saturating_sub(self.now()));
            if left > LOOK_EVERY {
                self.look();
            } else {
                std::thread::sleep(left);
            }
            let (now, delivered) = (self.now(), self.sum(|gauges| &gauges.delivered));
            let owed = self.sum(|gauges| &gauges.owed);
            if delivered_before.is_some_and(|before| delivered > before && delivered >= owed) {
                return;
            }
            if now >= last.0 + 200_000_000 {
                let rate = (delivered - last.1.min(delivered)) as f64 * 1e9 / (now - last.0) as f64;
                let p99 = self.recent_p99();
                let message = format!("{rate:.0} deliveries/s{p99}");
                self.progress.at(now.saturating_sub(from) / 1_000_000, &message);
                last = (now, delivered);
            }
        }
    }

    fn recent_p99(&self) -> String {
        let last = self.seconds.values().next_back().filter(|(_, latency)| !latency.is_empty());
        last.map_or_else(String::new, |(_, latency)| {
            format!(", p99 {}", crate::report::units::nanos(latency.value_at_quantile(0.99) as f64))
        })
    }

    /// Waits for what is still under way, at most as long as allowed; true when deliveries were
    /// still arriving then.
    fn wait_for_deliveries(&mut self, window: &Window) -> bool {
        let settle_max = self.plan.stages[window.stage].phases.settle_max;
        let patience = settle_max.as_nanos() as u64;
        let deadline = self.now() + patience;
        let (mut quiet_since, mut last) = (self.now(), (u64::MAX, 0));
        let mut unsettled = true;
        self.progress.phase("settling", settle_max.as_millis() as u64);
        while self.now() < deadline && !self.gone && !self.pool.threads.iter().any(JoinHandle::is_finished) {
            self.watch_server();
            let delivered = self.sum(|gauges| &gauges.delivered);
            let unanswered = self.sum(|gauges| &gauges.unanswered);
            let done = delivered >= self.sum(|gauges| &gauges.owed) && unanswered == 0;
            if done && self.now() > window.end + 50_000_000 && self.everyone_is_in(window.stage) {
                unsettled = false;
                break;
            }
            if (delivered, unanswered) != last {
                (quiet_since, last) = (self.now(), (delivered, unanswered));
            }
            // Half of the time without anything: nothing more will come.
            if self.now() > quiet_since + patience / 2 {
                unsettled = false;
                break;
            }
            self.look();
        }
        // Duplicates come late: one more moment for them.
        std::thread::sleep(Duration::from_millis(50));
        self.sample(self.now());
        unsettled
    }

    /// Whether all workers have turned to `stage`, so that their gauges are about it.
    fn everyone_is_in(&self, stage: usize) -> bool {
        let is_in = |gauges: &std::sync::Arc<Gauges>| gauges.stage.load(Acquire) > stage;
        self.pool.gauges.iter().all(is_in)
    }

    /// Closes or reopens all connections.
    fn turn_over(&mut self, stage: usize) -> StageOutput {
        let plan = self.plan.stages[stage].clone();
        let leaving = plan.kind == StageKind::Disconnect;
        let start = self.now();
        let deadline = start + plan.phases.measure.as_nanos() as u64;
        let mut window = Window { stage, traffic_start: start, start, end: deadline };
        let before = self.read();
        let total = self.sum(|gauges| &gauges.ready).max(u64::from(self.plan.connections));
        self.progress.phase(&plan.name, total);
        self.control.start(window);
        while !self.everyone_is_in(stage) && !self.stopped() {
            self.look();
        }
        let done = if leaving { self.until_gone(total, deadline) } else { self.until_ready(total, deadline) };
        window.end = self.now();
        let emptied_at = if leaving { self.until_server_empty(deadline) } else { None };
        let end = self.read_end();
        self.control.end(stage, window.end);
        self.sample(self.now());
        StageOutput { emptied_at, ..self.output(window, before, end, !done) }
    }

    fn until_gone(&mut self, total: u64, deadline: u64) -> bool {
        while !self.stopped() && self.now() < deadline {
            let ready = self.sum(|gauges| &gauges.ready);
            self.progress.at(total.saturating_sub(ready), &format!("{ready} left"));
            if ready == 0 {
                return true;
            }
            self.look();
        }
        false
    }

    /// Asks the server until it has no connections any more; `None` where it does not report them,
    /// or keeps some.
    fn until_server_empty(&mut self, deadline: u64) -> Option<u64> {
        let address = self.metrics?;
        let mut most = 1.0_f64;
        while !self.stopped() && self.now() < deadline {
            let levels = monitor::metrics::scrape(address);
            if levels.is_empty() {
                // It is too busy to answer in time, or it is gone.
                self.watch_server();
            } else {
                let left = levels.get("gateway_connections").copied()?;
                if left == 0.0 {
                    return Some(self.now());
                }
                most = most.max(left);
                self.progress.at((most - left) as u64, &format!("the server still has {left}"));
            }
            let next = self.now() + ASK_EVERY;
            while self.now() < next {
                self.look();
            }
        }
        None
    }

    fn pause(&mut self, time: Duration) {
        let until = self.now() + time.as_nanos() as u64;
        while self.now() < until && !self.stop.load(Relaxed) {
            self.look();
        }
        self.sample(self.now());
    }
}
