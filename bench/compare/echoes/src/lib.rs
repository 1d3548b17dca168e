//! What the echo servers share: one thread, a listener with a long queue, clients without Nagle's delay, and TLS.
//!
//! A current-thread runtime, because each server has one core in the comparison; tokio's documentation describes it
//! as the runtime for a single thread, without the cost of work stealing.

mod tls;

use std::env;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

/// How many connections the kernel may hold until they are accepted; it cuts this to net.core.somaxconn.
const BACKLOG: u32 = 65_535;
const USAGE: &str = "usage: PROGRAM ADDRESS:PORT [CERTIFICATE KEY]";

/// A connection, in clear text or over TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// What a client is served with.
pub trait Service: 'static {
    /// Serves one client, until it leaves.
    fn client(stream: impl Stream) -> impl Future<Output = ()> + Send;
}

/// Serves clients at the address that the program's first argument names, each in a task of its own, until killed; over
/// TLS where two more arguments name a certificate and its key, in PEM.
///
/// # Errors
///
/// Where the first argument is no address, where it cannot be listened at, or where the files cannot be used.
pub fn serve<S: Service>() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let (address, tls) = match words.as_slice() {
        [address] => (address, None),
        [address, certificate, key] => (address, Some(tls::acceptor(certificate, key)?)),
        _ => return Err(io::Error::other(USAGE)),
    };
    let address = address.parse().map_err(io::Error::other)?;
    Builder::new_current_thread().enable_io().build()?.block_on(accept::<S>(address, tls))
}

async fn accept<S: Service>(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match &tls {
            None => drop(tokio::spawn(S::client(stream))),
            Some(tls) => drop(tokio::spawn(secured::<S>(tls.clone(), stream))),
        }
    }
}

/// A client whose handshake fails is let go; the others stay.
async fn secured<S: Service>(tls: TlsAcceptor, stream: TcpStream) {
    if let Ok(stream) = tls.accept(stream).await {
        S::client(stream).await;
    }
}
