//! Requests to other servers by HTTP/1.1 (hyper): connections that are kept, by TLS where the URL says so. No redirect
//! is followed: the server that is named is the one that is asked.

use super::settings::HttpUrl;
use crate::control::certificates::{ClientFiles, ClientTls, why};
use crate::control::resolver;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes of a response's head, at most.
const HEAD_BYTES: usize = 16 << 10;

/// Fields of a response, at most.
const FIELDS: usize = 100;

/// How long the authorities that were read are used for new connections.
const TLS_AGE: Duration = Duration::from_secs(60);

type Sender = SendRequest<Empty<Bytes>>;

/// The server behind a URL.
pub(super) struct Client {
    pub(super) url: HttpUrl,
    files: ClientFiles,
    tls: Mutex<Option<(Instant, Arc<ClientTls>)>>,
    idle: Mutex<Vec<Sender>>,
    /// Idle connections that are kept, at most.
    most: usize,
}

/// A response whose body is not read yet. Dropped with it, its connection is closed.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    sender: Sender,
}

impl Client {
    /// Believes these authorities; `None`: those of the system.
    pub(super) fn new(url: HttpUrl, ca: Option<PathBuf>, most: usize) -> Client {
        let files = ClientFiles { ca, identity: None };
        Client { url, files, tls: Mutex::default(), idle: Mutex::default(), most }
    }

    /// Sends a request; where a connection that was kept turns out to be closed, once more by a new one. Interim
    /// responses (1xx) are skipped.
    ///
    /// # Errors
    /// It cannot be reached, or does not speak HTTP; in words.
    pub(super) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Answered, String> {
        while let Some(mut sender) = self.kept() {
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok(Answered { response, sender }),
                // It was closed meanwhile, before there was an answer.
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                Err(error) => return Err(words(&error)),
            }
        }
        let mut sender = self.open().await?;
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        Ok(Answered { response, sender })
    }

    /// Reads the body to its end, so that the connection can be used again; a longer one costs the connection.
    pub(super) async fn finish(&self, mut answered: Answered, most: usize) {
        if body(&mut answered.response, most).await.is_ok() && answered.sender.ready().await.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.most {
                idle.push(answered.sender);
            }
        }
    }

    /// A connection that was kept, and is open as far as is known.
    fn kept(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Sender::is_ready);
        idle.pop()
    }

    async fn open(&self) -> Result<Sender, String> {
        let HttpUrl { secure, host, port, .. } = &self.url;
        let stream = connect(host, *port).await.map_err(|error| format!("cannot be reached ({error})"))?;
        if !secure {
            return speak(TokioIo::new(stream)).await;
        }
        let tls = self.tls().await?;
        let failed = |error: io::Error| format!("TLS has failed: {}", why(&error).unwrap_or_else(|| error.to_string()));
        let stream = tls.connect(host, stream).await.map_err(failed)?;
        speak(TokioIo::new(stream)).await
    }

    async fn tls(&self) -> Result<Arc<ClientTls>, String> {
        let known = self.tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, tls)) = known.filter(|(read, _)| read.elapsed() < TLS_AGE) {
            return Ok(tls);
        }
        let tls = Arc::new(ClientTls::load(&self.files).await?);
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), tls.clone()));
        Ok(tls)
    }
}

/// The addresses of the host in their order, until one answers.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in resolver::look_up(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The connection has a task of its own, which ends with it.
async fn speak(io: impl Read + Write + Unpin + Send + 'static) -> Result<Sender, String> {
    let mut builder = Builder::new();
    builder.max_buf_size(HEAD_BYTES).max_headers(FIELDS);
    let (sender, connection) = builder.handshake(io).await.map_err(|error| words(&error))?;
    tokio::spawn(async move {
        // What went wrong the request is told.
        let _ = connection.await;
    });
    Ok(sender)
}

fn words(error: &hyper::Error) -> String {
    let inner = std::error::Error::source(error).map(|inner| format!(": {inner}")).unwrap_or_default();
    format!("does not answer as it should ({error}{inner})")
}

/// The body of a response.
///
/// # Errors
/// It is longer than that, or breaks off.
pub(super) async fn body(response: &mut Response<Incoming>, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| words(&error))?;
        let data = frame.data_ref().map_or(&[][..], |it| it);
        if bytes.len() + data.len() > most {
            return Err(format!("answers with more than {most} bytes"));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}
