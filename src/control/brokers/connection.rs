//! Bytes to and from a broker: TCP, TLS or a unix socket. What TLS fails of is told as the shards tell it.

use super::settings::BrokerAddress;
use crate::control::{certificates, resolver};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Bytes for which there is room in each read, at least.
const CHUNK: usize = 64 << 10;

/// Any of them.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to a broker.
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    /// What has come and was not taken yet.
    pub(super) received: Vec<u8>,
    /// What is to go.
    pub(super) unsent: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// The name does not resolve, nobody answers, or the TLS handshake fails.
    pub(super) async fn open(address: &BrokerAddress) -> io::Result<Connection> {
        let stream: Box<dyn Stream> = match address {
            BrokerAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            BrokerAddress::Tcp { host, port, tls } => {
                let stream = connect(host, *port).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let (name, config) = tls.parts();
                        Box::new(TlsConnector::from(config).connect(name, stream).await.map_err(explained)?)
                    }
                }
            }
        };
        let (reader, writer) = tokio::io::split(stream);
        Ok(Connection { reader, writer, received: Vec::new(), unsent: Vec::new() })
    }

    /// Writes what is to go and waits for what comes: whichever is first; says whether something has come.
    /// Cancellation-safe.
    ///
    /// # Errors
    /// The connection is lost, or the broker has ended it.
    pub(super) async fn go_on(&mut self) -> io::Result<bool> {
        let Connection { reader, writer, received, unsent } = self;
        received.reserve(CHUNK);
        tokio::select! {
            // Of TLS 1.3 a server may refuse the certificate that it is shown behind the handshake.
            read = reader.read_buf(received) => match read.map_err(explained)? {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker has closed the connection")),
                _ => Ok(true),
            },
            written = writer.write(unsent), if !unsent.is_empty() => {
                let len = written?;
                unsent.drain(..len);
                writer.flush().await?;
                Ok(false)
            }
        }
    }
}

impl Connection {
    /// Writes what is to go, or some of it. Cancellation-safe.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        let len = self.writer.write(&self.unsent).await?;
        self.unsent.drain(..len);
        self.writer.flush().await
    }
}

/// An error of TLS in words that say whose fault it is; any other as it is. It is no nonsense of the broker's.
fn explained(error: io::Error) -> io::Error {
    certificates::why_upstream(&error).map_or(error, io::Error::other)
}

/// The first address that answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolver::look_up(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
