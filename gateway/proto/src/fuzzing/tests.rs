use std::path::PathBuf;
use std::vec::Vec;
use std::{format, fs};

const RUNS: usize = 20_000;

/// SplitMix64: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect();
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "a corpus of {} in {}", paths.len(), folder.display());
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"'][random.below(6)],
            4 => {
                let other = &corpus[random.below(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

fn run(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| body(input));
    for input in &corpus {
        (0..input.len().min(256)).for_each(|cut| body(&input[..cut]));
    }
    let mut random = Random(0x5eed);
    for run in 0..RUNS {
        let input = if run % 8 == 0 {
            (0..random.below(300)).map(|_| random.next() as u8).collect()
        } else {
            mutate(&mut random, &corpus)
        };
        let caught = std::panic::catch_unwind(|| body(&input));
        assert!(caught.is_ok(), "{}", format!("{target} run {run}: {input:02x?}"));
    }
}

#[test]
fn frame_oracles_hold() {
    run("frame", super::frame);
}

#[test]
fn websocket_oracles_hold() {
    run("websocket", super::websocket);
}

#[test]
fn handshake_oracles_hold() {
    run("handshake", super::handshake);
}

#[test]
fn auth_oracles_hold() {
    run("auth", super::auth);
}

#[test]
fn bodies_oracles_hold() {
    run("bodies", super::bodies);
}
