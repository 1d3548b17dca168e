//! Servers of the test's own, each on a thread that lasts as long as the test program: an echo over plain TCP, one that
//! lets half of its clients go, a fan-out of events over HTTP, and one that hangs up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Streams that take the same events.
type Audience = Arc<Mutex<Vec<TcpStream>>>;

/// Whatever comes goes back.
pub(crate) fn echo() -> SocketAddr {
    serve(|mut stream| {
        let mut back = stream.try_clone().expect("the same socket");
        // An end of either way ends both: this client has gone.
        let _ = std::io::copy(&mut stream, &mut back);
    })
}

/// The same, but every second client is let go after its third message: of those who say something.
pub(crate) fn fickle() -> SocketAddr {
    let clients = Arc::new(AtomicU64::new(0));
    serve(move |mut stream| {
        let mut bytes = [0; 4096];
        let mut left = None;
        while left != Some(0) {
            let Ok(len @ 1..) = stream.read(&mut bytes) else { return };
            let odd = || clients.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            left = left.or_else(|| Some(if odd() { 3 } else { u64::MAX })).map(|it| it - 1);
            let _ = stream.write_all(&bytes[..len]);
        }
    })
}

/// Takes a request and goes without a word.
pub(crate) fn silent() -> SocketAddr {
    serve(|stream| {
        let mut head = BufReader::new(stream);
        let _ = request(&mut head);
    })
}

/// A server of server-sent events (HTML Living Standard, 9.2): GET opens a stream, the body of a POST goes to all.
pub(crate) fn events() -> SocketAddr {
    let audience = Audience::default();
    serve(move |stream| {
        let _ = attend(stream, &audience);
    })
}

/// Each client has a thread.
pub(crate) fn serve(talk: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = talk.clone();
            stream.set_nodelay(true).expect("a TCP socket");
            thread::spawn(move || talk(stream));
        }
    });
    address
}

fn attend(stream: TcpStream, audience: &Audience) -> std::io::Result<()> {
    let mut requests = BufReader::new(stream.try_clone()?);
    while let Some((first, length)) = request(&mut requests)? {
        if first.starts_with("GET ") {
            return join(stream, audience);
        }
        let mut body = vec![0; length];
        requests.read_exact(&mut body)?;
        publish(audience, &body);
        (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
    Ok(())
}

fn join(mut stream: TcpStream, audience: &Audience) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
    audience.lock().expect("nobody panics with it").push(stream);
    Ok(())
}

/// Those who have gone are forgotten.
fn publish(audience: &Audience, body: &[u8]) {
    let event = [b"data: ", body, b"\n\n"].concat();
    audience.lock().expect("nobody panics with it").retain_mut(|stream| stream.write_all(&event).is_ok());
}

/// The first line of a request, and the length of its body; `None` at the end of the connection.
fn request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, usize)>> {
    let (mut first, mut length) = (String::new(), 0);
    if from.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().map_err(std::io::Error::other)?,
            Some(_) => {}
            None => return Ok(Some((first, length))),
        }
    }
}
