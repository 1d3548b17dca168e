//! A TCP back end that returns what it is sent.
//!
//! One thread with a runtime of its own, so that thousands of streams cost no thread each. It lives until the
//! test program ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;

use tokio::io;
use tokio::net::{TcpListener, TcpStream};

/// Starts a back end on a free port of 127.0.0.1 and returns its address.
pub(crate) fn start() -> SocketAddr {
    let (tell, hear) = mpsc::channel();
    thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().build().expect("a runtime");
        runtime.block_on(serve(tell));
    });
    hear.recv().expect("the back end listens")
}

async fn serve(tell: mpsc::Sender<SocketAddr>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tell.send(address).expect("the test waits for it");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut input, mut output) = stream.split();
    // An error is the server's way to end the stream; the client's side of the test judges it.
    let _ = io::copy(&mut input, &mut output).await;
}
