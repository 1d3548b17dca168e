//! Deflated messages by another implementation than edgehold's: what the voices say, and what they may mean.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// RFC 7692 section 7.2.1: what a message ends with and what is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// One message that refers to no other.
pub(crate) fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 1000);
    let mut stream = Compress::new(Compression::new(6), false);
    stream.compress_vec(message, &mut out, FlushCompress::Sync).expect("bytes can be deflated");
    assert!(out.ends_with(&TAIL), "the room did not suffice");
    out.truncate(out.len() - TAIL.len());
    out
}

/// A reader of the messages of one direction.
pub(crate) struct Reader {
    stream: Decompress,
    takeover: bool,
}

impl Reader {
    /// `takeover`: messages may refer to those before them.
    pub(crate) fn new(takeover: bool) -> Reader {
        Reader { stream: Decompress::new(false), takeover }
    }

    /// What a message says. `Err`: the close code that it deserves.
    pub(crate) fn read(&mut self, message: &[u8], limit: u64) -> Result<Vec<u8>, u16> {
        // RFC 7692 section 7.2.3.6: even nothing is a byte.
        if message.is_empty() {
            return Err(1007);
        }
        if self.takeover {
            return self.read_on(message, limit);
        }
        // What refers to something before the message says another thing behind another past.
        let [one, other] = [b'x', b'y'].map(|past| {
            self.remember(past);
            self.read_on(message, limit)
        });
        if one == other { one } else { Err(1007) }
    }

    /// A fresh stream with a full window of this byte, by a stored block (RFC 1951 section 3.2.4).
    fn remember(&mut self, byte: u8) {
        self.stream.reset(false);
        let block = [&[0x00, 0x00, 0x80, 0xff, 0x7f][..], &[byte; 0x8000]].concat();
        let read = self.stream.decompress_vec(&block, &mut Vec::with_capacity(0x8000), FlushDecompress::Sync);
        read.expect("a stored block");
    }

    fn read_on(&mut self, message: &[u8], limit: u64) -> Result<Vec<u8>, u16> {
        let most = limit as usize + 1;
        let mut out = Vec::with_capacity(most);
        let whole = [message, &TAIL].concat();
        let before = self.stream.total_in();
        let read = self.stream.decompress_vec(&whole, &mut out, FlushDecompress::Sync);
        let used = (self.stream.total_in() - before) as usize;
        match read {
            _ if out.len() == most => Err(1009),
            Ok(_) if used == whole.len() => Ok(out),
            _ => Err(1007),
        }
    }
}

#[test]
fn what_is_deflated_is_read() {
    let message = b"Hello".repeat(100);
    assert_eq!(Reader::new(false).read(&deflate(&message), 500), Ok(message.clone()));
    assert_eq!(Reader::new(false).read(&deflate(&message), 499), Err(1009));
    assert_eq!(Reader::new(false).read(b"\x07", 499), Err(1007));
    let mut reader = Reader::new(true);
    let (first, second) = ([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(Reader::new(false).read(&second, 5), Err(1007));
    assert_eq!(reader.read(&first, 5), Ok(b"Hello".to_vec()));
    assert_eq!(reader.read(&second, 5), Ok(b"Hello".to_vec()));
}
