//! Reading masked frames as a server: edgehold-wire, tungstenite and fastwebsockets on the same bytes. And what the
//! check of text costs by itself.
//!
//! Each reader takes the stream from a source that copies, as a socket does, into the reader's own memory: edgehold
//! into one buffer of 4 KiB (the default of `recv_buffer_bytes`) or of 128 KiB, tungstenite into its 128 KiB,
//! fastwebsockets into what it reserves. `copy` is that copy alone, through 4 KiB. So the way from the source is in
//! every row.
//!
//! All three check the heads and the order of fragments, unmask, and check text for UTF-8 (each by default, each with
//! its own checker). They differ in what they hand out: tungstenite and fastwebsockets (under its `FragmentCollector`)
//! a whole message in memory of its own; edgehold the pieces where they lie, so a message longer than the buffer comes
//! in several. edgehold alone refuses lengths that are not in their shortest form; fastwebsockets alone takes frames
//! without a mask.
//!
//! Nothing waits: the source always has bytes, so the futures of fastwebsockets are ready at their first poll and no
//! runtime is in the way.

use divan::counter::BytesCount;
use divan::{Bencher, Divan, black_box};
use edgehold_micro::{BATCH_BYTES, Batch, Content, Endless, KEY, SIZES};
use edgehold_wire::mask;
use edgehold_wire::ws::{FrameEvent, Parser, ParserConfig, Role};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn main() {
    mask::choose();
    Divan::from_args().min_time(Duration::from_millis(120)).max_time(Duration::from_millis(400)).main();
}

/// The default of the product's `recv_buffer_bytes`.
const BUFFER_SMALL: usize = 4 << 10;
/// As much as tungstenite reads at once by default.
const BUFFER_LARGE: usize = 128 << 10;

/// Measures `read`, which takes the given number of frames, all with `size` bytes of payload.
fn bench<R>(bencher: Bencher<'_, '_>, content: Content, size: usize, reader: impl FnOnce(Endless) -> R)
where
    R: FnMut(usize, usize),
{
    let batch = Batch::new(content, size, Some(KEY));
    let (frames, bytes) = (batch.frames, batch.payload_bytes(size));
    let mut read = reader(Endless::new(batch.bytes));
    bencher.counter(BytesCount::new(bytes)).bench_local(|| read(frames, size));
}

// ---- the readers ----

/// Only copies a batch, heads and all.
fn copy(mut source: Endless) -> impl FnMut(usize, usize) {
    let mut buffer = vec![0; BUFFER_SMALL];
    move |_, _| {
        let mut left = source.period();
        while left > 0 {
            let piece = source.next(BUFFER_SMALL);
            black_box(&mut buffer[..piece.len()]).copy_from_slice(piece);
            left -= piece.len();
        }
    }
}

fn edgehold(source: Endless, buffer_bytes: usize) -> impl FnMut(usize, usize) {
    let mut reader = Edgehold { source, buffer: vec![0; buffer_bytes], filled: 0, parser: Parser::new() };
    move |frames, size| reader.read(frames, size)
}

/// The parser with one buffer that is filled anew when it is through, as the product does with those of the kernel.
struct Edgehold {
    source: Endless,
    buffer: Vec<u8>,
    /// Bytes at the front: a cut head that waits for the rest.
    filled: usize,
    parser: Parser,
}

const CONFIG: ParserConfig = ParserConfig { role: Role::Server, message_bytes: 64 << 20, deflate: false };

impl Edgehold {
    /// Batches end where the source begins anew, so no event is left over.
    fn read(&mut self, frames: usize, size: usize) {
        let (mut ended, mut bytes) = (0, 0);
        while ended < frames {
            let room = &mut self.buffer[self.filled..];
            let piece = self.source.next(room.len());
            room[..piece.len()].copy_from_slice(piece);
            let whole = self.filled + piece.len();
            let mut input = &mut self.buffer[..whole];
            while let Some(event) = self.parser.next(&mut input, &CONFIG).expect("the frames have no fault") {
                let FrameEvent::Data { payload, last, .. } = black_box(event) else {
                    unreachable!("only data was sent")
                };
                bytes += payload.len();
                ended += usize::from(last);
            }
            self.filled = input.len();
            self.buffer.copy_within(whole - self.filled..whole, 0);
        }
        assert_eq!((ended, bytes), (frames, frames * size));
    }
}

fn tungstenite(source: Endless) -> impl FnMut(usize, usize) {
    use ::tungstenite::protocol::{Role, WebSocket};
    let mut socket = WebSocket::from_raw_socket(source, Role::Server, None);
    move |frames, size| {
        for _ in 0..frames {
            let message = socket.read().expect("the frames have no fault");
            assert_eq!(black_box(message).len(), size);
        }
    }
}

fn fastwebsockets(source: Endless) -> impl FnMut(usize, usize) {
    use ::fastwebsockets::{FragmentCollector, Role, WebSocket};
    let mut socket = FragmentCollector::new(WebSocket::after_handshake(Ready(source), Role::Server));
    move |frames, size| {
        let all = pin!(async {
            for _ in 0..frames {
                let frame = socket.read_frame().await.expect("the frames have no fault");
                assert_eq!(black_box(frame).payload.len(), size);
            }
        });
        assert!(all.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

/// The source as an asynchronous stream that is always ready.
struct Ready(Endless);

impl AsyncRead for Ready {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        into.put_slice(self.0.next(into.remaining()));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ready {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(io::Write::write(&mut self.0, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

// ---- frames ----

macro_rules! readers {
    ($group:ident, $content:expr) => {
        #[divan::bench_group]
        mod $group {
            use super::*;

            #[divan::bench(args = SIZES)]
            fn copy(bencher: Bencher<'_, '_>, size: usize) {
                bench(bencher, $content, size, super::copy);
            }

            #[divan::bench(args = SIZES)]
            fn edgehold(bencher: Bencher<'_, '_>, size: usize) {
                bench(bencher, $content, size, |source| super::edgehold(source, BUFFER_SMALL));
            }

            #[divan::bench(args = SIZES)]
            fn edgehold_128k(bencher: Bencher<'_, '_>, size: usize) {
                bench(bencher, $content, size, |source| super::edgehold(source, BUFFER_LARGE));
            }

            #[divan::bench(args = SIZES)]
            fn tungstenite(bencher: Bencher<'_, '_>, size: usize) {
                bench(bencher, $content, size, super::tungstenite);
            }

            #[divan::bench(args = SIZES)]
            fn fastwebsockets(bencher: Bencher<'_, '_>, size: usize) {
                bench(bencher, $content, size, super::fastwebsockets);
            }
        }
    };
}

readers!(binary, Content::Binary);
readers!(text, Content::Ascii);

// ---- the check of text alone ----

/// Checks one text as often as makes a batch.
fn bench_check(bencher: Bencher<'_, '_>, content: Content, size: usize, valid: impl Fn(&[u8]) -> bool) {
    let text = content.payload(size);
    let turns = (BATCH_BYTES / size).max(1);
    bencher.counter(BytesCount::new(turns * size)).bench_local(|| {
        (0..turns).for_each(|_| assert!(valid(black_box(&text))));
    });
}

macro_rules! checkers {
    ($group:ident, $content:expr) => {
        #[divan::bench_group]
        mod $group {
            use super::*;
            use edgehold_wire::utf8::Tail;

            #[divan::bench(args = SIZES)]
            fn edgehold(bencher: Bencher<'_, '_>, size: usize) {
                bench_check(bencher, $content, size, |text| {
                    let mut tail = Tail::new();
                    tail.feed(text).is_ok() && tail.is_whole()
                });
            }

            /// The standard library, as tungstenite uses it.
            #[divan::bench(args = SIZES)]
            fn std(bencher: Bencher<'_, '_>, size: usize) {
                bench_check(bencher, $content, size, |text| str::from_utf8(text).is_ok());
            }

            /// As fastwebsockets uses it.
            #[divan::bench(args = SIZES)]
            fn simdutf8_basic(bencher: Bencher<'_, '_>, size: usize) {
                bench_check(bencher, $content, size, |text| simdutf8::basic::from_utf8(text).is_ok());
            }
        }
    };
}

checkers!(check_ascii, Content::Ascii);
checkers!(check_mixed, Content::Mixed);
