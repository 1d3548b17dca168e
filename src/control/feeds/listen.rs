//! `tcp-listen://` and `unix://`: byte streams from whoever connects.

use super::feed::{Fault, Feed, Session};
use super::stream;
use crate::engine::claim::{SocketFile, remove_stale};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, UnixListener};

/// Connections at one time; others wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// Where to listen.
pub(super) enum Listen {
    /// On an address.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

/// A listener of either kind.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it takes the socket's file away when it is dropped")] SocketFile),
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

impl Session for Listen {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let door = match self.open().await {
            Ok(door) => door,
            Err(error) => return error.to_string(),
        };
        feed.up();
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = door.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok(stream) => open.push(stream::pass_on(feed, stream)),
                    Err(error) if is_about_one(&error) => {}
                    Err(error) => return error.to_string(),
                },
                Some(why) = open.next() => {
                    tracing::debug!(feed = feed.settings.name, why, "a connection of the feed has ended");
                }
            }
        }
    }
}

impl Listen {
    async fn open(&self) -> io::Result<Door> {
        match self {
            Listen::Tcp(address) => Ok(Door::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => {
                remove_stale(path)?;
                Ok(Door::Unix(UnixListener::bind(path)?, SocketFile::of(path)?))
            }
        }
    }
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream::keep_alive(&stream)?;
                Ok(Box::new(stream))
            }
            Door::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// accept(2) passes on errors of the connection itself, which is gone; the listener is well.
fn is_about_one(error: &io::Error) -> bool {
    let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];
    gone.contains(&error.kind()) || error.raw_os_error() == Some(libc::EINVAL)
}
