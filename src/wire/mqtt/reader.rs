//! Fields of a packet, one behind the other (1.5).

use super::{Fault, remaining_length};
use core::str;

/// What has not been read of a packet's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) const fn new(content: &'b [u8]) -> Reader<'b> {
        Reader { rest: content }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'b [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::Trailing) }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two Byte Integer (1.5.2).
    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four Byte Integer (1.5.3).
    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    /// Variable Byte Integer (1.5.5).
    pub(super) fn variable(&mut self) -> Result<u32, Fault> {
        let (value, bytes) = remaining_length(self.rest)?.ok_or(Fault::Cut)?;
        self.take(bytes)?;
        Ok(value)
    }

    /// Binary Data (1.5.6).
    pub(super) fn binary(&mut self) -> Result<&'b [u8], Fault> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// UTF-8 Encoded String (1.5.4).
    pub(super) fn text(&mut self) -> Result<&'b str, Fault> {
        let bytes = self.binary()?;
        let text = str::from_utf8(bytes).map_err(|_| Fault::Text)?;
        if memchr::memchr(0, bytes).is_some() { Err(Fault::Nul) } else { Ok(text) }
    }

    /// A packet identifier (2.2.1).
    pub(super) fn packet_id(&mut self) -> Result<u16, Fault> {
        self.u16().and_then(|id| if id == 0 { Err(Fault::PacketId) } else { Ok(id) })
    }
}
