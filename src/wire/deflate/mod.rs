//! permessage-deflate (RFC 7692): what two ends agree on, and messages in and out of their deflated form.
//!
//! A connection holds no compressor. There is one [`Deflater`] and one [`Inflater`] for all connections of a thread,
//! reset before every message. Where a direction of a connection takes its context over from message to message, the
//! connection has a [`Window`] of that direction: the plain bytes that a message may refer back to. It is laid before
//! the message as a dictionary, which for raw deflate means the same as having gone on with the old stream.
//!
//! `offers` reads and writes Sec-WebSocket-Extensions.

mod deflater;
mod inflater;
mod offers;
mod window;

pub use deflater::{Deflater, MIN_DEFLATE_BITS};
pub use inflater::{InflateFault, Inflater};
pub use offers::{Agreed, AgreedText, Wishes, confirm, negotiate, offer};
pub use window::{MAX_WINDOW_BITS, Window};

/// What every message ends with, and what is not sent (RFC 7692 section 7.2.1): the end of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least room that is made for a message, in bytes.
const FIRST_ROOM: usize = 1024;
