//! Busy clients, played by an independent WebSocket library.
//!
//! Each sends a handful of random messages at once, reads while it sends, and compares what comes back with
//! what it sent: type, bytes, order. At the end a ping shows that nothing else was on its way: the next thing
//! to arrive must be its pong (an echo server answers in order).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::peer::patience;

/// Messages in flight of one client.
pub(crate) const WINDOW: usize = 4;
/// Bytes of an ordinary message.
pub(crate) const SMALL_BYTES: std::ops::RangeInclusive<usize> = 64..=4096;
/// Bytes of the message that heavy clients mix in.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;
/// Every so manieth client is a heavy one.
pub(crate) const HEAVY_EVERY: usize = 20;
/// Mean pause between two handfuls; it makes the latency that of a server with room to breathe.
const PAUSE: Duration = Duration::from_millis(200);

type Socket = WebSocketStream<TcpStream>;

/// What the busy clients have done.
pub(crate) struct Account {
    /// Messages sent, and as many received.
    pub(crate) messages: u64,
    /// Their bytes, one way.
    pub(crate) bytes: u64,
    /// Microseconds from the call of send to the whole echo.
    pub(crate) latency: Histogram<u64>,
}

impl Account {
    /// Nothing done.
    pub(crate) fn new() -> Account {
        Account { messages: 0, bytes: 0, latency: Histogram::new(3).expect("three digits") }
    }

    /// Adds another's deeds.
    pub(crate) fn add(&mut self, other: &Account) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.latency.add(&other.latency).expect("it resizes");
    }
}

/// One open client.
pub(crate) struct Busy {
    index: usize,
    dice: Dice,
    output: SplitSink<Socket, Message>,
    input: SplitStream<Socket>,
    account: Account,
}

impl Busy {
    /// Connects client `index`, whose number also seeds its dice. Panics when it is not upgraded.
    pub(crate) async fn connect(index: usize, address: SocketAddr, path: &str) -> Busy {
        let stream = TcpStream::connect(address).await.expect("TCP connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let url = format!("ws://{address}{path}");
        // The default would give each of them a read buffer of 128 KiB.
        let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
        let upgraded = client_async_with_config(url, stream, Some(config)).await;
        let (socket, _) = upgraded.unwrap_or_else(|error| panic!("busy {index}: {error}"));
        let (output, input) = socket.split();
        Busy { index, dice: Dice::new(index as u64), output, input, account: Account::new() }
    }

    /// Talks until `end`. Panics at anything lost, changed, out of order or extra.
    pub(crate) async fn talk(mut self, end: Instant) -> Busy {
        while Instant::now() < end {
            let messages = self.handful();
            self.exchange(&messages).await;
            tokio::time::sleep(self.dice.pause()).await;
        }
        self.check_silence().await;
        self
    }

    /// What was done so far.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Waits for the server's Close and returns its code. Panics at any message before it.
    pub(crate) async fn closed(mut self) -> u16 {
        let message = self.receive().await;
        let Message::Close(Some(close)) = message else {
            panic!("busy {}: {message:?} where Close was due", self.index);
        };
        // Reading on lets the library answer, and shows that the server then ends the connection.
        let rest = tokio::time::timeout(patience(20), self.input.next()).await;
        let ended = matches!(rest, Ok(None | Some(Err(Error::ConnectionClosed))));
        assert!(ended, "busy {}: {rest:?} after Close", self.index);
        close.code.into()
    }

    fn handful(&mut self) -> Vec<Message> {
        let count = 1 + self.dice.below(WINDOW);
        let mut messages: Vec<Message> = (0..count).map(|_| self.dice.small()).collect();
        if self.index.is_multiple_of(HEAVY_EVERY) && self.dice.below(4) == 0 {
            messages[0] = self.dice.message(LARGE_BYTES);
        }
        messages
    }

    async fn exchange(&mut self, messages: &[Message]) {
        let sent_at = RefCell::new(Vec::with_capacity(messages.len()));
        let output = &mut self.output;
        let send = async {
            for message in messages {
                sent_at.borrow_mut().push(Instant::now());
                output.send(message.clone()).await.expect("an open socket");
            }
        };
        let (index, input, account) = (self.index, &mut self.input, &mut self.account);
        let receive = async {
            for (at, message) in messages.iter().enumerate() {
                let echo = next(index, input).await;
                assert!(echo == *message, "busy {index}: not the echo of {at}");
                let latency = sent_at.borrow()[at].elapsed();
                account.record(message.len(), latency);
            }
        };
        tokio::join!(send, receive);
    }

    async fn check_silence(&mut self) {
        let mark = Bytes::from_static(b"the last");
        let ping = Message::Ping(mark.clone());
        self.output.send(ping).await.expect("an open socket");
        let answer = self.receive().await;
        assert_eq!(answer, Message::Pong(mark), "busy {}: extra", self.index);
    }

    async fn receive(&mut self) -> Message {
        next(self.index, &mut self.input).await
    }
}

impl Account {
    fn record(&mut self, bytes: usize, latency: Duration) {
        self.messages += 1;
        self.bytes += bytes as u64;
        let latency = latency.as_micros() as u64;
        self.latency.record(latency).expect("it resizes");
    }
}

/// The next message but for pings, which the library answers by itself.
async fn next(index: usize, input: &mut SplitStream<Socket>) -> Message {
    loop {
        let message = tokio::time::timeout(patience(20), input.next()).await;
        match message.unwrap_or_else(|_| panic!("busy {index}: nothing came for 20 s")) {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(message)) => return message,
            other => panic!("busy {index}: {other:?} where a message was due"),
        }
    }
}

/// A small random number generator (xorshift64*), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        // Any state but 0 will do.
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() >> 32) as usize % bound
    }

    fn pause(&mut self) -> Duration {
        PAUSE * self.below(200) as u32 / 100
    }

    fn small(&mut self) -> Message {
        let span = SMALL_BYTES.end() - SMALL_BYTES.start() + 1;
        let size = SMALL_BYTES.start() + self.below(span);
        self.message(size)
    }

    /// One in four is text, the others are binary.
    fn message(&mut self, size: usize) -> Message {
        if self.below(4) == 0 {
            let letters = (0..size).map(|_| char::from(b'a' + self.below(26) as u8));
            return Message::text(letters.collect::<String>());
        }
        let words = (0..size.div_ceil(8)).flat_map(|_| self.roll().to_le_bytes());
        Message::binary(words.take(size).collect::<Vec<u8>>())
    }
}
