//! Cipher suites, and the keys of one direction: derived (RFC 8446 sections 7.1 to 7.3), expanded, changed.
//!
//! An expanded key has no sequence number. That lives in one place, the parked state, so that an expanded key is no
//! second copy of a state that must never be used twice; see [`Idle`](super::Idle).

use ring::aead::{self, LessSafeKey, UnboundKey};
use ring::hkdf::{self, Prk};
use zeroize::Zeroizing;

/// Bytes of an IV and of a nonce, in every suite.
pub(super) const NONCE: usize = 12;
/// Bytes of an authentication tag, in every suite.
pub(super) const TAG: usize = aead::MAX_TAG_LEN;
/// Bytes of the longest key.
const MAX_KEY: usize = 32;
/// Bytes of the longest traffic secret, and of the longest key and IV together (44).
pub(super) const MAX_MATERIAL: usize = 48;
/// Bytes of the explicit nonce in front of a TLS 1.2 record of AES-GCM (RFC 5288 section 3).
const EXPLICIT: usize = 8;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// Its name, for a log.
    pub const fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "TLS 1.2",
            Version::Tls13 => "TLS 1.3",
        }
    }
}

/// An algorithm that encrypts and authenticates records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Aead {
    /// AES-GCM with keys of 128 bits.
    Aes128Gcm,
    /// AES-GCM with keys of 256 bits.
    Aes256Gcm,
    /// ChaCha20 with Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// What protects the records of a connection: a version and an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The version, which says how a record looks and how keys are derived.
    pub version: Version,
    /// The algorithm.
    pub aead: Aead,
}

impl Suite {
    /// The suite of TLS 1.3 with this algorithm; its hash is SHA-384 for AES-256, else SHA-256 (RFC 8446 appendix B.4).
    pub const fn tls13(aead: Aead) -> Suite {
        Suite { version: Version::Tls13, aead }
    }

    /// The suites of TLS 1.2 with this algorithm (RFC 5289, RFC 7905); once the keys are derived, their hash does not
    /// matter.
    pub const fn tls12(aead: Aead) -> Suite {
        Suite { version: Version::Tls12, aead }
    }

    /// Bytes that one direction is kept in while it is idle: a traffic secret in TLS 1.3, a key and an IV in 1.2.
    pub const fn material_len(self) -> usize {
        match (self.version, self.aead) {
            (Version::Tls13, Aead::Aes256Gcm) => 48,
            (Version::Tls13, _) => 32,
            (Version::Tls12, _) => self.key_len() + NONCE,
        }
    }

    /// Bytes of a key.
    pub(super) const fn key_len(self) -> usize {
        match self.aead {
            Aead::Aes128Gcm => 16,
            Aead::Aes256Gcm | Aead::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes of the nonce that a record carries in front of its ciphertext.
    pub(super) const fn explicit_len(self) -> usize {
        match (self.version, self.aead) {
            (Version::Tls12, Aead::Aes128Gcm | Aead::Aes256Gcm) => EXPLICIT,
            _ => 0,
        }
    }

    /// Records that are sent under one key before it is changed (TLS 1.3) or the connection closed (1.2, which has no
    /// way to change it). RFC 8446 section 5.5 allows about 2^24.5 full records for AES-GCM; rustls stops at 2^24.
    /// ChaCha20-Poly1305 has no such limit; 1.3 changes its keys all the same, 1.2 stops well before the sequence
    /// number wraps.
    pub(super) const fn records_per_key(self) -> u64 {
        match (self.version, self.aead) {
            (Version::Tls13, _) => 1 << 23,
            (Version::Tls12, Aead::ChaCha20Poly1305) => 1 << 48,
            // Less what alerts may still need.
            (Version::Tls12, _) => (1 << 24) - 64,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self.aead {
            Aead::Aes128Gcm => &aead::AES_128_GCM,
            Aead::Aes256Gcm => &aead::AES_256_GCM,
            Aead::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> hkdf::Algorithm {
        match self.aead {
            Aead::Aes256Gcm => hkdf::HKDF_SHA384,
            Aead::Aes128Gcm | Aead::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
        }
    }
}

/// A key and its IV, as they are derived; overwritten when dropped.
pub(super) struct Derived {
    key: Zeroizing<[u8; MAX_KEY]>,
    iv: [u8; NONCE],
    key_len: usize,
}

impl Derived {
    /// From the secret of one direction of TLS 1.3 (RFC 8446 section 7.3).
    fn from_secret(suite: Suite, secret: &[u8]) -> Derived {
        let prk = Prk::new_less_safe(suite.hash(), secret);
        let mut derived = Derived { key: Zeroizing::default(), iv: [0; NONCE], key_len: suite.key_len() };
        expand_label(&prk, b"key", derived.key.split_at_mut(suite.key_len()).0);
        expand_label(&prk, b"iv", &mut derived.iv);
        derived
    }

    /// From the key and IV that TLS 1.2 keeps.
    fn from_pair(suite: Suite, pair: &[u8]) -> Derived {
        let mut derived = Derived { key: Zeroizing::default(), iv: [0; NONCE], key_len: suite.key_len() };
        let (key, iv) = pair.split_at(suite.key_len());
        derived.key.split_at_mut(suite.key_len()).0.copy_from_slice(key);
        derived.iv.copy_from_slice(iv);
        derived
    }

    /// From what an idle connection keeps of one direction: `suite.material_len()` bytes.
    pub(super) fn new(suite: Suite, material: &[u8]) -> Derived {
        match suite.version {
            Version::Tls13 => Derived::from_secret(suite, material),
            Version::Tls12 => Derived::from_pair(suite, material),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.key.split_at(self.key_len).0
    }

    pub(super) fn iv(&self) -> &[u8; NONCE] {
        &self.iv
    }
}

/// The expanded key of one direction.
pub(super) struct Key {
    pub(super) aead: LessSafeKey,
    iv: [u8; NONCE],
}

impl Key {
    /// Derives and expands. `material` is what an idle connection keeps of the direction.
    #[allow(clippy::expect_used, reason = "ring refuses keys of a wrong length only, and the suite says the length")]
    pub(super) fn new(suite: Suite, material: &[u8]) -> Key {
        let derived = Derived::new(suite, material);
        let key = UnboundKey::new(suite.algorithm(), derived.key()).expect("a key of its algorithm's length");
        Key { aead: LessSafeKey::new(key), iv: derived.iv }
    }

    /// The IV xor the sequence number (RFC 8446 section 5.3). TLS 1.2 with AES-GCM sends its last eight bytes with the
    /// record; ChaCha20-Poly1305 is the same in both versions (RFC 7905 section 2).
    pub(super) fn nonce(&self, sequence: u64) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce.iter_mut().skip(NONCE - 8).zip(sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }

    /// The nonce of a received TLS 1.2 record that carries the last eight bytes of it (RFC 5288 section 3).
    pub(super) fn explicit_nonce(&self, explicit: &[u8]) -> [u8; NONCE] {
        let mut nonce = self.iv;
        nonce.iter_mut().skip(NONCE - EXPLICIT).zip(explicit).for_each(|(byte, &explicit)| *byte = explicit);
        nonce
    }
}

/// The secret that follows this one (RFC 8446 section 7.2), in its place.
pub(super) fn advance(suite: Suite, secret: &mut [u8]) {
    let prk = Prk::new_less_safe(suite.hash(), secret);
    let mut next = Zeroizing::new([0; MAX_MATERIAL]);
    let next = next.split_at_mut(secret.len()).0;
    expand_label(&prk, b"traffic upd", next);
    secret.copy_from_slice(next);
}

/// A length, as ring wants it.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1). `label` without its "tls13 ".
#[allow(clippy::expect_used, reason = "ring refuses above 255 hashes only")]
fn expand_label(prk: &Prk, label: &[u8], out: &mut [u8]) {
    let (len, label_len) = ((out.len() as u16).to_be_bytes(), [6 + label.len() as u8]);
    let info: [&[u8]; 5] = [&len, &label_len, b"tls13 ", label, &[0]];
    let expanded = prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out));
    expanded.expect("at most two hashes are asked for");
}
