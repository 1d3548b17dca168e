//! A byte stream as a source: `tcp`, `tcp-listen`, `unix`.

use super::decoder::{Format, Reason, Said};
use super::feed::{Fault, Feed};
use super::framing::Cutter;
use socket2::{SockRef, TcpKeepalive};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// A peer whose host has vanished is found after a minute and a half.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);

/// Passes on what comes until the stream ends. Not reading holds the other side back.
pub(super) async fn pass_on(feed: &Feed, mut from: impl AsyncRead + Unpin) -> Fault {
    let mut cutter = Cutter::new(feed.settings.framing, feed.rules.raw_bytes_max());
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) => {
                said(feed, cutter.rest()).await;
                return "the other side has closed the connection".into();
            }
            Ok(count) => {
                cutter.push(&chunk[..count]);
                while said(feed, cutter.cut()).await {}
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// Whether there was a message.
async fn said(feed: &Feed, message: Option<Result<Vec<u8>, Reason>>) -> bool {
    match message {
        // An empty line between JSON messages is none.
        Some(Ok(raw)) if raw.is_empty() && feed.settings.format == Format::Json => true,
        Some(Ok(raw)) => {
            feed.take(&raw, Said::default()).await;
            true
        }
        Some(Err(reason)) => {
            feed.refuse(reason);
            true
        }
        None => false,
    }
}

pub(super) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}
