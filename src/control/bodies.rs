//! Bodies of requests: what has come of all of them together has a bound, and nobody waits for a place.
//!
//! A body takes of the common room what it has sent, piece by piece, so that one that comes slowly, or not at all,
//! holds back nobody. Where the room is used up the request is refused and its bytes come back.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Bytes of all bodies that have come and are not published yet.
pub(super) const ROOM: usize = 64 << 20;

/// What is left of it.
static LEFT: Semaphore = Semaphore::const_new(ROOM);

/// A whole body, which takes its room until it is dropped.
#[derive(Debug)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'static>>,
}

impl std::ops::Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body was not taken: a status and words.
pub(super) type Refusal = (StatusCode, &'static str);

/// The words for a body that is too large.
pub(super) const TOO_LARGE: Refusal = (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");

/// Reads the body, which may have `limit` bytes and take so long.
///
/// # Errors
/// 413, 408, 400 for one that ends on the way, 503 where too much is being read.
pub(super) async fn read(body: Body, limit: usize, patience: Duration) -> Result<Whole, Refusal> {
    let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body took too long");
    timeout(patience, gather(body, limit, &LEFT)).await.map_err(late)?
}

async fn gather(body: Body, limit: usize, left: &'static Semaphore) -> Result<Whole, Refusal> {
    let mut whole = Whole { bytes: Vec::new(), _room: None };
    let mut body = pin!(body);
    while let Some(piece) = next(body.as_mut()).await? {
        if whole.bytes.len() + piece.len() > limit {
            return Err(TOO_LARGE);
        }
        let full = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many bodies are being read: come again in a second");
        let room = left.try_acquire_many(piece.len() as u32).map_err(full)?;
        match &mut whole._room {
            Some(taken) => taken.merge(room),
            None => whole._room = Some(room),
        }
        whole.bytes.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// The next piece; trailers are none.
async fn next(mut body: Pin<&mut Body>) -> Result<Option<Bytes>, Refusal> {
    let broken = |_| (StatusCode::BAD_REQUEST, "the body has not come whole");
    loop {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
        match frame.transpose().map_err(broken)? {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SMALL: Semaphore = Semaphore::const_new(10);

    #[tokio::test]
    async fn what_has_come_takes_room_and_gives_it_back() {
        let first = gather(Body::from("123456"), 6, &SMALL).await.unwrap();
        assert_eq!((&first[..], SMALL.available_permits()), (&b"123456"[..], 4));
        assert_eq!(gather(Body::from("12345"), 6, &SMALL).await.unwrap_err().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(gather(Body::from("1234567"), 6, &SMALL).await.unwrap_err(), TOO_LARGE);
        drop(first);
        assert_eq!(SMALL.available_permits(), 10);
        assert_eq!(gather(Body::from("12345"), 6, &SMALL).await.unwrap().len(), 5);
    }
}
