//! Inputs for a fuzz target's body without a fuzzer: its seeds, mutations of them, and noise. The
//! same in each run.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Mutations of each seed.
const MUTATIONS: usize = 400;
/// Inputs without a seed.
const NOISE: usize = 2000;
/// Most bytes of one of these.
const NOISE_LEN: usize = 600;
/// Most bytes of a mutation: one that was put together again and again would grow for ever.
const MUTATION_LEN: usize = 64 * 1024;
/// How many inputs there are to be, in a run by hand; another sequence each time.
const INPUTS: &str = "FAKESSH_FUZZ_INPUTS";

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
        check(body, &noise(&mut random));
    }
    if let Some(inputs) = std::env::var(INPUTS).ok().and_then(|inputs| inputs.parse().ok()) {
        run_long(target, body, seeds, inputs);
    }
}

/// So many inputs. Now and then one becomes a seed itself, so that changes add up.
fn run_long(target: &str, body: fn(&[u8]), mut seeds: Vec<Vec<u8>>, inputs: u64) {
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut random = Random(begin.as_nanos() as u64 | 1);
    eprintln!("{target}: {inputs} inputs, sequence {}", random.0);
    let first = seeds.len();
    for number in 0..inputs {
        let input = if number % 16 == 0 {
            noise(&mut random)
        } else {
            let seed = random.below(seeds.len());
            mutate(&seeds[seed], &seeds[random.below(seeds.len())], &mut random)
        };
        check(body, &input);
        if number % 64 == 1 {
            // The seeds of the target stay; the others make room for each other.
            match seeds.len() {
                count if count < 8 * first + 64 => seeds.push(input),
                count => seeds[first + random.below(count - first)] = input,
            }
        }
    }
    eprintln!("{target}: {inputs} inputs in {:?}", begin_elapsed(begin));
}

fn begin_elapsed(begin: Duration) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(begin)
}

fn noise(random: &mut Random) -> Vec<u8> {
    let len = random.below(NOISE_LEN);
    (0..len).map(|_| random.byte()).collect()
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
    input.truncate(MUTATION_LEN);
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
