//! `tcp://`: a byte stream that edgehold connects to.

use super::stream;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Session, fault};
use crate::control::resolver;
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long resolving the name and connecting may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a host and a port.
pub(in crate::control::feeds) struct Tcp {
    pub(in crate::control::feeds) host: String,
    pub(in crate::control::feeds) port: u16,
}

impl Session for Tcp {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let stream = connect(&self.host, self.port).await.map_err(fault)?;
        feed.up();
        Err(stream::receive_all(feed, stream).await)
    }
}

/// A connection to the first of the host's addresses that accepts one, with TCP_NODELAY and keepalive.
///
/// # Errors
/// The name does not resolve; no address accepts, with the error of the last; or it took too long.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = timeout(PATIENCE, connect_any(host, port)).await??;
    stream.set_nodelay(true)?;
    stream::keep_alive(&stream)?;
    Ok(stream)
}

/// # Errors
/// As [`connect`].
async fn connect_any(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolver::look_up(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
