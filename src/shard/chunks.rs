//! Chunks of memory in one size, cut from blocks that all sizes share.
//!
//! A block belongs to one size while any of its chunks is in use, and to whoever needs it next when none is: so what is
//! resident follows what is in use, whatever sizes were in fashion before. A few free blocks are kept; the others go
//! back to the kernel.

use crate::engine::mapping::Mapping;
use std::ptr::NonNull;

/// Bytes of a block.
pub const BLOCK: usize = 256 << 10;

/// Free blocks that are kept for the next who needs one.
const SPARE: usize = 8;

/// No chunk.
pub const NONE: u32 = u32::MAX;

/// A chunk's place in its chain, and the part of it that is written and not sent.
#[derive(Clone, Copy)]
pub struct Meta {
    /// The next chunk of the chain, or of the free ones.
    pub next: u32,
    /// The first byte that was not sent.
    pub start: u32,
    /// Behind the last byte that was written.
    pub end: u32,
}

/// The blocks of a shard.
#[derive(Default)]
pub struct Blocks {
    spare: Vec<Mapping>,
    lent: usize,
}

impl Blocks {
    /// Bytes of all blocks: what may be resident.
    pub fn bytes(&self) -> u64 {
        ((self.lent + self.spare.len()) * BLOCK) as u64
    }

    fn take(&mut self) -> Option<Mapping> {
        let block = self.spare.pop().or_else(|| Mapping::new(BLOCK).ok())?;
        self.lent += 1;
        Some(block)
    }

    fn give_back(&mut self, block: Mapping) {
        self.lent -= 1;
        if self.spare.len() < SPARE {
            self.spare.push(block);
        }
    }
}

/// All chunks of one size, by number.
pub struct Chunks {
    size: usize,
    pages: Vec<Page>,
    meta: Vec<Meta>,
    /// Pages that have a free chunk, and some that had one.
    open: Vec<u32>,
    /// Pages without a block.
    vacant: Vec<u32>,
}

/// The chunks of one block; their numbers remain while the block comes and goes.
struct Page {
    block: Option<Mapping>,
    used: u32,
    /// Chunks that were given back.
    free: u32,
    /// Chunks from here on were never taken.
    fresh: u32,
    is_open: bool,
}

impl Chunks {
    /// Chunks of `size` bytes, a divisor of [`BLOCK`].
    pub fn new(size: usize) -> Chunks {
        Chunks { size, pages: Vec::new(), meta: Vec::new(), open: Vec::new(), vacant: Vec::new() }
    }

    /// Bytes of a chunk.
    pub fn size(&self) -> usize {
        self.size
    }

    fn per_page(&self) -> u32 {
        (BLOCK / self.size) as u32
    }

    /// An empty chunk. `None`: the kernel has no memory.
    pub fn take(&mut self, blocks: &mut Blocks) -> Option<u32> {
        let number = loop {
            match self.open.last().copied() {
                None => self.open_page(blocks)?,
                Some(number) if self.has_free(number) => break number,
                Some(number) => {
                    self.pages[number as usize].is_open = false;
                    self.open.pop();
                }
            }
        };
        let first = number * self.per_page();
        let page = &mut self.pages[number as usize];
        page.used += 1;
        let chunk = if page.free == NONE {
            page.fresh += 1;
            first + page.fresh - 1
        } else {
            let chunk = page.free;
            page.free = self.meta[chunk as usize].next;
            chunk
        };
        self.meta[chunk as usize] = Meta { next: NONE, start: 0, end: 0 };
        Some(chunk)
    }

    fn has_free(&self, number: u32) -> bool {
        let page = &self.pages[number as usize];
        page.block.is_some() && (page.free != NONE || page.fresh < self.per_page())
    }

    fn open_page(&mut self, blocks: &mut Blocks) -> Option<()> {
        let block = blocks.take()?;
        let number = self.vacant.pop().unwrap_or(self.pages.len() as u32);
        if number as usize == self.pages.len() {
            self.pages.push(Page { block: None, used: 0, free: NONE, fresh: 0, is_open: false });
            self.meta.resize(self.meta.len() + self.per_page() as usize, Meta { next: NONE, start: 0, end: 0 });
        }
        self.pages[number as usize] = Page { block: Some(block), used: 0, free: NONE, fresh: 0, is_open: true };
        self.open.push(number);
        Some(())
    }

    /// The chunk is free again; with the last one of a block the block is.
    pub fn release(&mut self, chunk: u32, blocks: &mut Blocks) {
        let number = chunk / self.per_page();
        let page = &mut self.pages[number as usize];
        self.meta[chunk as usize].next = page.free;
        (page.free, page.used) = (chunk, page.used - 1);
        if page.used == 0 {
            if let Some(block) = page.block.take() {
                blocks.give_back(block);
            }
            page.is_open = false;
            self.vacant.push(number);
            match self.open.last() {
                Some(&last) if last == number => drop(self.open.pop()),
                _ => self.open.retain(|&it| it != number),
            }
        } else if !page.is_open {
            page.is_open = true;
            self.open.push(number);
        }
    }

    /// What is known of a chunk.
    pub fn meta(&mut self, chunk: u32) -> &mut Meta {
        &mut self.meta[chunk as usize]
    }

    /// A copy of it.
    pub fn peek(&self, chunk: u32) -> Meta {
        self.meta[chunk as usize]
    }

    /// The address of a byte of a chunk in use. It stays the same until the chunk is released.
    ///
    /// # Panics
    /// The chunk is not in use, or has no such byte.
    pub fn address(&self, chunk: u32, at: usize) -> NonNull<u8> {
        let (page, place) = (chunk / self.per_page(), chunk % self.per_page());
        let block = self.pages[page as usize].block.as_ref().expect("a chunk in use has a block");
        assert!(at <= self.size, "a byte beyond the chunk");
        block.at(place as usize * self.size + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_from_one_size_to_another() {
        let mut blocks = Blocks::default();
        let (mut small, mut large) = (Chunks::new(512), Chunks::new(16 << 10));
        let chunks: Vec<u32> = (0..2000).map(|_| small.take(&mut blocks).unwrap()).collect();
        assert_eq!(blocks.bytes(), 4 * BLOCK as u64);
        chunks.into_iter().for_each(|chunk| small.release(chunk, &mut blocks));
        let chunks: Vec<u32> = (0..64).map(|_| large.take(&mut blocks).unwrap()).collect();
        assert_eq!(blocks.bytes(), 4 * BLOCK as u64);
        chunks.into_iter().for_each(|chunk| large.release(chunk, &mut blocks));
    }

    #[test]
    fn no_chunk_is_taken_twice() {
        let mut blocks = Blocks::default();
        let mut chunks = Chunks::new(512);
        let mut taken: Vec<u32> = (0..1500).map(|_| chunks.take(&mut blocks).unwrap()).collect();
        for _ in 0..3 {
            taken.drain(300..1200).for_each(|chunk| chunks.release(chunk, &mut blocks));
            taken.extend((0..900).map(|_| chunks.take(&mut blocks).unwrap()));
            let mut sorted = taken.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 1500);
        }
        taken.into_iter().for_each(|chunk| chunks.release(chunk, &mut blocks));
        assert_eq!(blocks.bytes(), 3 * BLOCK as u64);
    }

    #[test]
    fn what_was_used_once_goes_back_to_the_kernel() {
        let mut blocks = Blocks::default();
        let mut chunks = Chunks::new(16 << 10);
        let taken: Vec<u32> = (0..16 * 100).map(|_| chunks.take(&mut blocks).unwrap()).collect();
        assert_eq!(blocks.bytes(), 100 * BLOCK as u64);
        taken.into_iter().for_each(|chunk| chunks.release(chunk, &mut blocks));
        assert_eq!(blocks.bytes(), (SPARE * BLOCK) as u64);
    }
}
