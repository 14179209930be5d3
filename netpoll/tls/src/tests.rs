//! The parts together: published vectors, drawn streams, and what hostile peers send.

mod cutting;
mod hostile;
mod streams;
mod tickets;
mod vectors;

use crate::fuzzing;
use netpoll::sim::Rng;
use std::fs;
use std::path::PathBuf;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A record with this body, whatever its length.
fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16).to_be_bytes();
    let mut record = vec![kind, 3, 3, length[0], length[1]];
    record.extend_from_slice(body);
    record
}

fn drawn(rng: &mut Rng, size: usize) -> Vec<u8> {
    (0..size).map(|_| rng.next_u64() as u8).collect()
}

/// A fuzz body by its name.
type Body = (&'static str, fn(&[u8]));

const BODIES: [Body; 5] = [
    ("cutter", fuzzing::cutter),
    ("forged", fuzzing::forged),
    ("content", fuzzing::content),
    ("hello", fuzzing::hello),
    ("ticket", fuzzing::ticket),
];

#[test]
fn fuzz_bodies_hold_on_their_corpus_and_near_it() {
    for (name, body) in BODIES {
        let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", name].iter().collect();
        let files = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<PathBuf> = files.collect();
        paths.sort();
        assert!(paths.len() >= 8, "a corpus of {} in {}", paths.len(), folder.display());
        let mut rng = Rng::new(1);
        for path in paths {
            let input = fs::read(path).expect("a file");
            body(&input);
            for _ in 0..50 {
                let mut near = input.clone();
                let at = rng.below(near.len() + 1);
                match rng.below(3) {
                    0 => near.truncate(at),
                    1 => near.insert(at, rng.next_u64() as u8),
                    _ => near.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.below(8)),
                }
                body(&near);
            }
        }
    }
}

#[test]
fn fuzz_bodies_hold_on_drawn_inputs() {
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let size = rng.below(600);
        let noise = drawn(&mut rng, size);
        fuzzing::forged(&noise);
        fuzzing::content(&noise);
        fuzzing::hello(&noise);
        fuzzing::ticket(&noise);
        // Small numbers make records, messages and heads out of the noise.
        let calm: Vec<u8> = noise.iter().map(|byte| [byte & 1, *byte & 31, *byte][rng.below(3)]).collect();
        fuzzing::forged(&calm);
        fuzzing::content(&calm);
        fuzzing::hello(&[&[1, 22, 3, 1], &calm[..]].concat());
        fuzzing::ticket(&calm);
        if seed < 200 {
            fuzzing::cutter(&calm);
        }
    }
}

#[test]
fn what_a_connection_keeps_fits_its_budget() {
    // A queue's list (12 bytes) and a place in a list (4) come beside it.
    let size = crate::RecordLayer::SIZE + size_of::<crate::Cutter>();
    assert!(size + 16 <= 272, "{size}");
}
