//! The protocol's codec beside a protobuf codec (prost), on the same messages.
//!
//! ```text
//!   a pair:  this codec over 64 messages, again and again │ prost over the same ones, as often
//!   a ratio: prost's nanoseconds a message over this codec's, within the pair
//! ```
//!
//! A message is a whole frame: header and body here, a length-delimited envelope with a `oneof`
//! there. prost is used as an expert would use it: the struct to encode is at hand and the buffer
//! is used again; payloads are [`bytes::Bytes`], which decoding slices off the received buffer
//! instead of copying them. Times are of the thread's processor clock; what a decoder returned is
//! dropped within them. Allocations are counted by the program's allocator.

mod kinds;
mod protobuf;

use crate::client::Problem;
use crate::cpu;
use bytes::Bytes;
use gateway_core::alloc_guard::thread_allocations;
use kinds::{Deliver, Heartbeat, Kind, Login, Push, SendReply, SendRoom, Source};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Different messages of a kind: no branch and no length is the same each time.
const VARIANTS: usize = 64;
/// The largest frame.
const FRAME_SIZE_MAX: usize = 2048;

/// One message kind in one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodecRow {
    /// The message.
    pub message: String,
    /// `encode` or `decode`.
    pub direction: String,
    /// Whether the bar applies.
    pub judged: bool,
    /// Bytes of a frame, at the mean: this codec's, and prost's.
    pub sizes: [f64; 2],
    /// Nanoseconds a message, by pair: this codec's, and prost's.
    pub ns: Vec<[f64; 2]>,
    /// Allocations a message: this codec's, and prost's.
    pub allocations: [f64; 2],
}

/// All of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodecReport {
    /// The rows.
    pub rows: Vec<CodecRow>,
    /// Share of the processor that other processes used meanwhile.
    pub others: f64,
}

/// Measures each kind in both directions, in `pairs` pairs of two times `batch`, on processor
/// `cpu`, to which the thread is bound.
///
/// # Errors
/// [`Problem`]: a codec does not return what it was given; the system's errors.
pub fn measure(pairs: usize, batch: Duration, cpu: usize) -> Result<CodecReport, Problem> {
    let times = || Ok::<_, Problem>((Instant::now(), cpu::busy(cpu)?, cpu::of_this_thread()));
    let before = times()?;
    let mut rows = vec![];
    rows.extend(of_kind::<Heartbeat>(pairs, batch)?);
    rows.extend(of_kind::<Push<64>>(pairs, batch)?);
    rows.extend(of_kind::<Push<1024>>(pairs, batch)?);
    rows.extend(of_kind::<SendRoom>(pairs, batch)?);
    rows.extend(of_kind::<SendReply>(pairs, batch)?);
    rows.extend(of_kind::<Deliver>(pairs, batch)?);
    rows.extend(of_kind::<Login>(pairs, batch)?);
    let now = times()?;
    let used = (now.1 - before.1).saturating_sub(now.2 - before.2);
    Ok(CodecReport { rows, others: used.as_secs_f64() / (now.0 - before.0).as_secs_f64() })
}

/// A kind's messages in all forms.
struct Messages {
    sources: Vec<Source>,
    frames: Vec<Vec<u8>>,
    structs: Vec<protobuf::Envelope>,
    envelopes: Vec<Bytes>,
}

impl Messages {
    /// The messages, once both codecs have shown that they return what they were given.
    fn of<K: Kind>() -> Result<Messages, Problem> {
        let sources: Vec<Source> = (0..VARIANTS).map(|number| Source::new(number, K::PAYLOAD)).collect();
        let structs: Vec<protobuf::Envelope> = sources.iter().map(K::protobuf).collect();
        let wrong = |codec: &str| Problem(format!("{codec} does not return a {} as it was", K::NAME));
        let mut out = [0; FRAME_SIZE_MAX];
        let mut frames = vec![];
        for source in &sources {
            let size = K::emit(source, &mut out).ok_or_else(|| wrong("this codec"))?;
            let frame = out[..size].to_vec();
            let holds = K::parse(&frame).is_some_and(|parsed| K::holds(&parsed, source));
            frames.push(holds.then_some(frame).ok_or_else(|| wrong("this codec"))?);
        }
        let envelopes: Vec<Bytes> =
            structs.iter().map(|one| Bytes::from(one.encode_length_delimited_to_vec())).collect();
        for (envelope, expected) in envelopes.iter().zip(&structs) {
            let decoded = protobuf::Envelope::decode_length_delimited(envelope.clone());
            if decoded.as_ref().ok() != Some(expected) {
                return Err(wrong("prost"));
            }
        }
        Ok(Messages { sources, frames, structs, envelopes })
    }
}

fn of_kind<K: Kind>(pairs: usize, batch: Duration) -> Result<[CodecRow; 2], Problem> {
    let messages = Messages::of::<K>()?;
    let mean = |sizes: usize| sizes as f64 / VARIANTS as f64;
    let sizes = [
        mean(messages.frames.iter().map(Vec::len).sum()),
        mean(messages.envelopes.iter().map(Bytes::len).sum()),
    ];
    let row = |direction: &str, (ns, allocations)| CodecRow {
        message: K::NAME.to_owned(),
        direction: direction.to_owned(),
        judged: K::IS_JUDGED,
        sizes,
        ns,
        allocations,
    };
    let mut out = [0; FRAME_SIZE_MAX];
    let mut buffer = Vec::with_capacity(FRAME_SIZE_MAX);
    let encode = in_pairs(
        pairs,
        batch,
        || {
            for source in &messages.sources {
                let size = K::emit(black_box(source), &mut out);
                black_box((&mut out, size));
            }
        },
        || {
            for one in &messages.structs {
                buffer.clear();
                let _ = black_box(black_box(one).encode_length_delimited(&mut buffer));
                black_box(&mut buffer);
            }
        },
    );
    let decode = in_pairs(
        pairs,
        batch,
        || {
            for frame in &messages.frames {
                black_box(K::parse(black_box(frame)));
            }
        },
        || {
            for envelope in &messages.envelopes {
                let envelope = black_box(envelope);
                // Without a payload to share, decoding from the bytes themselves is cheaper.
                let _ = black_box(if K::PAYLOAD > 0 {
                    protobuf::Envelope::decode_length_delimited(envelope.clone())
                } else {
                    protobuf::Envelope::decode_length_delimited(&envelope[..])
                });
            }
        },
    );
    Ok([row("encode", encode), row("decode", decode)])
}

/// Nanoseconds a message by pair, and allocations a message, of two passes over all variants.
fn in_pairs(
    pairs: usize,
    batch: Duration,
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(),
) -> (Vec<[f64; 2]>, [f64; 2]) {
    let counts = [passes_of(batch, &mut ours), passes_of(batch, &mut theirs)];
    let mut all = vec![];
    let mut allocations = [0.0; 2];
    for _ in 0..pairs {
        let (one, other) = (timed(counts[0], &mut ours), timed(counts[1], &mut theirs));
        all.push([one.0, other.0]);
        allocations = [one.1, other.1];
    }
    (all, allocations)
}

/// How many passes take about a batch's time, after a first warm one.
fn passes_of(batch: Duration, pass: &mut impl FnMut()) -> u64 {
    let mut count = 1;
    loop {
        let since = Instant::now();
        (0..count).for_each(|_| pass());
        let took = since.elapsed();
        if took * 4 >= batch {
            return (count as f64 * batch.as_secs_f64() / took.as_secs_f64()).ceil() as u64;
        }
        count *= 2;
    }
}

/// Nanoseconds and allocations a message over `count` passes.
fn timed(count: u64, pass: &mut impl FnMut()) -> (f64, f64) {
    let messages = (count * VARIANTS as u64) as f64;
    let (since, allocations) = (cpu::of_this_thread(), thread_allocations());
    (0..count).for_each(|_| pass());
    let allocated = thread_allocations() - allocations;
    ((cpu::of_this_thread() - since).as_nanos() as f64 / messages, allocated as f64 / messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_codecs_return_every_message_as_it_was() {
        for checked in [
            Messages::of::<Heartbeat>(),
            Messages::of::<Push<64>>(),
            Messages::of::<Push<1024>>(),
            Messages::of::<SendRoom>(),
            Messages::of::<SendReply>(),
            Messages::of::<Deliver>(),
            Messages::of::<Login>(),
        ] {
            let messages = checked.unwrap();
            assert_eq!((messages.frames.len(), messages.envelopes.len()), (VARIANTS, VARIANTS));
        }
    }

    #[test]
    fn every_pair_has_both_times() {
        let rows = of_kind::<SendRoom>(3, Duration::from_micros(10)).unwrap();
        for row in rows {
            assert_eq!(row.ns.len(), 3);
            assert!(row.sizes.iter().all(|size| *size > 64.0), "{row:?}");
        }
    }
}
