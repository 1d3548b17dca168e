//! A connection to a Redis server: commands and answers.
//!
//! The library packs the commands and decodes the answers; the connection is ours, because the library's own puts
//! published messages into a queue without bounds. Here nothing is read before the last message was published, and
//! Redis is held back by TCP, up to its own limit for such clients (`client-output-buffer-limit`).

use crate::control::feeds::broker::Broker;
use crate::control::feeds::session::{Fault, fault};
use crate::control::feeds::sources::tcp;
use futures_util::StreamExt;
use redis::{Cmd, Value, ValueCodec};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

/// The port of a URL that names none.
const PORT: u16 = 6379;

/// A connection that is authenticated.
pub(super) struct Connection {
    to: OwnedWriteHalf,
    from: FramedRead<OwnedReadHalf, ValueCodec>,
}

/// A value, or the error that Redis answers.
pub(super) type Answer = Result<Value, String>;

impl Connection {
    /// Connects, authenticates, and selects the database that the URL names.
    ///
    /// # Errors
    /// The URL names no host, the server cannot be connected to, or it refuses the user or the database.
    pub(super) async fn open(broker: &Broker) -> Result<Connection, Fault> {
        let parts = broker.parts(PORT)?;
        let stream = tcp::connect(&parts.host, parts.port).await.map_err(fault)?;
        let (from, to) = stream.into_split();
        let mut connection = Connection { to, from: FramedRead::new(from, ValueCodec::default()) };
        if let Some(password) = &parts.password {
            let mut auth = redis::cmd("AUTH");
            auth.arg(parts.user.as_slice()).arg(password);
            connection.request(&auth).await??;
        }
        if !parts.path.is_empty() {
            connection.request(redis::cmd("SELECT").arg(&parts.path)).await??;
        }
        Ok(connection)
    }

    /// Sends a command.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<(), Fault> {
        self.to.write_all(&command.get_packed_command()).await.map_err(fault)
    }

    /// Receives what comes next. Cancellation-safe: nothing is lost.
    ///
    /// # Errors
    /// The connection is lost, or what came is not RESP.
    pub(super) async fn receive(&mut self) -> Result<Answer, Fault> {
        match self.from.next().await {
            Some(Ok(Value::ServerError(error))) => Ok(Err(format!("{error:?}"))),
            Some(Ok(value)) => Ok(Ok(value)),
            Some(Err(error)) => Err(fault(error)),
            None => Err("the server has closed the connection".into()),
        }
    }

    /// Sends a command and receives its answer.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub(super) async fn request(&mut self, command: &Cmd) -> Result<Answer, Fault> {
        self.send(command).await?;
        self.receive().await
    }
}

/// The bytes of a string; empty for any other value.
pub(super) fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        _ => &[],
    }
}

/// The items of an array; none for any other value.
pub(super) fn items(value: &Value) -> &[Value] {
    if let Value::Array(items) = value { items } else { &[] }
}
