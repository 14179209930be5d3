//! The backend's own counts, as the worker's thread published them last.

use super::counter::Counter;
use super::table::Metric;
use netpoll::Backend;
use std::sync::OnceLock;

/// Declares [`BackendMetrics`]: the fields of [`netpoll::BackendCounters`], each with its help.
macro_rules! backend_metrics {
    ($($field:ident $help:literal;)*) => {
        /// [`netpoll::BackendCounters`], readable from any thread.
        #[derive(Debug, Default)]
        pub struct BackendMetrics {
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl BackendMetrics {
            /// The metrics, and the count that each shows.
            pub const TABLE: &[(Metric, fn(&BackendMetrics) -> u64)] = &[$((
                Metric {
                    name: concat!("gateway_backend_", stringify!($field), "_total"),
                    kind: super::table::MetricKind::Counter,
                    labels: &[],
                    help: $help,
                },
                |counts| counts.$field.get(),
            )),*];

            /// Takes over the backend's counts.
            pub fn publish(&self, counters: &netpoll::BackendCounters) {
                // Without `..`: a counter that is new in netpoll has to have a line here.
                let netpoll::BackendCounters { $($field),* } = *counters;
                $(self.$field.set($field);)*
            }
        }
    };
}

backend_metrics! {
    polls "Waits of workers in the kernel: calls of epoll_wait or io_uring_enter.";
    events "Events or completions that the waits of workers returned.";
    accepts "Connections that the backend accepted.";
    accept_errors
        "Accepts that failed; after a shortage of descriptors or memory the listener rests for 20 ms.";
    receives "Receive operations that brought bytes.";
    receive_bytes "Bytes received from clients' sockets, including those of connections being closed.";
    receive_pauses "Times that receiving had to wait because no receive buffer was free.";
    lend_shortages
        "Receives that found none of the buffers lent to the kernel while others were free; one more is lent each time.";
    rearms "Receive operations of io_uring that ended by themselves and were started again.";
    sends "Send operations handed to the kernel; one may carry many frames.";
    send_bytes "Bytes that clients' sockets took.";
    send_waits "Times that a client's socket took less than it was offered, so that the rest had to wait.";
    send_copies "Waiting pieces copied to a block of their size, so that they do not hold another.";
    overflows "Times that the completion queue of io_uring was full; its completions were fetched later.";
    demotions
        "Connections put to a cheaper kind of waiting: new ones, and those that fell quiet (io.idle_demote_ms).";
    samples "Quiet connections that received once and went on waiting in the cheaper way.";
    promotions "Quiet connections moved back because bytes came again soon.";
    renewals "Tables of connections replaced by new ones while idle, with one heap allocation each.";
}

/// Counters of a TCP/IP stack in user space; empty with the kernel's. The names are the backend's.
#[derive(Debug, Default)]
pub struct StackMetrics(OnceLock<Vec<(&'static str, Counter)>>);

impl StackMetrics {
    /// Takes over the backend's counts. Allocates the first time.
    pub fn publish<B: Backend>(&self, backend: &mut B) {
        let counters = self.0.get_or_init(|| {
            let mut names = Vec::new();
            backend.details(&mut |name, _| names.push((name, Counter::default())));
            names
        });
        let mut place = 0;
        backend.details(&mut |name, count| {
            if counters.get(place).is_none_or(|(one, _)| *one != name) {
                place = counters.iter().position(|(one, _)| *one == name).unwrap_or(counters.len());
            }
            if let Some((_, counter)) = counters.get(place) {
                counter.set(count);
            }
            place += 1;
        });
    }

    /// The counts by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.get().into_iter().flatten().map(|(name, counter)| (*name, counter.get()))
    }
}
