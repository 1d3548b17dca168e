//! Request bodies: what has come of all of them together has a bound, and no request waits for room.
//!
//! A body takes of the common room what has come of it, piece by piece, so that one that comes slowly, or not at all,
//! holds back no other. Where the room is used up the request is refused, and what it has taken comes back.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The room of all bodies that have come and are not published yet (`admin_body_bytes`).
pub(super) struct BodyRoom {
    /// A permit for each byte.
    free: Semaphore,
    limit: usize,
}

/// A whole body, which takes its room until it is dropped.
#[derive(Debug)]
pub(super) struct Whole<'r> {
    bytes: Vec<u8>,
    room: Option<SemaphorePermit<'r>>,
}

impl std::ops::Deref for Whole<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a request is refused: the status, and words.
pub(super) type Refusal = (StatusCode, &'static str);

/// The refusal of a body that is too large.
pub(super) const TOO_LARGE: Refusal = (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");

impl BodyRoom {
    /// Room of so many bytes.
    pub(super) fn new(bytes: usize) -> BodyRoom {
        BodyRoom { free: Semaphore::new(bytes), limit: bytes }
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> u64 {
        (self.limit - self.free.available_permits()) as u64
    }

    /// All of it, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// Reads a body of at most `limit` bytes, all of which must come within `time`.
    ///
    /// # Errors
    /// 413: it is too large; 408: it took too long; 400: the connection has ended in it; 503: the room is used up.
    pub(super) async fn read(&self, body: Body, limit: usize, time: Duration) -> Result<Whole<'_>, Refusal> {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body took too long");
        timeout(time, self.gather(body, limit)).await.map_err(late)?
    }

    /// As [`BodyRoom::read`], without a bound in time.
    ///
    /// # Errors
    /// 413, 400 and 503 of [`BodyRoom::read`].
    async fn gather(&self, body: Body, limit: usize) -> Result<Whole<'_>, Refusal> {
        let mut whole = Whole { bytes: Vec::new(), room: None };
        let mut body = pin!(body);
        while let Some(piece) = next(body.as_mut()).await? {
            if whole.bytes.len() + piece.len() > limit {
                return Err(TOO_LARGE);
            }
            whole.take(self.reserve(piece.len())?);
            whole.bytes.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// # Errors
    /// 503: so much is not free.
    fn reserve(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let full = (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many bodies are being read: come again in a second (admin_body_bytes)",
        );
        let permits = u32::try_from(bytes).map_err(|_| full)?;
        self.free.try_acquire_many(permits).map_err(|_| full)
    }
}

impl<'r> Whole<'r> {
    fn take(&mut self, room: SemaphorePermit<'r>) {
        match &mut self.room {
            Some(taken) => taken.merge(room),
            None => self.room = Some(room),
        }
    }
}

/// The next piece of data; trailers are skipped.
///
/// # Errors
/// 400: the connection has ended in the body, or the body is malformed.
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

    #[tokio::test]
    async fn what_has_come_takes_room_and_gives_it_back() {
        let room = BodyRoom::new(10);
        let first = room.gather(Body::from("123456"), 6).await.unwrap();
        assert_eq!((&first[..], room.used(), room.limit()), (&b"123456"[..], 6, 10));
        assert_eq!(room.gather(Body::from("12345"), 6).await.unwrap_err().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(room.gather(Body::from("1234567"), 6).await.unwrap_err(), TOO_LARGE);
        drop(first);
        assert_eq!(room.used(), 0);
        assert_eq!(room.gather(Body::from("12345"), 6).await.unwrap().len(), 5);
    }
}
