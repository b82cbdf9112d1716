//! Inputs for a fuzz target's body without a fuzzer: its seeds, mutations of them, and noise. The
//! same in each run.

use std::fs;
use std::path::Path;

/// Mutations of each seed.
const MUTATIONS: usize = 400;
/// Inputs without a seed.
const NOISE: usize = 2000;
/// Most bytes of one of these.
const NOISE_LEN: usize = 600;

/// Gives `body` all inputs that there are for this target. An input that makes it panic is shown.
pub fn run(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        check(body, seed);
        for _ in 0..MUTATIONS {
            let other = &seeds[random.below(seeds.len())];
            check(body, &mutate(seed, other, &mut random));
        }
    }
    for _ in 0..NOISE {
        let len = random.below(NOISE_LEN);
        let input: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        check(body, &input);
    }
}

fn check(body: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| body(input)) {
        eprintln!("the input was {input:?}");
        std::panic::resume_unwind(panic);
    }
}

fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, random.byte()),
            2 => {
                let from = random.below(other.len() + 1);
                input.splice(at..at, other[from..].iter().copied());
            }
            3 if at < input.len() => drop(input.remove(at)),
            4 if at < input.len() => input[at] = [0, 1, 127, 128, 250, 251, 252, 255][at % 8],
            _ if at < input.len() => input[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    input
}

/// xorshift64*: a sequence, not a secret.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}
