//! Origins of pages (RFC 6454), and the patterns of them that routes allow.

/// Which origins are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Every origin.
    pub any: bool,
    /// Origins, in lower case, `https://app.example`, `http://localhost:3000`.
    pub exact: Vec<Box<str>>,
    /// What stands before and behind the star, in lower case: `https://*.example` is (`https://`, `.example`).
    pub below: Vec<(Box<str>, Box<str>)>,
}
