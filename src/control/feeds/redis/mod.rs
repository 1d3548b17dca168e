//! `redis://`: channels and streams of a Redis server.
//!
//! The library packs the commands and reads the answers; the connection is ours, because the library's own puts
//! published messages into a queue without bounds. Here nothing is read before the last message was passed on, and
//! Redis is held back by TCP, up to its own limit for such clients (`client-output-buffer-limit`).

mod channels;
mod streams;

pub(super) use channels::Channels;
pub(super) use streams::Streams;

use super::broker::Broker;
use super::feed::Fault;
use super::tcp;
use futures_util::StreamExt;
use redis::{Cmd, Value, ValueCodec};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

/// The port of a URL that names none.
const PORT: u16 = 6379;

/// A connection, past its greetings.
struct Line {
    to: OwnedWriteHalf,
    from: FramedRead<OwnedReadHalf, ValueCodec>,
}

impl Line {
    /// Connects, says who we are, and chooses the database that the URL names.
    async fn open(broker: &Broker) -> Result<Line, Fault> {
        let parts = broker.parts(PORT)?;
        let stream = tcp::connect(&parts.host, parts.port).await.map_err(words)?;
        let (from, to) = stream.into_split();
        let mut line = Line { to, from: FramedRead::new(from, ValueCodec::default()) };
        if let Some(password) = &parts.password {
            let mut auth = redis::cmd("AUTH");
            auth.arg(parts.user.as_slice()).arg(password);
            line.ask(&auth).await?;
        }
        if !parts.path.is_empty() {
            line.ask(redis::cmd("SELECT").arg(&parts.path)).await?;
        }
        Ok(line)
    }

    async fn say(&mut self, command: &Cmd) -> Result<(), Fault> {
        self.to.write_all(&command.get_packed_command()).await.map_err(words)
    }

    /// What comes next; an error that Redis tells is a fault.
    async fn hear(&mut self) -> Result<Value, Fault> {
        self.hear_either().await?
    }

    /// What comes next, or an error that Redis tells.
    async fn hear_either(&mut self) -> Result<Result<Value, String>, Fault> {
        match self.from.next().await {
            Some(Ok(Value::ServerError(error))) => Ok(Err(format!("{error:?}"))),
            Some(Ok(value)) => Ok(Ok(value)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the server has closed the connection".into()),
        }
    }

    async fn ask(&mut self, command: &Cmd) -> Result<Value, Fault> {
        self.say(command).await?;
        self.hear().await
    }

    /// An answer, or an error that Redis tells.
    async fn ask_for(&mut self, command: &Cmd) -> Result<Result<Value, String>, Fault> {
        self.say(command).await?;
        self.hear_either().await
    }
}

fn words(error: impl std::fmt::Display) -> Fault {
    error.to_string()
}

/// The bytes of a string.
fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        _ => &[],
    }
}

fn items(value: &Value) -> &[Value] {
    if let Value::Array(items) = value { items } else { &[] }
}
