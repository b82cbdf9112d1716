//! What a target prints before its slave speaks.

use fakessh_protocol::start::{Found, MAX_NOISE, Scanner, complaint, preamble};

const MARKER: &str = "m";

/// The first byte says into pieces of how many bytes the rest is cut.
pub fn start(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else { return };
    let size = usize::from(size) + 1;
    let mut scanner = Scanner::new(MARKER);
    let mut came = 0;
    for piece in stream.chunks(size) {
        came += piece.len();
        match scanner.scan(piece) {
            Found::Nothing => {}
            Found::Started(frames) => {
                // It started just where the stream says so, and for the first time.
                let begin = came - frames.len();
                assert_eq!(stream[begin..came], frames);
                assert!(stream[..begin].ends_with(&preamble(MARKER)));
                assert_eq!(
                    position(stream, &preamble(MARKER)),
                    Some(begin - preamble(MARKER).len())
                );
                return;
            }
            Found::Failed(_) => {
                let begin = position(stream, complaint(MARKER).as_bytes()).expect("it complained");
                assert!(begin < came && stream[begin..came].contains(&b'\n'));
                return;
            }
        }
    }
    assert!(scanner.noise().len() <= 3 * MAX_NOISE, "as text, a byte may take three");
    assert_eq!(position(stream, &preamble(MARKER)), None, "it started and nobody saw");
}

fn position(stream: &[u8], needle: &[u8]) -> Option<usize> {
    stream.windows(needle.len()).position(|window| window == needle)
}
