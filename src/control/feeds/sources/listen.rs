//! `tcp-listen://` and `unix://`: byte streams from whoever connects.

use super::stream;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Session, fault};
use crate::engine::claim::{SocketFile, remove_stale};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, UnixListener};

/// Connections at one time, at most; others wait in the kernel's queue (listen(2)).
const CONNECTIONS: usize = 64;

/// Where to listen.
pub(in crate::control::feeds) enum Listen {
    /// On an address.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

/// A listener of either kind.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it takes the socket's file away when it is dropped")] SocketFile),
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

impl Session for Listen {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let listener = self.open().await.map_err(fault)?;
        feed.up();
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok(stream) => open.push(stream::receive_all(feed, stream)),
                    Err(error) if is_of_connection(&error) => {}
                    Err(error) => return Err(fault(error)),
                },
                Some(why) = open.next() => {
                    tracing::debug!(feed = feed.settings.name, why, "a connection of the feed has ended");
                }
            }
        }
    }
}

impl Listen {
    /// # Errors
    /// The address cannot be bound, or what is left at the path not removed.
    async fn open(&self) -> io::Result<Listener> {
        match self {
            Listen::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_stale(path)?;
                Ok(Listener::Unix(UnixListener::bind(path)?, SocketFile::of(path)?))
            }
        }
    }
}

impl Listener {
    /// # Errors
    /// Those of accept(2), also such as concern the new connection alone.
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream::keep_alive(&stream)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Whether an error of accept(2) is one of the new connection, which is gone, and not of the listener.
fn is_of_connection(error: &io::Error) -> bool {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
    gone.contains(&error.kind()) || error.raw_os_error() == Some(libc::EINVAL)
}
