//! Keys for tokens: out of a file or a JWKS, each with the algorithms that it is for.
//!
//! A key is for the algorithms of its own kind only: a secret for HMAC and nothing else, a public key never for HMAC.
//! So no header of a token can have one taken for another (RFC 8725 section 3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde_json::Value;

/// Keys that are taken of one source, at most; what a larger one has behind them is left out.
const KEYS_MAX: usize = 256;

/// Bytes of a key's id, at most.
const KID_BYTES: usize = 255;

/// Bytes of a secret for HMAC with SHA-256: as many as the hash has (RFC 7518 section 3.2).
pub(super) const SECRET_MIN: usize = 32;

/// What stands in front of a secret that is written in base64.
const BASE64: &str = "base64:";

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// A key with what it is for.
pub(super) struct Key {
    /// Its id; `None`: a token of any id may have been made by it.
    pub(super) kid: Option<String>,
    /// The algorithms that it is for, one at least.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) material: DecodingKey,
}

/// The keys of a source.
#[derive(Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Keys that were left out: of a kind that is not known, or for encryption.
    pub(super) left_out: usize,
}

impl KeySet {
    /// Of a file: a JWKS or a JWK, public keys in PEM, or a secret.
    ///
    /// # Errors
    /// There is no key in it that can be used; in words for the operator.
    pub(super) fn of_file(bytes: &[u8]) -> Result<KeySet, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| not_text())?.trim();
        if text.starts_with('{') {
            KeySet::of_json(text.as_bytes(), Secrets::Taken)
        } else if text.contains("-----BEGIN ") {
            KeySet::of_pem(text)
        } else {
            let key = secret(text)?;
            Ok(KeySet { keys: vec![key], left_out: 0 })
        }
    }

    /// Of a JWKS that was fetched (RFC 7517 section 5). Secrets in it are left out: whoever can fetch it would have
    /// them.
    ///
    /// # Errors
    /// As [`KeySet::of_file`].
    pub(super) fn of_fetched(bytes: &[u8]) -> Result<KeySet, String> {
        KeySet::of_json(bytes, Secrets::LeftOut)
    }

    fn of_json(bytes: &[u8], secrets: Secrets) -> Result<KeySet, String> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("is no JSON ({error}) — write a JWKS (RFC 7517)"))?;
        let written = match value.get("keys") {
            Some(Value::Array(keys)) => keys.clone(),
            Some(_) => return Err("has no list at \"keys\" — a JWKS is {\"keys\": [ … ]} (RFC 7517)".into()),
            None => vec![value],
        };
        let keys: Vec<Key> = written.iter().filter_map(|it| of_jwk(it, secrets)).take(KEYS_MAX).collect();
        let left_out = written.len() - keys.len();
        if keys.is_empty() {
            let known =
                "those are RSA (2048 bits or more), P-256, P-384 and Ed25519, and in a file secrets of 32 bytes";
            return Err(format!("has no key for signatures that is known here, of {left_out} — {known}"));
        }
        Ok(KeySet { keys, left_out })
    }

    fn of_pem(text: &str) -> Result<KeySet, String> {
        let mut keys = Vec::new();
        for part in text.split_inclusive("-----END ").collect::<Vec<_>>().windows(2) {
            let begin = part[0].find("-----BEGIN ").ok_or_else(damaged)?;
            let label = part[0][begin..].trim_start_matches("-----BEGIN ").split("-----").next().unwrap_or_default();
            let pem = format!("{}{label}-----\n", &part[0][begin..]);
            keys.push(of_pem(&pem, label)?);
        }
        if keys.is_empty() || keys.len() > KEYS_MAX { Err(damaged()) } else { Ok(KeySet { keys, left_out: 0 }) }
    }
}

fn not_text() -> String {
    "is no text — write a JWKS, public keys in PEM, or a secret".into()
}

fn damaged() -> String {
    "is no PEM as it stands — write BEGIN PUBLIC KEY, the key and END PUBLIC KEY".into()
}

/// Whether secrets in a JWKS are keys.
#[derive(Clone, Copy, PartialEq)]
enum Secrets {
    Taken,
    LeftOut,
}

// ---- secrets ----

fn secret(text: &str) -> Result<Key, String> {
    let bytes = match text.strip_prefix(BASE64) {
        Some(coded) => STANDARD
            .decode(coded.trim())
            .map_err(|error| format!("is no base64 ({error}) — openssl rand -base64 32 writes some"))?,
        None => text.as_bytes().to_vec(),
    };
    let few = || {
        let words = "a secret for HS256 needs 32, for HS384 48, for HS512 64 (openssl rand -base64 32, with `base64:`)";
        format!("has {} bytes — {words}", bytes.len())
    };
    of_secret(&bytes, None).ok_or_else(few)
}

/// `None`: it is shorter than the shortest hash.
fn of_secret(bytes: &[u8], kid: Option<String>) -> Option<Key> {
    let by_length = [(SECRET_MIN, Algorithm::HS256), (48, Algorithm::HS384), (64, Algorithm::HS512)];
    let fit = by_length.into_iter().filter(|(least, _)| bytes.len() >= *least);
    let algorithms: Vec<_> = fit.map(|(_, algorithm)| algorithm).collect();
    let key = DecodingKey::from_secret(bytes).ok()?;
    (!algorithms.is_empty()).then_some(Key { kid, algorithms, material: key })
}

// ---- PEM ----

fn of_pem(pem: &str, label: &str) -> Result<Key, String> {
    if label.contains("PRIVATE KEY") {
        return Err("has a private key, which only the issuer may have — write its public key".into());
    }
    let bytes = pem.as_bytes();
    let rsa = DecodingKey::from_rsa_pem(bytes).ok().map(|key| (key, RSA.to_vec()));
    let ed = || DecodingKey::from_ed_pem(bytes).ok().map(|key| (key, vec![Algorithm::EdDSA]));
    let ec = || DecodingKey::from_ec_pem(bytes).ok().and_then(|key| of_point(&key).map(|it| (key, vec![it])));
    let unknown = || format!("has a {label} that is of no kind known here — RSA, P-256, P-384 and Ed25519 are");
    let (key, algorithms) = rsa.or_else(ed).or_else(ec).ok_or_else(unknown)?;
    Ok(Key { kid: None, algorithms, material: key })
}

/// An uncompressed point has two coordinates and a byte in front.
fn of_point(key: &DecodingKey) -> Option<Algorithm> {
    match key.try_get_as_bytes().ok()?.len() {
        65 => Some(Algorithm::ES256),
        97 => Some(Algorithm::ES384),
        _ => None,
    }
}

// ---- JWK ----

/// `None`: it is not a key for signatures that is known here.
fn of_jwk(value: &Value, secrets: Secrets) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let kid = jwk.common.key_id.clone();
    if !is_for_signatures(&jwk) || kid.as_ref().is_some_and(|it| it.len() > KID_BYTES) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => is_strong(&key).then(|| RSA.to_vec())?,
        AlgorithmParameters::EllipticCurve(its) => vec![of_curve(&its.curve, &key)?],
        AlgorithmParameters::OctetKeyPair(its) if its.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) if secrets == Secrets::Taken => {
            of_secret(key.try_get_as_bytes().ok()?, None)?.algorithms
        }
        _ => return None,
    };
    let said = jwk.common.key_algorithm;
    let algorithms: Vec<_> =
        of_kind.into_iter().filter(|it| said.is_none_or(|said| said == KeyAlgorithm::from(*it))).collect();
    (!algorithms.is_empty()).then_some(Key { kid, algorithms, material: key })
}

fn is_for_signatures(jwk: &Jwk) -> bool {
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    signs && jwk.common.key_operations.as_ref().is_none_or(|it| it.contains(&KeyOperations::Verify))
}

/// The modulus has from 2048 to 8192 bits, which ring asks for.
fn is_strong(key: &DecodingKey) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            (256..=1024).contains(&(n.len() - leading))
        }
        DecodingKeyKind::SecretOrDer(_) => true,
    }
}

fn of_curve(curve: &EllipticCurve, key: &DecodingKey) -> Option<Algorithm> {
    let algorithm = of_point(key)?;
    let fits =
        matches!((curve, algorithm), (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384));
    fits.then_some(algorithm)
}
