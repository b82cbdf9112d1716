//! Takes packets apart, and composes replies. Numbers are big-endian, strings have their length
//! in front.

use super::packet::{MAX_DATA, MAX_PACKET, Malformed, kind};
use super::status::Status;

/// Bytes of the length in front of a packet.
pub(crate) const LENGTH: usize = 4;

/// A reply to READ, without its data: length, type, id, length of the data.
const DATA_HEADER: usize = LENGTH + 1 + 4 + 4;

/// Bytes of replies that are gathered before they are written: two of the longest.
const REPLIES: usize = 2 * (LENGTH + MAX_PACKET);

/// What is left of a packet.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(packet: &'a [u8]) -> Fields<'a> {
        Fields(packet)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    /// Any bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        let (field, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    /// A path or a name: no zero byte, but for one at the end, which OpenSSH overlooks.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let field = self.string()?;
        let text = field.strip_suffix(b"\0").unwrap_or(field);
        if text.contains(&0) { Err(Malformed) } else { Ok(text) }
    }
}

/// Replies that wait to be written.
#[derive(Debug)]
pub(crate) struct Replies {
    /// As long as the longest that it had to hold. Written once, so that data can be read in place
    /// without clearing the place first.
    bytes: Vec<u8>,
    /// How much of it is complete replies.
    complete: usize,
    /// How much of it is used.
    used: usize,
}

impl Replies {
    pub(crate) fn new() -> Replies {
        Replies { bytes: vec![0; REPLIES], complete: 0, used: 0 }
    }

    /// Whether the longest reply might not fit any more.
    pub(crate) fn is_full(&self) -> bool {
        REPLIES - self.complete.min(REPLIES) < LENGTH + MAX_PACKET
    }

    /// The complete ones.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[..self.complete]
    }

    /// Forgets what was written.
    pub(crate) fn clear(&mut self) {
        (self.complete, self.used) = (0, 0);
    }

    /// Whether `more` bytes fit into the packet that is being composed.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.used - self.complete + more <= LENGTH + MAX_PACKET
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    /// Leaves room for a number that is not known yet. Returns its place.
    pub(crate) fn u32_to_come(&mut self) -> usize {
        let place = self.used;
        self.u32(0);
        place
    }

    /// Fills the room that was left for a number.
    pub(crate) fn set_u32(&mut self, place: usize, number: u32) {
        self.bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.put(bytes);
    }

    /// Begins a packet that has no id, in place of any that was not finished.
    pub(crate) fn begin_without_id(&mut self, kind: u8) {
        self.used = self.complete;
        self.u32_to_come();
        self.put(&[kind]);
    }

    /// Begins the reply to a request.
    pub(crate) fn begin(&mut self, kind: u8, id: u32) {
        self.begin_without_id(kind);
        self.u32(id);
    }

    /// The packet is complete.
    pub(crate) fn finish(&mut self) {
        let len = self.used - self.complete - LENGTH;
        self.set_u32(self.complete, len as u32);
        self.complete = self.used;
    }

    /// A STATUS. Clients of versions before 3 know no message in it.
    pub(crate) fn status(&mut self, id: u32, status: Status, message: Option<&str>) {
        self.begin(kind::STATUS, id);
        self.u32(status as u32);
        if let Some(message) = message {
            self.string(message.as_bytes());
            // The language of the message.
            self.string(b"");
        }
        self.finish();
    }

    /// A HANDLE.
    pub(crate) fn handle(&mut self, id: u32, handle: u32) {
        self.begin(kind::HANDLE, id);
        self.string(&handle.to_be_bytes());
        self.finish();
    }

    /// A NAME with one name and no attributes.
    pub(crate) fn name(&mut self, id: u32, name: &[u8]) {
        self.begin(kind::NAME, id);
        self.u32(1);
        self.string(name);
        self.string(name);
        self.u32(0);
        self.finish();
    }

    /// A DATA with what `read` puts into the place that it is given, which has `len` bytes, at
    /// most [`MAX_DATA`].
    ///
    /// # Errors
    /// Those of `read`; then there is no reply.
    pub(crate) fn data<E>(
        &mut self,
        id: u32,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let len = len.min(MAX_DATA);
        let start = self.complete + DATA_HEADER;
        if start + len > self.bytes.len() {
            self.bytes.resize(start + len, 0);
        }
        let read = read(&mut self.bytes[start..start + len])?.min(len);
        self.begin(kind::DATA, id);
        self.u32(read as u32);
        self.used += read;
        self.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_in_order_and_nothing_beyond_the_end() {
        let mut fields = Fields::new(b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\x02ab\0\0\0\x09x");
        assert_eq!((fields.u8(), fields.u32(), fields.u64()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(fields.string(), Ok(&b"ab"[..]));
        assert_eq!(fields.string(), Err(Malformed));
        assert_eq!(Fields::new(b"\xff\xff\xff\xffabc").string(), Err(Malformed));
        assert_eq!(Fields::new(b"\0\0").u32(), Err(Malformed));
    }

    #[test]
    fn a_text_may_end_with_a_zero_byte_and_hold_no_other() {
        assert_eq!(Fields::new(b"\0\0\0\x03ab\0").text(), Ok(&b"ab"[..]));
        assert_eq!(Fields::new(b"\0\0\0\x01\0").text(), Ok(&b""[..]));
        assert_eq!(Fields::new(b"\0\0\0\x03a\0b").text(), Err(Malformed));
        assert_eq!(Fields::new(b"\0\0\0\x03a\0\0").text(), Err(Malformed));
    }

    #[test]
    fn replies_have_their_length_in_front() {
        let mut replies = Replies::new();
        replies.status(7, Status::Eof, Some("End of file"));
        replies.handle(8, 1);
        let expected = b"\0\0\0\x1c\x65\0\0\0\x07\0\0\0\x01\0\0\0\x0bEnd of file\0\0\0\0\
            \0\0\0\x0d\x66\0\0\0\x08\0\0\0\x04\0\0\0\x01";
        assert_eq!(replies.waiting(), expected);
        replies.clear();
        replies.status(7, Status::Eof, None);
        assert_eq!(replies.waiting(), b"\0\0\0\x09\x65\0\0\0\x07\0\0\0\x01");
    }

    #[test]
    fn what_was_not_finished_is_not_sent() {
        let mut replies = Replies::new();
        replies.begin(kind::NAME, 1);
        replies.string(b"lost");
        replies.status(2, Status::Ok, None);
        assert_eq!(replies.waiting(), b"\0\0\0\x09\x65\0\0\0\x02\0\0\0\0");
        assert_eq!(replies.data(3, 10, |_| Err(())), Err(()));
        assert_eq!(replies.waiting().len(), 13);
    }

    #[test]
    fn data_is_read_in_place_and_may_be_short() {
        let mut replies = Replies::new();
        let read = |place: &mut [u8]| {
            place[..2].copy_from_slice(b"xy");
            Ok::<_, ()>(2)
        };
        replies.data(3, 10, read).unwrap();
        assert_eq!(replies.waiting(), b"\0\0\0\x0b\x67\0\0\0\x03\0\0\0\x02xy");
        assert!(!replies.is_full());
        replies.data(4, usize::MAX, |place| Ok::<_, ()>(place.len())).unwrap();
        assert_eq!(replies.waiting().len(), 15 + DATA_HEADER + MAX_DATA);
        assert!(!replies.is_full());
        replies.data(5, 2000, |place| Ok::<_, ()>(place.len())).unwrap();
        assert!(replies.is_full());
    }
}
