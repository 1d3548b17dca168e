//! WebSocket frames (RFC 6455 sections 5 and 7): read in place, written in their shortest form.
//!
//! [`Parser::next`] is called in a loop on the bytes at hand until it returns `None`; what is then left (a cut head or
//! a cut control frame) goes in front of the next bytes. A data frame is not buffered: its payload is returned in
//! pieces as it lies there, unmasked in place, its text checked. Between two reads the parser keeps counts, the masking
//! key and up to three bytes of a cut character.
//!
//! Every check is made when its own byte is there and in the order of the bytes, so a fault does not depend on where
//! the bytes were cut.
//!
//! | file | what is in it |
//! |---|---|
//! | `frame` | opcodes, roles, the bits of a frame head, heads written |
//! | `parser` | frames read: [`Parser`], its config and its events |
//! | `close` | close codes, the body of a close frame in both directions |
//! | `fault` | what a peer can do wrong: one table of names, codes and words |

mod close;
mod fault;
mod frame;
mod parser;

pub use close::{CloseBody, CloseCode, close_body};
pub use fault::Fault;
pub use frame::{FrameHead, MAX_CLIENT_HEAD, MAX_CONTROL, MAX_SERVER_HEAD, Opcode, Role, deflated_head, head};
pub use parser::{FrameEvent, MAX_LEFT, Parser, ParserConfig};
