//! Records that neither end would send, authentic all the same: derived and sealed with ring alone.
#![allow(dead_code, reason = "a fuzz target asks for some of it")]

use crate::peers::{Peer, pair};
use edgehold_wire::tls::{Aead, Suite, Version};
use ring::{aead, hkdf};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
/// A KeyUpdate that asks for none.
pub(crate) const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A client that seals whatever it is told. Its keys are those of [`pair`]'s client.
pub(crate) struct Forger {
    pub(crate) suite: Suite,
    pub(crate) secret: Vec<u8>,
    pub(crate) sequence: u64,
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Forger {
    pub(crate) fn new(suite: Suite) -> Forger {
        let secret = (0..suite.material_len() as u8).map(|n| n.wrapping_mul(7) ^ 1).collect();
        Forger { suite, secret, sequence: 0 }
    }

    fn algorithm(&self) -> (&'static aead::Algorithm, hkdf::Algorithm) {
        match self.suite.aead {
            Aead::Aes128Gcm => (&aead::AES_128_GCM, hkdf::HKDF_SHA256),
            Aead::Aes256Gcm => (&aead::AES_256_GCM, hkdf::HKDF_SHA384),
            Aead::ChaCha20Poly1305 => (&aead::CHACHA20_POLY1305, hkdf::HKDF_SHA256),
        }
    }

    fn expand(&self, label: &str, len: usize) -> Vec<u8> {
        let prk = hkdf::Prk::new_less_safe(self.algorithm().1, &self.secret);
        let mut out = vec![0; len];
        let info = [&[0, len as u8, 6 + label.len() as u8][..], b"tls13 ", label.as_bytes(), &[0]];
        prk.expand(&info, Len(len)).unwrap().fill(&mut out).unwrap();
        out
    }

    /// `plain` is what is encrypted: in TLS 1.3 with its content type and padding.
    pub(crate) fn record(&mut self, outer: u8, plain: &[u8]) -> Vec<u8> {
        let (algorithm, _) = self.algorithm();
        let key_len = algorithm.key_len();
        let is_13 = self.suite.version == Version::Tls13;
        let (key, iv) = if is_13 {
            (self.expand("key", key_len), self.expand("iv", 12))
        } else {
            (self.secret[..key_len].to_vec(), self.secret[key_len..].to_vec())
        };
        let sequence = self.sequence.to_be_bytes();
        let nonce: Vec<u8> = iv.iter().zip([&[0; 4], &sequence[..]].concat()).map(|(a, b)| a ^ b).collect();
        let explicit = if is_13 || self.suite.aead == Aead::ChaCha20Poly1305 { &[] } else { &nonce[4..] };
        let len = (explicit.len() + plain.len() + 16) as u16;
        let header = [&[outer, 3, 3][..], &len.to_be_bytes()].concat();
        let data_12 = [&sequence, &[outer, 3, 3][..], &(plain.len() as u16).to_be_bytes()].concat();
        let data = if is_13 { header.clone() } else { data_12 };
        let key = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, &key).unwrap());
        let mut sealed = plain.to_vec();
        let nonce_bytes = aead::Nonce::try_assume_unique_for_key(&nonce).unwrap();
        key.seal_in_place_append_tag(nonce_bytes, aead::Aad::from(data), &mut sealed).unwrap();
        self.sequence += 1;
        [header, explicit.to_vec(), sealed].concat()
    }

    /// A record of this content, as it should be.
    pub(crate) fn content(&mut self, content: u8, plain: &[u8]) -> Vec<u8> {
        match self.suite.version {
            Version::Tls13 => self.record(DATA, &[plain, &[content]].concat()),
            Version::Tls12 => self.record(content, plain),
        }
    }

    /// A KeyUpdate, and the next key from then on.
    pub(crate) fn update(&mut self) -> Vec<u8> {
        let record = self.content(HANDSHAKE, &UPDATE);
        self.advance();
        record
    }

    pub(crate) fn advance(&mut self) {
        self.secret = self.expand("traffic upd", self.secret.len());
        self.sequence = 0;
    }
}

/// A forger and the server that it talks to.
pub(crate) fn forged(suite: Suite) -> (Forger, Peer) {
    (Forger::new(suite), pair(suite, 0).1)
}
