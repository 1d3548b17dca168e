//! A connection to a Redis server: commands and answers.
//!
//! The library packs the commands and decodes the answers; the connection is ours, because the library's own puts
//! published messages into a queue without bounds. Here nothing is read before the last message was published, and
//! Redis is held back by TCP, up to its own limit for such clients (`client-output-buffer-limit`).

use crate::control::certificates::ClientTls;
use crate::control::feeds::broker::Broker;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, fault};
use crate::control::feeds::sources::tcp;
use futures_util::StreamExt;
use redis::{Cmd, Value, ValueCodec};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

/// The port of a URL that names none.
const PORT: u16 = 6379;

/// How long the handshake of TLS may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that is authenticated, in clear text or by TLS: one dynamic call for each read is nothing beside it.
pub(super) struct Connection {
    to: Box<dyn AsyncWrite + Send + Unpin>,
    from: FramedRead<Box<dyn AsyncRead + Send + Unpin>, ValueCodec>,
}

/// A value, or the error that Redis answers.
pub(super) type Answer = Result<Value, String>;

impl Connection {
    /// Connects, authenticates, and selects the database that the URL names.
    ///
    /// # Errors
    /// The URL names no host, the server cannot be connected to, or it refuses the user or the database; or TLS fails.
    pub(super) async fn open(feed: &Feed, broker: &Broker) -> Result<Connection, Fault> {
        let parts = broker.parts(PORT)?;
        let stream = tcp::connect(&parts.host, parts.port).await.map_err(fault)?;
        let mut connection = match feed.tls().await? {
            Some(tls) => Connection::over(shake_hands(&tls, &parts.host, stream).await?),
            None => Connection::over(stream),
        };
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

    fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Connection {
        let (from, to) = split(stream);
        let from: Box<dyn AsyncRead + Send + Unpin> = Box::new(from);
        Connection { to: Box::new(to), from: FramedRead::new(from, ValueCodec::default()) }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<(), Fault> {
        self.to.write_all(&command.get_packed_command()).await.map_err(fault)?;
        self.to.flush().await.map_err(fault)
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

/// # Errors
/// The handshake fails, or takes too long.
async fn shake_hands(
    tls: &ClientTls,
    host: &str,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Send + use<>, Fault> {
    let shaken = timeout(PATIENCE, tls.connect(host, stream)).await;
    shaken.map_err(|_| "the server does not answer the TLS handshake")?.map_err(fault)
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
