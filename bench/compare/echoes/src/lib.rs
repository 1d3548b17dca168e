//! What the echo servers share: one thread, a listener with a long queue, and clients without Nagle's delay.
//!
//! A current-thread runtime, because each server has one core in the comparison; tokio's documentation describes it
//! as the runtime for a single thread, without the cost of work stealing.

use std::env;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

/// How many connections the kernel may hold until they are accepted; it cuts this to net.core.somaxconn.
const BACKLOG: u32 = 65_535;

/// Serves clients at the address that the program's only argument names, each in a task of its own, until killed.
///
/// # Errors
///
/// Where the argument is no address, or where it cannot be listened at.
pub fn serve<S, F>(client: S) -> io::Result<()>
where
    S: Fn(TcpStream) -> F + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let address = address()?;
    Builder::new_current_thread().enable_io().build()?.block_on(accept(address, client))
}

fn address() -> io::Result<SocketAddr> {
    let word = env::args().nth(1).ok_or_else(|| io::Error::other("usage: PROGRAM ADDRESS:PORT"))?;
    word.parse().map_err(io::Error::other)
}

async fn accept<S, F>(address: SocketAddr, client: S) -> io::Result<()>
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(client(stream));
    }
}
