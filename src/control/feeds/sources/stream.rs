//! A byte stream as a source: what `tcp`, `tcp-listen` and `unix` share.

use crate::control::feeds::decoder::{Format, Metadata, Reason};
use crate::control::feeds::feed::Feed;
use crate::control::feeds::framing::Cutter;
use crate::control::feeds::session::{Fault, fault};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// Bytes for which there is room in each read(2), at least.
const CHUNK: usize = 64 << 10;

/// A peer whose host has vanished is found after a minute and a half.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);

/// Publishes what comes until the stream ends; says why it has. While the shards are behind nothing is read, which
/// holds the other side back.
pub(super) async fn receive_all(feed: &Feed, mut from: impl AsyncRead + Unpin) -> Fault {
    let mut cutter = Cutter::new(feed.settings.framing, feed.decoder.raw_bytes_max());
    loop {
        let buffer = cutter.buffer();
        buffer.reserve(CHUNK);
        match from.read_buf(buffer).await {
            Ok(0) => {
                receive(feed, cutter.rest()).await;
                return "the other side has closed the connection".into();
            }
            Ok(_) => while receive(feed, cutter.cut()).await {},
            Err(error) => return fault(error),
        }
    }
}

/// Whether there was a message.
async fn receive(feed: &Feed, message: Option<Result<&[u8], Reason>>) -> bool {
    match message {
        // An empty line between JSON messages is none.
        Some(Ok([])) if feed.settings.decoder.format == Format::Json => true,
        Some(Ok(raw)) => {
            feed.receive(raw, Metadata::default()).await;
            true
        }
        Some(Err(reason)) => {
            feed.refuse(reason);
            true
        }
        None => false,
    }
}

/// Turns TCP keepalive on.
///
/// # Errors
/// The socket is not connected any more (setsockopt).
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}
