//! Connections to the admin address, in clear text or by TLS.

use super::access::Spare;
use super::router;
use super::state::AdminState;
use crate::control::stats::Count;
use crate::mesh::ListenerTls;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections beyond `admin_connections`, on which only health and metrics are answered.
const SPARE: usize = 8;

/// How long such a connection may last.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request head, at most; hyper takes no less.
const HEAD_BYTES: usize = 16 << 10;

/// When accept(2) is tried again after it has failed (EMFILE, ENFILE, ENOMEM).
const RETRY: Duration = Duration::from_millis(100);

/// The content type of a record of a handshake, with which a connection by TLS begins (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What a request in clear text is answered where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 44\r\n\
                         Connection: close\r\n\r\nThis address speaks TLS: ask it by https://\n";

/// Serves until the runtime ends.
pub(in crate::control) async fn serve(listener: TcpListener, tls: Option<ListenerTls>, state: Arc<AdminState>) {
    if let Err(error) = accept(listener, tls, state).await {
        tracing::error!(%error, "the admin address has failed");
    }
}

/// What a connection is served by.
#[derive(Clone)]
struct Server {
    tls: Option<ListenerTls>,
    router: Router,
    state: Arc<AdminState>,
}

/// # Errors
/// The listener cannot be polled (epoll).
async fn accept(listener: TcpListener, tls: Option<ListenerTls>, state: Arc<AdminState>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (places, spares) = (Arc::new(Semaphore::new(state.rules.connections)), Arc::new(Semaphore::new(SPARE)));
    let server = Server { tls, router: router(state.clone()), state: state.clone() };
    let spare_server = Server { router: server.router.clone().layer(Extension(Spare)), ..server.clone() };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let limit = state.rules.timeout;
        if let Ok(place) = places.clone().try_acquire_owned() {
            spawn(&state, server.clone().serve(stream, limit), place);
        } else if let Ok(place) = spares.clone().try_acquire_owned() {
            state.counts.admin_refused.add();
            spawn(&state, spare_server.clone().serve_spare(stream), place);
        } else {
            state.counts.admin_refused.add();
        }
    }
}

fn spawn(state: &AdminState, connection: impl Future<Output = ()> + Send + 'static, place: OwnedSemaphorePermit) {
    let counted = Count::hold(&state.counts.admin_connections);
    tokio::spawn(async move {
        connection.await;
        drop((place, counted));
    });
}

impl Server {
    /// Serves a connection to its end. The handshake of TLS must be over within `limit`, each head must come within it
    /// of the answer before it, and what is answered must be acknowledged within it (TCP_USER_TIMEOUT).
    async fn serve(self, stream: TcpStream, limit: Duration) {
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(limit));
        let Some(tls) = &self.tls else { return answer(stream, self.router, limit).await };
        match timeout(limit, shake_hands(tls, stream)).await {
            Ok(Ok(stream)) => answer(stream, self.router, limit).await,
            Ok(Err(error)) => self.refuse(&error.to_string()),
            Err(_) => self.refuse("it took too long"),
        }
    }

    async fn serve_spare(self, stream: TcpStream) {
        let _ = timeout(SPARE_TIME, self.serve(stream, SPARE_TIME)).await;
    }

    fn refuse(&self, why: &str) {
        self.state.counts.admin_tls_failures.add();
        tracing::debug!(why, "a TLS handshake at the admin address has failed");
    }
}

/// # Errors
/// The handshake fails, or what comes is no TLS, which is answered in clear text.
async fn shake_hands(tls: &ListenerTls, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [HANDSHAKE];
    stream.peek(&mut first).await?;
    if first != [HANDSHAKE] {
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        // Closed with something unread, the kernel would send a reset, and the answer might be lost.
        stream.take(HEAD_BYTES as u64).read_to_end(&mut Vec::new()).await?;
        return Err(io::Error::other("it was no TLS"));
    }
    TlsAcceptor::from(tls.current()).accept(stream).await
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, router: Router, limit: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(HEAD_BYTES);
    // An error of a connection concerns nobody but its peer, to whom hyper has answered where it could.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}
