//! What can be wrong with a frame.

/// What is wrong with a frame. Nothing behind it can be read: a server answers with ERROR and closes the connection
/// (STOMP 1.2, ERROR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A word that is no command.
    Command,
    /// A header line without a colon or without a name, with NUL, or in 1.2 with CR elsewhere than at its end.
    Header,
    /// An escape that the version does not have (STOMP 1.2, Value Encoding).
    Escape,
    /// Headers that are not UTF-8.
    Utf8,
    /// A `content-length` that is no number.
    ContentLength,
    /// Something else than NUL where `content-length` says that the body ends.
    Terminator,
    /// A body where there may be none.
    Body,
    /// A frame above the limit.
    TooLarge,
    /// Header lines above the limit.
    HeadersTooLarge,
    /// More header lines than the limit.
    TooManyHeaders,
}

impl Fault {
    /// All, in the order of their numbers (`fault as usize`).
    pub const ALL: [Fault; 10] = [
        Fault::Command,
        Fault::Header,
        Fault::Escape,
        Fault::Utf8,
        Fault::ContentLength,
        Fault::Terminator,
        Fault::Body,
        Fault::TooLarge,
        Fault::HeadersTooLarge,
        Fault::TooManyHeaders,
    ];

    /// For whoever has sent the frame: the `message` of an ERROR, ASCII without colons.
    pub const fn words(self) -> &'static str {
        match self {
            Fault::Command => "this is no command of STOMP",
            Fault::Header => "a header line needs a name and a colon, and has no NUL or lone CR",
            Fault::Escape => "a header has an escape that this version does not have",
            Fault::Utf8 => "headers are UTF-8",
            Fault::ContentLength => "content-length is not a number of bytes",
            Fault::Terminator => "there is no NUL where content-length says that the body ends",
            Fault::Body => "this frame has no body",
            Fault::TooLarge => "the frame is larger than it may be",
            Fault::HeadersTooLarge => "the headers are larger than they may be",
            Fault::TooManyHeaders => "there are more headers than there may be",
        }
    }

    /// One word for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Fault::Command => "command",
            Fault::Header => "header",
            Fault::Escape => "escape",
            Fault::Utf8 => "utf8",
            Fault::ContentLength => "content_length",
            Fault::Terminator => "terminator",
            Fault::Body => "body",
            Fault::TooLarge => "too_large",
            Fault::HeadersTooLarge => "headers_too_large",
            Fault::TooManyHeaders => "too_many_headers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_number_words_and_a_label_of_its_own() {
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number);
            assert!(fault.words().is_ascii() && !fault.words().contains([':', '\\', '\n']));
            assert_eq!(Fault::ALL.iter().filter(|it| it.label() == fault.label()).count(), 1);
        }
    }
}
