//! Why a client is not read. The shard knows but one reason; where there are several, all must be over.

use bitflags::bitflags;

bitflags! {
    /// Reasons.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Holds: u8 {
        /// Its session with the broker takes no more (`unconfirmed_bytes`).
        const SESSION = 1;
        /// It does not take what it is sent.
        const OUTPUT = 2;
        /// Its own session with the broker is being made.
        const CALL = 4;
        /// It has published more with QoS 1 than may be under way (`receive_max`).
        const WINDOW = 8;
    }
}
