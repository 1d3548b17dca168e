//! Deflated messages by another implementation than edgehold's: what the voices say, and what they may mean.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

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

/// The most that a message may refer back to, in bytes.
const WINDOW: usize = 0x8000;

/// A reader of the messages of one direction.
pub(crate) struct Reader {
    stream: Decompress,
    takeover: bool,
    /// What was said before.
    past: Vec<u8>,
}

impl Reader {
    /// `takeover`: messages may refer to those before them.
    pub(crate) fn new(takeover: bool) -> Reader {
        Reader { stream: Decompress::new(false), takeover, past: Vec::new() }
    }

    /// What a message says. `Err`: the close code that it deserves.
    pub(crate) fn read(&mut self, message: &[u8], limit: u64) -> Result<Vec<u8>, u16> {
        // RFC 7692 section 7.2.3.6: even nothing is a byte.
        if message.is_empty() {
            return Err(1007);
        }
        if self.takeover {
            let said = self.read_behind(&self.past.clone(), message, limit)?;
            self.past.extend(&said);
            return Ok(said);
        }
        // What refers to something before the message says another thing behind another past.
        let [one, other] = [b'x', b'y'].map(|past| self.read_behind(&vec![past; WINDOW], message, limit));
        if one == other { one } else { Err(1007) }
    }

    /// A fresh stream that has said this, by a stored block (RFC 1951 section 3.2.4).
    fn remember(&mut self, past: &[u8]) {
        self.stream.reset(false);
        let past = &past[past.len().saturating_sub(WINDOW)..];
        let len = past.len() as u16;
        let block = [&[0x00][..], &len.to_le_bytes(), &(!len).to_le_bytes(), past].concat();
        let read = self.stream.decompress_vec(&block, &mut Vec::with_capacity(WINDOW), FlushDecompress::Sync);
        read.expect("a stored block");
    }

    /// RFC 7692 section 7.2.2; with section 7.2.3.4 a stream may end within a message, and here at its end too.
    fn read_behind(&mut self, past: &[u8], message: &[u8], limit: u64) -> Result<Vec<u8>, u16> {
        let most = limit as usize + 1;
        let (mut out, mut at) = (Vec::with_capacity(most), 0);
        let whole = [message, &TAIL].concat();
        loop {
            self.remember(&[past, &out].concat());
            let before = self.stream.total_in();
            let read = self.stream.decompress_vec(&whole[at..], &mut out, FlushDecompress::Sync);
            at += (self.stream.total_in() - before) as usize;
            match read {
                _ if out.len() == most => return Err(1009),
                Ok(Status::StreamEnd) if at < message.len() => {}
                Ok(Status::StreamEnd) if at == message.len() => return Ok(out),
                Ok(Status::Ok | Status::BufError) if at == whole.len() => return Ok(out),
                _ => return Err(1007),
            }
        }
    }
}

#[test]
fn what_is_deflated_is_read() {
    let message = b"Hello".repeat(100);
    assert_eq!(Reader::new(false).read(&deflate(&message), 500), Ok(message.clone()));
    assert_eq!(Reader::new(false).read(&deflate(&message), 499), Err(1009));
    assert_eq!(Reader::new(false).read(b"\x07", 499), Err(1007));
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(Reader::new(false).read(&last, 5), Ok(b"Hello".to_vec()));
    assert_eq!(Reader::new(false).read(&[&last[..], &last, &[0]].concat(), 10), Ok(b"HelloHello".to_vec()));
    assert_eq!(Reader::new(false).read(&last[..6], 5), Err(1007));
    let mut reader = Reader::new(true);
    let (first, second) = ([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], [0xf2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(Reader::new(false).read(&second, 5), Err(1007));
    assert_eq!(reader.read(&first, 5), Ok(b"Hello".to_vec()));
    assert_eq!(reader.read(&second, 5), Ok(b"Hello".to_vec()));
    assert_eq!(reader.read(&[0xf3, 0x00, 0x11, 0x00], 5), Ok(b"Hello".to_vec()));
    assert_eq!(reader.read(&second, 5), Ok(b"Hello".to_vec()));
}
