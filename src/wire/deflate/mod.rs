//! permessage-deflate (RFC 7692): its negotiation, and messages into and out of their deflated form.
//!
//! A connection holds no compressor. There is one [`Deflater`] and one [`Inflater`] for all connections of a thread,
//! reset before every message. Where context takeover was agreed on for a direction, the connection has a [`Window`] of
//! that direction: the plain bytes that a message may refer back to. It is set as the dictionary of the next message's
//! stream, which for raw deflate has the same effect as having gone on with the stream of the message before.
//!
//! | file | what is in it |
//! |---|---|
//! | `negotiation` | Sec-WebSocket-Extensions, both ends: [`negotiate`], [`offer`], [`confirm`] |
//! | `deflater` | messages to be sent |
//! | `inflater` | messages received |
//! | `window` | the context of one direction |

mod deflater;
mod inflater;
mod negotiation;
mod window;

pub use deflater::{Deflater, MIN_DEFLATE_BITS};
pub use inflater::{InflateFault, Inflater};
pub use negotiation::{Parameters, ParametersText, Preferences, confirm, negotiate, offer};
pub use window::{MAX_WINDOW_BITS, Window};

/// What a flushed stream ends with, and is not sent (RFC 7692 section 7.2.1): the lengths of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The least room that is made in the output for a message, in bytes.
const FIRST_ROOM: usize = 1024;
