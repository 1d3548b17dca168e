//! A WebSocket echo on fastwebsockets over hyper, tuned as its documentation says (docs.rs/fastwebsockets, crate page):
//! `FragmentCollector` for whole messages, the `upgrade` feature for the handshake. Everything else is its default.

use edgehold_compare_echoes::{Service, Stream};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;

struct Echo;

impl Service for Echo {
    async fn client(stream: impl Stream) {
        let served =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(handshake)).with_upgrades();
        // A client that breaks its connection off ends its task; the others go on.
        drop(served.await);
    }
}

fn main() -> io::Result<()> {
    edgehold_compare_echoes::serve::<Echo>()
}

async fn handshake(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move { drop(echo(upgraded).await) });
    Ok(response)
}

async fn echo(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
