//! `tcp://`: a byte stream that edgehold connects to.

use super::feed::{Fault, Feed, Session};
use super::stream;
use crate::control::names;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the name and the connection may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a host and a port.
pub(super) struct Tcp {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Session for Tcp {
    async fn run(&mut self, feed: &Feed) -> Fault {
        match connect(&self.host, self.port).await {
            Ok(stream) => {
                feed.up();
                stream::pass_on(feed, stream).await
            }
            Err(error) => error.to_string(),
        }
    }
}

/// A connection to the first of the host's addresses that answers.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = timeout(PATIENCE, first_of(host, port)).await??;
    stream.set_nodelay(true)?;
    stream::keep_alive(&stream)?;
    Ok(stream)
}

async fn first_of(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in names::look_up(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
