//! A subscriber's position in a channel log.

/// A position in a channel log: everything up to a sequence has been sent to the subscriber, or given up for it.
///
/// One word: the sequence in the low 61 bits, and three flags above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

/// Set: messages that a later one of the same key supersedes are passed over.
const CONFLATES: u64 = 1 << 63;
/// Set: a notice of a gap is owed, for messages that were evicted before the subscriber could be sent them.
const OWES_LOSS: u64 = 1 << 62;
/// Set: a notice of a gap is owed, for messages behind the id with which the subscriber resumed.
const OWES_RESUME: u64 = 1 << 61;

impl Cursor {
    /// Behind this sequence.
    pub fn at(sequence: u64) -> Cursor {
        Cursor(sequence)
    }

    /// Behind this sequence, reading only the last value of each key until the end of the log is reached.
    pub fn conflating(sequence: u64) -> Cursor {
        Cursor(sequence | CONFLATES)
    }

    /// The sequence up to which everything was sent or given up.
    pub fn sequence(self) -> u64 {
        self.0 & !(CONFLATES | OWES_LOSS | OWES_RESUME)
    }

    /// Whether superseded messages are passed over.
    pub fn conflates(self) -> bool {
        self.0 & CONFLATES != 0
    }

    /// Whether the subscriber has no flag set: it reads every message and is owed no notice.
    pub fn is_plain(self) -> bool {
        self.0 & (CONFLATES | OWES_LOSS | OWES_RESUME) == 0
    }

    /// Whether a notice of a gap is to be sent before the next message.
    pub fn owes_gap(self) -> bool {
        self.0 & (OWES_LOSS | OWES_RESUME) != 0
    }

    /// Whether the gap lies behind the id with which the subscriber resumed.
    pub fn owes_resume_gap(self) -> bool {
        self.0 & OWES_RESUME != 0
    }

    /// Behind another sequence, reading every message; an owed notice stays owed.
    pub fn moved(self, sequence: u64) -> Cursor {
        Cursor(self.0 & (OWES_LOSS | OWES_RESUME) | sequence)
    }

    /// At the same sequence, reading only last values; an owed notice stays owed.
    pub fn conflated(self) -> Cursor {
        Cursor(self.0 | CONFLATES)
    }

    /// With a notice of a gap owed. `resumed`: the gap lies behind the id with which the subscriber resumed.
    pub fn owing(self, resumed: bool) -> Cursor {
        Cursor(self.0 | if resumed { OWES_RESUME } else { OWES_LOSS })
    }

    /// With the notice sent.
    pub fn notified(self) -> Cursor {
        Cursor(self.0 & !(OWES_LOSS | OWES_RESUME))
    }
}
