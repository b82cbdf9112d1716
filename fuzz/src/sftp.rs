//! What an SFTP client sends to the server in the slave.

use fakessh_slave::fuzzing::Sftp;

/// Most bytes of the replies to one packet: the longest packet, and a little around it.
const MAX_REPLY: usize = 257 * 1024;

/// Packets, each behind its length. They come after the client's first, which is a good one.
pub fn sftp(input: &[u8]) {
    let mut server = Sftp::start();
    let greeting = server.answer(&[1, 0, 0, 0, 3]).expect("a client of version 3");
    assert_eq!(greeting[4], 2, "the server's version");
    let mut rest = input;
    while let Some((len, behind)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes(*len) as usize;
        let (packet, behind) = behind.split_at(len.min(behind.len()));
        rest = behind;
        if !Sftp::is_harmless(packet) {
            continue;
        }
        let Some(replies) = server.answer(packet) else { return };
        check(packet, &replies);
    }
}

/// A request has one reply, with its own number.
fn check(request: &[u8], replies: &[u8]) {
    assert!(replies.len() <= MAX_REPLY);
    let (len, reply) = replies.split_first_chunk().expect("a reply");
    assert_eq!(u32::from_be_bytes(*len) as usize, reply.len(), "one reply, and all of it");
    if request[0] == 1 {
        assert_eq!(reply[0], 2);
    } else {
        assert!((101..=105).contains(&reply[0]), "the reply's kind is {}", reply[0]);
        assert_eq!(reply[1..5], request[1..5], "the request's number");
    }
}
