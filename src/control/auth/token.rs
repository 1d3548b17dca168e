//! A token: whose it is, if it is good (RFC 7519, RFC 8725).
//!
//! jsonwebtoken takes the parts apart and verifies the signature; which keys may have made it and what its claims are
//! worth is decided here, since a claim that is not of its type has to refuse the token.

use super::keys::{Key, KeySet};
use super::settings::{Algorithm, JwtSettings};
use crate::mesh::{Denied, Identity, WORD_BYTES, WORDS};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::str::FromStr as _;

/// Keys that are tried for a token that does not name its key, at most.
const TRIES: usize = 8;

/// The header of a token, as far as it chooses the key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Whose token this is, at this second since 1970.
///
/// # Errors
/// It is good for nobody here.
pub(super) fn identity(token: &str, set: &KeySet, settings: &JwtSettings, now: u64) -> Result<Identity, Denied> {
    let header = header(token, settings.token_bytes as usize)?;
    let keys = candidates(&header, set, &settings.algorithms)?;
    let claims = keys.into_iter().find_map(|(key, algorithm)| verified(token, key, algorithm).transpose());
    let claims = claims.unwrap_or(Err(Denied::Signature))?;
    let expires = expiry(&claims, settings, now)?;
    check_parties(&claims, settings)?;
    claimed(&claims, settings, expires)
}

/// Of three parts between dots, within the size.
fn header(token: &str, most: usize) -> Result<Header, Denied> {
    let is_whole = token.len() <= most && token.bytes().filter(|byte| *byte == b'.').count() == 2;
    let first = token.split('.').next().filter(|_| is_whole).ok_or(Denied::Malformed)?;
    let json = URL_SAFE_NO_PAD.decode(first).map_err(|_| Denied::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Denied::Malformed)
}

/// The keys that may have made the token: of its id where it names one, and for its algorithm.
fn candidates<'k>(
    header: &Header,
    set: &'k KeySet,
    allowed: &[Algorithm],
) -> Result<Vec<(&'k Key, jsonwebtoken::Algorithm)>, Denied> {
    let algorithm = jsonwebtoken::Algorithm::from_str(&header.alg).map_err(|_| Denied::Algorithm)?;
    if !allowed.is_empty() && !allowed.contains(&Algorithm(algorithm)) {
        return Err(Denied::Algorithm);
    }
    let of_id = |key: &&Key| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid;
    let mut keys = set.keys.iter().filter(of_id).peekable();
    keys.peek().ok_or(Denied::Key)?;
    let fit: Vec<_> = keys.filter(|key| key.algorithms.contains(&algorithm)).take(TRIES).collect();
    if fit.is_empty() { Err(Denied::Algorithm) } else { Ok(fit.into_iter().map(|key| (key, algorithm)).collect()) }
}

/// The claims, where this key has made the signature; `None`: it has not.
fn verified(token: &str, key: &Key, algorithm: jsonwebtoken::Algorithm) -> Result<Option<Map<String, Value>>, Denied> {
    let mut rules = Validation::new(algorithm);
    (rules.validate_exp, rules.validate_aud) = (false, false);
    rules.required_spec_claims.clear();
    decode_header(token).map_err(|_| Denied::Malformed)?;
    let error = match decode::<Map<String, Value>>(token, &key.material, &rules) {
        Ok(data) => return Ok(Some(data.claims)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::InvalidSignature => Ok(None),
        // The library has types for some of them.
        ErrorKind::Json(_) if has_claims(token) => Err(Denied::Claim),
        _ => Err(Denied::Malformed),
    }
}

/// Its second part is a set of claims, whatever their types.
fn has_claims(token: &str) -> bool {
    let json = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    json.is_some_and(|json| serde_json::from_slice::<Map<String, Value>>(&json).is_ok())
}

// ---- time ----

/// A NumericDate (RFC 7519 section 2). `None`: it is not there.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Denied> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|it| it.is_finite()).map(Some).ok_or(Denied::Claim),
    }
}

/// The second in which it ends, for those whose clock is late by the leeway. `None`: it has no end, and need not.
fn expiry(claims: &Map<String, Value>, settings: &JwtSettings, now: u64) -> Result<Option<u64>, Denied> {
    let (leeway, now) = (settings.leeway.as_secs_f64(), now as f64);
    for begin in [date(claims, "nbf")?, date(claims, "iat")?].into_iter().flatten() {
        if begin > now + leeway {
            return Err(Denied::NotYetValid);
        }
    }
    match date(claims, "exp")? {
        Some(end) if end + leeway <= now => Err(Denied::Expired),
        Some(end) => Ok(Some(seconds(end + leeway))),
        None if settings.allow_without_expiry => Ok(None),
        None => Err(Denied::Claim),
    }
}

/// Nothing lasts longer than a million years.
#[allow(clippy::cast_sign_loss, reason = "it is not below zero")]
fn seconds(end: f64) -> u64 {
    end.clamp(0.0, 3.2e13) as u64
}

// ---- parties ----

fn check_parties(claims: &Map<String, Value>, settings: &JwtSettings) -> Result<(), Denied> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    let is_issuer = |issuer: &str| settings.issuer.iter().any(|it| it == issuer);
    if !settings.issuer.is_empty() && !issuer.is_some_and(is_issuer) {
        return Err(Denied::Issuer);
    }
    let is_ours = |name: &Value| settings.audience.iter().any(|it| Some(it.as_str()) == name.as_str());
    let for_us = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if settings.audience.is_empty() || for_us { Ok(()) } else { Err(Denied::Audience) }
}

// ---- who ----

fn claimed(claims: &Map<String, Value>, settings: &JwtSettings, expires: Option<u64>) -> Result<Identity, Denied> {
    let name = member(claims, &settings.name_claim).and_then(text).ok_or(Denied::Claim)?;
    let roles = member(claims, &settings.roles_claim).map_or(Ok(Vec::new()), roles)?;
    let kept = |name: &String| member(claims, name).and_then(text).map(|value| (name.clone(), value));
    let claims = settings.claims.iter().filter_map(kept);
    super::made(&name, roles, claims, expires)
}

/// The claim of this name; else the member of members that the parts between dots name.
fn member<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    claims.get(path).or_else(|| {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })
}

/// A string, a number or a truth value as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A list of strings, or words between spaces (RFC 8693 section 4.2).
fn roles(value: &Value) -> Result<Vec<String>, Denied> {
    let role = |it: &Value| it.as_str().map(str::to_owned).ok_or(Denied::Claim);
    match value {
        Value::Array(all) if all.len() > WORDS => Err(Denied::Claim),
        Value::Array(all) => all.iter().map(role).collect(),
        Value::String(words) if words.len() > WORDS * (WORD_BYTES + 1) => Err(Denied::Claim),
        Value::String(words) => Ok(words.split_ascii_whitespace().map(str::to_owned).collect()),
        Value::Null => Ok(Vec::new()),
        _ => Err(Denied::Claim),
    }
}
