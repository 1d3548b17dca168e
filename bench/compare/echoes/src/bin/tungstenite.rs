//! A WebSocket echo on tokio-tungstenite, tuned as the documentation of `WebSocketConfig` says
//! (docs.rs/tungstenite, protocol::WebSocketConfig): where many connections with little traffic are expected, a read
//! buffer of 4 KiB instead of 128 KiB; a write buffer of 0, so that each message is written at once, since an echo
//! flushes each message anyway.

use edgehold_compare_echoes::{Service, Stream};
use futures_util::{SinkExt, StreamExt};
use std::io;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const READ_BUFFER_BYTES: usize = 4096;

struct Echoing;

impl Service for Echoing {
    async fn client(stream: impl Stream) {
        // A client that breaks its connection off ends its task; the others go on.
        drop(echo(stream).await);
    }
}

fn main() -> io::Result<()> {
    edgehold_compare_echoes::serve::<Echoing>()
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0)
}

async fn echo(stream: impl Stream) -> Result<(), Error> {
    let mut socket = accept_async_with_config(stream, Some(config())).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
