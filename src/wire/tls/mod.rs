//! TLS 1.3 and 1.2 (RFC 8446, RFC 5246): the record layer from a state of 88 or 120 bytes, and the handshake driven.
//!
//! The handshake is rustls's. When it is over, everything of rustls is dropped; what is kept is a [`Parked`] state. For
//! a record it is lent where it lies, the key of one direction is expanded for a moment, and the state is changed in
//! its place:
//!
//! ```text
//! Handshake::feed ─► Established { parked: Small(idle) | Large(idle) }
//!
//! receive:  idle.lend().record_len(bytes) ─► wake_read().open(record) ─► Data | Nothing | CloseNotify | Warning
//! send:     idle.lend().wake_write().seal(plain, out);  .answer(out);  .close_notify(out);  .fail(alert, out)
//! ```
//!
//! What makes this safe is argued point by point in `docs/decisions/tls.md`.
//!
//! | file | what is in it |
//! |---|---|
//! | `parked` | the state of an idle connection, and who may have it |
//! | `awake` | the halves of a connection with their keys expanded |
//! | `open`, `seal` | records received and sent |
//! | `record` | record headers and limits |
//! | `messages` | handshake messages after the handshake |
//! | `keys` | suites, key derivation, nonces |
//! | `fault`, `alert` | what a peer can do wrong, and how it is told |
//! | `handshake` | rustls driven: [`Handshake`], [`ClientHandshake`] |
//! | `capture` | the traffic secrets of one handshake, as rustls logs them |
//! | `failure` | why a handshake failed: one table of reasons, alerts and words |

mod alert;
mod awake;
mod capture;
mod failure;
mod fault;
mod handshake;
mod keys;
mod messages;
mod open;
mod parked;
mod record;
mod seal;

pub use alert::Alert;
pub use awake::{Awake, ReadHalf, WriteHalf};
pub use failure::{Failure, Reason};
pub use fault::Fault;
pub use handshake::{ClientHandshake, Established, Handshake, MAX_HELLO, MAX_UNFINISHED, Session, has_record};
pub use keys::{Aead, Suite, Version};
pub use open::Opened;
pub use parked::{
    Direction, Idle, LARGE, Lent, MAX_FRUITLESS, Parked, RENEGOTIATION_WEIGHT, Role, SMALL, WARNING_WEIGHT,
};
pub use record::{HEADER, MAX_PLAINTEXT, MAX_RECORD, data_offset, overhead, record_len, sealed_len};
pub use seal::{MAX_CONTROL, Plain, Refused};
