//! Text that comes in pieces (RFC 3629): is it UTF-8 so far, and does it end between two characters?
//!
//! Whole characters are checked by simdutf8. Of a character that is cut by the end of a piece the first bytes, three at
//! most, are kept, and it is checked byte by byte when the next piece comes: the first byte that cannot belong to UTF-8
//! is refused when it comes (RFC 6455 section 8.1 demands the failure, RFC 3629 section 4 has the syntax).

use simdutf8::compat::Utf8Error;

/// The bytes are not UTF-8 and no text in UTF-8 begins with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The state of a text between two pieces: the character that is cut, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// `held[..len]` is a proper prefix of at least one character.
    held: [u8; 3],
    /// 0 to 3.
    len: u8,
}

const _: () = assert!(size_of::<Tail>() <= 4);

impl Tail {
    /// The state at the start of a text.
    pub const fn new() -> Tail {
        Tail { held: [0; 3], len: 0 }
    }

    /// Checks the next piece, which may be empty.
    ///
    /// # Errors
    /// [`Invalid`] where the text so far, this piece included, is the beginning of no UTF-8 text. Must not be called
    /// after that.
    #[inline]
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let rest = if self.len == 0 { piece } else { self.finish(piece)? };
        match rest.get(whole(rest)?..) {
            // When `finish` ran out of bytes `rest` is empty and `held` must stay.
            None | Some([]) => Ok(()),
            Some(begun) => self.hold(begun),
        }
    }

    /// Whether the text may end here: no character is cut.
    pub const fn is_whole(&self) -> bool {
        self.len == 0
    }

    /// Finishes the cut character with bytes from the front of `piece`; returns the rest of `piece`, empty where the
    /// character is still cut.
    #[cold]
    fn finish<'b>(&mut self, mut piece: &'b [u8]) -> Result<&'b [u8], Invalid> {
        while let Some((&byte, rest)) = piece.split_first() {
            let [first, second, third] = self.held;
            // A proper prefix has at most three bytes, so the fourth always decides.
            let (character, len) = match self.len {
                1 => ([first, byte, 0, 0], 2),
                2 => ([first, second, byte, 0], 3),
                3 => ([first, second, third, byte], 4),
                _ => return Err(Invalid),
            };
            let character = character.get(..len).ok_or(Invalid)?;
            piece = rest;
            if whole(character)? == len {
                self.len = 0;
                return Ok(piece);
            }
            self.hold(character)?;
        }
        Ok(&[])
    }

    /// Keeps the first bytes of a cut character; four or more are invalid.
    fn hold(&mut self, begun: &[u8]) -> Result<(), Invalid> {
        self.held.get_mut(..begun.len()).ok_or(Invalid)?.copy_from_slice(begun);
        self.len = begun.len() as u8;
        Ok(())
    }
}

/// The length in bytes of the longest prefix that is whole characters: that of `bytes`, or up to three less.
///
/// # Errors
/// [`Invalid`] where `bytes` are the beginning of no UTF-8 text.
#[inline]
pub fn whole(bytes: &[u8]) -> Result<usize, Invalid> {
    match validate(bytes) {
        Ok(()) => Ok(bytes.len()),
        Err(e) if e.error_len().is_none() => Ok(e.valid_up_to()),
        Err(_) => Err(Invalid),
    }
}

/// Bytes from which on AVX2 is faster than simdutf8's check without it, set-up included.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 64;

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(avx2, "avx2");

#[cfg(target_arch = "x86_64")]
fn validate(bytes: &[u8]) -> Result<(), Utf8Error> {
    if bytes.len() >= WIDE && avx2::get() {
        // SAFETY: the processor has AVX2, as just asked.
        return unsafe { simdutf8::compat::imp::x86::avx2::validate_utf8(bytes) };
    }
    simdutf8::compat::from_utf8(bytes).map(drop)
}

#[cfg(not(target_arch = "x86_64"))]
fn validate(bytes: &[u8]) -> Result<(), Utf8Error> {
    simdutf8::compat::from_utf8(bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_may_be_cut_anywhere() {
        let text = "κόσμε 😀 é".as_bytes();
        for cut in 0..=text.len() {
            let mut tail = Tail::new();
            tail.feed(&text[..cut]).unwrap();
            assert_eq!(tail.is_whole(), core::str::from_utf8(&text[..cut]).is_ok(), "cut at {cut}");
            tail.feed(&[]).unwrap();
            tail.feed(&text[cut..]).unwrap();
            assert!(tail.is_whole());
        }
    }

    #[test]
    fn the_first_impossible_byte_fails() {
        // (what is still possible, the byte that makes it impossible)
        let stories: [(&[u8], u8); 9] = [
            (b"", 0x80),
            (b"a", 0xc0),
            (b"", 0xf5),
            (&[0xe0], 0x9f),
            (&[0xed], 0xa0),
            (&[0xf0], 0x8f),
            (&[0xf4], 0x90),
            (&[0xf0, 0x9f, 0x98], 0x41),
            (&[0xce, 0xba, 0xe1], 0xff),
        ];
        for (so_far, last) in stories {
            let mut tail = Tail::new();
            assert_eq!(tail.feed(so_far), Ok(()), "{so_far:x?}");
            assert_eq!(tail.feed(&[last]), Err(Invalid), "{so_far:x?} {last:x}");
        }
    }

    #[test]
    fn long_texts_take_the_wide_path() {
        let text = "0123456789é".repeat(40);
        let cut = text.len() - 1;
        assert_eq!(whole(text.as_bytes()), Ok(text.len()));
        assert_eq!(whole(&text.as_bytes()[..cut]), Ok(cut - 1));
        let mut broken = text.into_bytes();
        broken[200] = 0xff;
        assert_eq!(whole(&broken), Err(Invalid));
    }
}
