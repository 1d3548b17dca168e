//! Unmasking against a copy of the same size, and against what fastwebsockets and tungstenite use.
//!
//! `warm`: the payloads lie in the nearest cache they fit into, as those that the kernel has just written do. Payloads
//! that are small take turns within 16 KiB, so that no call waits for the bytes that the call before it stored.
//! `cold`: they take turns within 128 MiB, so that each comes from memory.
//!
//! Unmasking reads and writes one buffer; a copy reads one and writes another. So a copy has twice the bytes in the
//! cache, which tells where these are more than it holds. What is read begins where a payload begins behind its head at
//! the start of an aligned buffer.
//!
//! One iteration goes through [`BATCH_BYTES`] of payload (or one payload, if that is longer): a single small one is too
//! short for any clock.
//!
//! fastwebsockets has a public `unmask`. tungstenite's is private: `difference` reads the same frames through a
//! `WebSocket` with and without mask, and the one less the other is what its unmasking costs.

use divan::counter::BytesCount;
use divan::{Bencher, Divan, black_box};
use edgehold_micro::{BATCH_BYTES, KEY};
use edgehold_wire::mask::{self, Kind};
use edgehold_wire::ws;
use std::time::Duration;

fn main() {
    mask::choose();
    Divan::from_args().min_time(Duration::from_millis(120)).max_time(Duration::from_millis(400)).main();
}

const CACHE_LINE: usize = 64;

/// Payloads of one size that lie one after the other and are taken in turns.
struct Payloads {
    memory: Vec<u8>,
    first: usize,
    step: usize,
    size: usize,
    at: usize,
}

impl Payloads {
    /// As many payloads of `size` bytes as lie within `area` bytes (at least one), each `offset` bytes behind the start
    /// of a cache line.
    fn new(area: usize, size: usize, offset: usize) -> Payloads {
        let step = size.next_multiple_of(CACHE_LINE) + CACHE_LINE;
        // Not zero, so that every page is really there.
        let memory = vec![0x5a; area.max(step) + PAGE + offset];
        let first = memory.as_ptr().align_offset(PAGE) + offset;
        Payloads { memory, first, step, size, at: first }
    }

    /// The next one.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call would be measured with what is to be measured")]
    fn next(&mut self) -> &mut [u8] {
        let at = self.at;
        let next = at + self.step;
        self.at = if next + self.size > self.memory.len() { self.first } else { next };
        &mut self.memory[at..at + self.size]
    }
}

const PAGE: usize = 4096;

/// Where the payload of a masked frame begins.
fn head_len(size: usize) -> usize {
    ws::head(ws::Opcode::Binary, true, size as u64, Some(KEY)).as_bytes().len()
}

/// How many payloads one iteration takes.
fn turns(size: usize) -> usize {
    (BATCH_BYTES / size).max(1)
}

fn bench(bencher: Bencher<'_, '_>, area: usize, size: usize, unmask: impl Fn(&mut [u8], [u8; 4])) {
    let mut payloads = Payloads::new(area, size, head_len(size));
    let turns = turns(size);
    bencher.counter(BytesCount::new(turns * size)).bench_local(|| {
        (0..turns).for_each(|_| unmask(black_box(payloads.next()), black_box(KEY)));
    });
}

/// The copy goes to the start of a cache line, half a page away from where it comes from.
fn bench_copy(bencher: Bencher<'_, '_>, area: usize, size: usize) {
    let mut from = Payloads::new(area, size, head_len(size));
    let mut to = Payloads::new(area, size, PAGE / 2);
    let turns = turns(size);
    bencher.counter(BytesCount::new(turns * size)).bench_local(|| {
        (0..turns).for_each(|_| black_box(to.next()).copy_from_slice(black_box(from.next())));
    });
}

#[divan::bench_group(name = "warm")]
mod warm {
    use super::{Bencher, Kind, bench, bench_copy, mask};
    use edgehold_micro::SIZES;
    use std::fmt;

    const AREA: usize = 16 << 10;

    #[divan::bench(args = SIZES)]
    fn memcpy(bencher: Bencher<'_, '_>, size: usize) {
        bench_copy(bencher, AREA, size);
    }

    #[divan::bench(args = SIZES)]
    fn edgehold(bencher: Bencher<'_, '_>, size: usize) {
        bench(bencher, AREA, size, mask::apply);
    }

    #[divan::bench(args = SIZES)]
    fn fastwebsockets(bencher: Bencher<'_, '_>, size: usize) {
        bench(bencher, AREA, size, ::fastwebsockets::unmask);
    }

    #[divan::bench(args = of_each_kind())]
    fn edgehold_kind(bencher: Bencher<'_, '_>, case: &OneKind) {
        bench(bencher, AREA, case.size, |bytes, key| assert!(mask::apply_with(case.kind, bytes, key)));
    }

    struct OneKind {
        kind: Kind,
        size: usize,
    }

    impl fmt::Display for OneKind {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:?}/{}", self.kind, self.size)
        }
    }

    /// Every kind that this processor has, with every size.
    fn of_each_kind() -> impl Iterator<Item = OneKind> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_available());
        kinds.flat_map(|kind| SIZES.into_iter().map(move |size| OneKind { kind, size }))
    }
}

#[divan::bench_group(name = "cold")]
mod cold {
    use super::{Bencher, bench, bench_copy, mask};

    const AREA: usize = 128 << 20;
    const SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

    #[divan::bench(args = SIZES)]
    fn memcpy(bencher: Bencher<'_, '_>, size: usize) {
        bench_copy(bencher, AREA, size);
    }

    #[divan::bench(args = SIZES)]
    fn edgehold(bencher: Bencher<'_, '_>, size: usize) {
        bench(bencher, AREA, size, mask::apply);
    }

    #[divan::bench(args = SIZES)]
    fn fastwebsockets(bencher: Bencher<'_, '_>, size: usize) {
        bench(bencher, AREA, size, ::fastwebsockets::unmask);
    }
}

#[divan::bench_group(name = "difference")]
mod difference {
    use super::{Bencher, BytesCount, KEY, black_box};
    use edgehold_micro::{Batch, Content, Endless, SIZES};
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

    #[divan::bench(args = SIZES)]
    fn tungstenite_masked(bencher: Bencher<'_, '_>, size: usize) {
        read(bencher, size, Some(KEY));
    }

    #[divan::bench(args = SIZES)]
    fn tungstenite_unmasked(bencher: Bencher<'_, '_>, size: usize) {
        read(bencher, size, None);
    }

    fn read(bencher: Bencher<'_, '_>, size: usize, key: Option<[u8; 4]>) {
        let batch = Batch::new(Content::Binary, size, key);
        let rules = WebSocketConfig::default().accept_unmasked_frames(true);
        let (frames, bytes) = (batch.frames, BytesCount::new(batch.payload_bytes(size)));
        let mut socket = WebSocket::from_raw_socket(Endless::new(batch.bytes), Role::Server, Some(rules));
        bencher.counter(bytes).bench_local(|| {
            for _ in 0..frames {
                let message = socket.read().expect("the frames have no fault");
                assert_eq!(black_box(message).len(), size);
            }
        });
    }
}
