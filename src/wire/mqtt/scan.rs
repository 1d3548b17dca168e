//! Where packets end in a stream that is handed on as it comes, and what the shortest of them say.

use super::{Fault, remaining_length};

/// Bytes of a packet's content that are looked at: a packet identifier and a reason.
const START: usize = 3;

/// Follows a stream of packets, cut anywhere, without keeping them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The first byte of the packet, and the bytes of its length.
    head: [u8; 5],
    head_len: u8,
    /// The length is known: so many bytes of content there are, and so many have come.
    length: Option<u32>,
    done: u32,
    start: [u8; START],
}

/// A packet that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its type, 1 to 15 (2.1.2).
    pub kind: u8,
    /// What acknowledgements begin with; of other packets it means nothing. 0 where the packet is shorter.
    pub packet_id: u16,
    /// What may follow in acknowledgements; 0 where the packet is shorter (3.4.2.1).
    pub reason: u8,
}

impl Seen {
    /// PUBACK, PUBCOMP, or a PUBREC that refuses: the message that it answers is not under way any more (4.9).
    pub const fn ends_publish(self) -> bool {
        matches!(self.kind, 4 | 7) || self.kind == 5 && self.reason >= 0x80
    }

    /// DISCONNECT.
    pub const fn is_disconnect(self) -> bool {
        self.kind == super::packet::kind::DISCONNECT
    }
}

impl Scan {
    /// All packets so far are whole: here something may be put in between.
    pub const fn is_between(&self) -> bool {
        self.head_len == 0
    }

    /// Goes on to the end of the packet that has begun, or else of the bytes: how many of them that are, and the packet
    /// that ends there.
    ///
    /// # Errors
    /// [`Fault::Length`]: a length in more bytes than it may take (1.5.5). Nothing behind it can be followed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Seen>), Fault> {
        let mut used = 0;
        while self.length.is_none() {
            let Some(&byte) = bytes.get(used) else { return Ok((used, None)) };
            used += 1;
            self.head(byte)?;
        }
        let behind = bytes.get(used..).unwrap_or_default();
        let length = self.length.unwrap_or(0);
        let some = (length - self.done).min(behind.len().try_into().unwrap_or(u32::MAX));
        let content = behind.get(..some as usize).unwrap_or_default();
        for (place, byte) in self.start.iter_mut().skip(self.done as usize).zip(content) {
            *place = *byte;
        }
        self.done += some;
        let seen = (self.done == length).then(|| self.end());
        Ok((used + content.len(), seen))
    }

    fn head(&mut self, byte: u8) -> Result<(), Fault> {
        if let Some(place) = self.head.get_mut(usize::from(self.head_len)) {
            *place = byte;
            self.head_len += 1;
        }
        let lengths = self.head.get(1..usize::from(self.head_len)).unwrap_or_default();
        self.length = remaining_length(lengths)?.map(|(length, _)| length);
        Ok(())
    }

    fn end(&mut self) -> Seen {
        let Scan { head: [first, ..], start: [high, low, reason], .. } = *self;
        *self = Scan::default();
        Seen { kind: first >> 4, packet_id: u16::from_be_bytes([high, low]), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// PUBACK, PINGRESP, PUBREC with a reason, a PUBLISH of 200 bytes, DISCONNECT.
    fn stream() -> (Vec<u8>, Vec<Seen>) {
        let mut stream = b"\x40\x02\x01\x02\xd0\x00\x50\x04\x00\x09\x87\x00\x30\xc8\x01".to_vec();
        stream.extend([7; 200]);
        stream.extend(b"\xe0\x01\x8e");
        let seen = |kind, packet_id, reason| Seen { kind, packet_id, reason };
        let all = [seen(4, 258, 0), seen(13, 0, 0), seen(5, 9, 0x87), seen(3, 0x0707, 7), seen(14, 0x8e00, 0)];
        (stream, all.to_vec())
    }

    #[test]
    fn packets_end_where_they_end_however_they_are_cut() {
        let (stream, expected) = stream();
        for size in 1..stream.len() {
            let (mut scan, mut all) = (Scan::default(), Vec::new());
            for piece in stream.chunks(size) {
                let mut at = 0;
                while at < piece.len() {
                    let (used, seen) = scan.step(&piece[at..]).unwrap();
                    at += used;
                    assert!(used > 0 && (seen.is_some() == scan.is_between()));
                    all.extend(seen);
                }
            }
            assert_eq!(all, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_ends_a_publish_is_known_and_a_wrong_length_is_refused() {
        let (_, all) = stream();
        assert_eq!(all.iter().map(|it| it.ends_publish()).collect::<Vec<_>>(), [true, false, true, false, false]);
        assert!(all[4].is_disconnect());
        assert!(!Seen { kind: 5, packet_id: 1, reason: 0x10 }.ends_publish(), "PUBREL and PUBCOMP are to come");
        assert_eq!(Scan::default().step(b"\x30\xff\xff\xff\xff\x01"), Err(Fault::Length));
    }
}
