//! Tokens: the vectors of RFC 7515 and RFC 8037, those of PyJWT (vectors.txt, for the keys of vectors.jwks), and the
//! classes of forgeries that Wycheproof has for JWS.

use super::super::keys::KeySet;
use super::super::settings::{Algorithm, JwtSettings, KeySource};
use super::super::{signature, token};
use super::jwt;
use crate::mesh::{Denied, Identity};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};
use std::time::Duration;

const JWKS: &str = include_str!("vectors.jwks");
const TOKENS: &str = include_str!("vectors.txt");
const NOW: u64 = 1_800_000_000;

fn settings() -> JwtSettings {
    signature::install();
    JwtSettings { leeway: Duration::ZERO, ..jwt(KeySource::File("".into())) }
}

fn keys() -> KeySet {
    KeySet::of_file(JWKS.as_bytes()).unwrap()
}

/// The token of an algorithm.
fn of(algorithm: &str) -> &'static str {
    TOKENS.lines().find_map(|line| line.strip_prefix(algorithm)?.strip_prefix(' ')).expect(algorithm)
}

fn judged(token: &str) -> Result<Identity, Denied> {
    token::identity(token, &keys(), &settings(), NOW)
}

fn coded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Signed with a secret by this header and these claims, as they stand.
fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn claiming(claims: &Value) -> String {
    signed(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET)
}

// ---- vectors ----

#[test]
fn tokens_of_another_library_are_good_by_every_algorithm() {
    assert_eq!(TOKENS.lines().count(), Algorithm::names().len());
    let settings = JwtSettings {
        issuer: vec!["https://id.example".into()],
        audience: vec!["other".into(), "edge".into()],
        claims: vec!["tenant".into(), "none".into()],
        ..settings()
    };
    for name in Algorithm::names() {
        let identity = token::identity(of(name), &keys(), &settings, NOW).expect(name);
        assert_eq!((&*identity.name, identity.claim("tenant"), identity.claims.len()), ("alice", Some("t1"), 1));
        assert_eq!((identity.expires, identity.roles), (Some(4_102_444_800), ["reader".into()].into()));
        let scope = JwtSettings { roles_claim: "scope".into(), ..settings.clone() };
        let identity = token::identity(of(name), &keys(), &scope, NOW).unwrap();
        assert_eq!(identity.roles, ["read".into(), "write".into()].into());
    }
}

#[test]
fn the_vectors_of_rfc_7515_and_rfc_8037() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let hmac =
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let ec = concat!(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
        r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
    );
    let settings = JwtSettings { name_claim: "iss".into(), ..settings() };
    let a1 = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let a3 = format!("eyJhbGciOiJFUzI1NiJ9.{claims}.{signature}");
    for (token, key) in [(a1, hmac), (a3, ec)] {
        let set = KeySet::of_file(key.as_bytes()).unwrap();
        let at = |now| token::identity(&token, &set, &settings, now);
        assert_eq!(at(1_300_819_379).map(|it| it.name), Ok("joe".into()));
        assert_eq!(at(1_300_819_380), Err(Denied::Expired));
        assert_eq!(
            token::identity(&format!("eyJhbGciOiJub25lIn0.{claims}."), &set, &settings, 0),
            Err(Denied::Algorithm)
        );
    }
    // RFC 8037 appendix A.4: the signature is good, and what is signed is no set of claims.
    let ed = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let set = KeySet::of_file(ed.as_bytes()).unwrap();
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let a4 = |signature: &str| format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{signature}");
    assert_eq!(token::identity(&a4(signature), &set, &settings, 0), Err(Denied::Malformed));
    assert_eq!(token::identity(&a4(&signature.replace("hgy", "hgz")), &set, &settings, 0), Err(Denied::Signature));
}

// ---- forgeries ----

#[test]
fn no_header_makes_a_key_another_one() {
    let claims = json!({"sub": "eve", "exp": NOW + 60});
    let of_jwks = |kid: &str| keys().keys.into_iter().find(|it| it.kid.as_deref() == Some(kid)).unwrap().material;
    let public = of_jwks("p256").try_get_as_bytes().unwrap().to_vec();
    for kid in ["p256", "rsa", "ed", "p384"] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert_eq!(judged(&signed(&header, &claims.to_string(), &public)), Err(Denied::Algorithm), "{kid}");
    }
    let pem = include_bytes!("../../../../ci/config/good/auth/keys.pem");
    let token = signed(r#"{"alg":"HS256"}"#, &claims.to_string(), pem);
    let set = KeySet::of_file(pem).unwrap();
    assert_eq!(token::identity(&token, &set, &settings(), NOW), Err(Denied::Algorithm));
    // The key that a token brings along is nobody's.
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
    let header = json!({"alg": "HS256", "jwk": jwk, "kid": "hs"}).to_string();
    assert_eq!(judged(&signed(&header, &claims.to_string(), &[7; 32])), Err(Denied::Signature));
    // The signature of one algorithm under the name of another.
    for (its, other) in
        [("RS256", "PS256"), ("PS256", "RS256"), ("RS256", "RS512"), ("ES256", "ES384"), ("HS256", "HS384")]
    {
        let (_, rest) = of(its).split_once('.').unwrap();
        let forged = format!("{}.{rest}", coded(&json!({"alg": other})));
        assert_eq!(judged(&forged), Err(Denied::Signature), "{its} as {other}");
    }
}

#[test]
fn none_is_no_algorithm_however_it_is_written() {
    let (_, rest) = of("ES256").split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for name in ["none", "None", "NONE", "nOnE", "", "ES512", "RS1", "dir", "hs256"] {
        let header = coded(&json!({"alg": name}));
        for token in [format!("{header}.{claims}."), format!("{header}.{claims}.{signature}")] {
            assert_eq!(judged(&token), Err(Denied::Algorithm), "{name}");
        }
    }
    assert_eq!(judged(&format!("{}.{claims}.{signature}", coded(&json!({"typ": "JWT"})))), Err(Denied::Malformed));
}

#[test]
fn signatures_of_zeros_of_der_and_of_other_lengths_are_wrong() {
    for algorithm in Algorithm::names() {
        let (message, signature) = of(algorithm).rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let with = |bytes: &[u8]| judged(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes)));
        assert_eq!(with(&vec![0; bytes.len()]), Err(Denied::Signature), "{algorithm}");
        assert_eq!(with(&bytes[1..]), Err(Denied::Signature), "{algorithm}");
        assert_eq!(with(&[&bytes[..], &[0]].concat()), Err(Denied::Signature), "{algorithm}");
        assert_eq!(with(&[]), Err(Denied::Signature), "{algorithm}");
        if algorithm == "ES256" {
            let der = [&[0x30, 0x44, 2, 0x20], &bytes[..32], &[2, 0x20], &bytes[32..]].concat();
            assert_eq!(with(&der), Err(Denied::Signature));
        }
    }
}

#[test]
fn what_is_not_in_the_compact_form_is_malformed() {
    let good = of("ES256");
    let (header, rest) = good.split_once('.').unwrap();
    let critical = |name: &str| signed(&format!(r#"{{"alg":"HS256","crit":["{name}"],"{name}":false}}"#), "{}", SECRET);
    let nested = format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let twice = r#"{"alg":"none","alg":"HS256"}"#;
    for token in [
        String::new(),
        "..".into(),
        header.into(),
        format!("{good}."),
        format!("{good}.x"),
        format!("{header}=.{rest}"),
        format!(" {good}"),
        good.replace('.', ".."),
        format!("{{\"payload\":\"{rest}\"}}"),
        "a".repeat(9000),
        format!("{good}{}", "A".repeat(9000)),
        critical("exp"),
        critical("b64"),
        signed(&nested, "{}", SECRET),
        signed(twice, "{}", SECRET),
        signed(r#"{"alg":"HS256"}"#, &format!("{}{}", "[".repeat(500), "]".repeat(500)), SECRET),
        signed(r#"{"alg":"HS256"}"#, "[]", SECRET),
        signed(r#"{"alg":"HS256"}"#, "{\"sub\":", SECRET),
        signed(r#"{"alg":"HS256","kid":7}"#, "{}", SECRET),
        signed(r#"["HS256"]"#, "{}", SECRET),
    ] {
        assert_eq!(judged(&token), Err(Denied::Malformed), "{token}");
    }
}

#[test]
fn a_kid_chooses_and_an_unknown_one_has_no_key() {
    let claims = json!({"sub": "a", "exp": NOW + 60}).to_string();
    let with = |kid: &str| judged(&signed(&json!({"alg": "HS256", "kid": kid}).to_string(), &claims, SECRET));
    assert_eq!(with("hs").map(|it| it.name), Ok("a".into()));
    assert_eq!(with("other"), Err(Denied::Key));
    assert_eq!(with("../../etc/passwd"), Err(Denied::Key));
    assert_eq!(with("rsa"), Err(Denied::Algorithm));
    let allowed = JwtSettings { algorithms: vec![Algorithm::of("ES256").unwrap()], ..settings() };
    assert_eq!(token::identity(of("RS256"), &keys(), &allowed, NOW), Err(Denied::Algorithm));
    assert!(token::identity(of("ES256"), &keys(), &allowed, NOW).is_ok());
}

// ---- claims ----

#[test]
fn times_are_numbers_and_hold_within_the_leeway() {
    let at = |claims: Value, leeway| {
        let settings = JwtSettings { leeway: Duration::from_secs(leeway), ..settings() };
        token::identity(&claiming(&claims), &keys(), &settings, NOW).map(|it| it.expires)
    };
    let end = NOW + 60;
    assert_eq!(at(json!({"sub": "a", "exp": end}), 0), Ok(Some(end)));
    assert_eq!(at(json!({"sub": "a", "exp": NOW}), 0), Err(Denied::Expired));
    assert_eq!(at(json!({"sub": "a", "exp": NOW - 29}), 30), Ok(Some(NOW + 1)));
    assert_eq!(at(json!({"sub": "a", "exp": NOW - 30}), 30), Err(Denied::Expired));
    assert_eq!(at(json!({"sub": "a", "exp": -1}), 30), Err(Denied::Expired));
    assert_eq!(at(json!({"sub": "a", "exp": 1e300}), 0), Ok(Some(32_000_000_000_000)));
    assert_eq!(at(json!({"sub": "a", "exp": end, "nbf": NOW + 31}), 30), Err(Denied::NotYetValid));
    assert_eq!(at(json!({"sub": "a", "exp": end, "iat": NOW + 31}), 30), Err(Denied::NotYetValid));
    assert_eq!(at(json!({"sub": "a", "exp": end, "nbf": NOW + 30, "iat": 1.5}), 30), Ok(Some(end + 30)));
    assert_eq!(at(json!({"sub": "a"}), 0), Err(Denied::Claim));
    for wrong in [json!("4102444800"), json!(null), json!([end]), json!({}), json!(true)] {
        for name in ["exp", "nbf", "iat"] {
            let mut claims = json!({"sub": "a", "exp": end});
            claims[name] = wrong.clone();
            assert_eq!(at(claims, 0), Err(Denied::Claim), "{name} {wrong}");
        }
    }
    let endless = JwtSettings { allow_without_expiry: true, ..settings() };
    let token = claiming(&json!({"sub": "a"}));
    assert_eq!(token::identity(&token, &keys(), &endless, NOW).map(|it| it.expires), Ok(None));
}

#[test]
fn issuer_audience_name_and_roles_are_what_they_should_be() {
    let judged = |more: Value| {
        let mut claims = json!({"sub": "a", "exp": NOW + 60, "iss": "i", "aud": "edge"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (issuer, audience) = (vec!["i".into()], vec!["edge".into()]);
        let settings = JwtSettings { issuer, audience, roles_claim: "realm.roles".into(), ..settings() };
        token::identity(&claiming(&claims), &keys(), &settings, NOW)
    };
    assert!(judged(json!({})).is_ok());
    for iss in [json!("j"), json!(null), json!(["i"]), json!("I"), json!("i ")] {
        assert_eq!(judged(json!({"iss": iss})), Err(Denied::Issuer), "{iss}");
    }
    assert!(judged(json!({"aud": ["x", "edge"]})).is_ok());
    for aud in [json!("edges"), json!(null), json!([]), json!(["edge", 7]), json!({"edge": 1}), json!([["edge"]])] {
        assert_eq!(judged(json!({"aud": aud})), Err(Denied::Audience), "{aud}");
    }
    for sub in [json!(""), json!(null), json!("a\nb"), json!(["a"]), json!("a".repeat(256))] {
        assert_eq!(judged(json!({"sub": sub})), Err(Denied::Claim), "{sub}");
    }
    assert_eq!(judged(json!({"sub": 17})).map(|it| it.name), Ok("17".into()));
    let roles = |roles: Value| judged(json!({"realm": {"roles": roles}})).map(|it| it.roles.into_vec());
    assert_eq!(roles(json!(["x", "y", "x"])), Ok(vec!["x".into(), "y".into()]));
    assert_eq!(roles(json!("x  y")), Ok(vec!["x".into(), "y".into()]));
    assert_eq!(roles(json!(null)), Ok(vec![]));
    let many: Vec<String> = (0..65).map(|it| it.to_string()).collect();
    for wrong in [json!([1]), json!(7), json!({"x": 1}), json!([""]), json!(many), json!(many.join(" "))] {
        assert_eq!(roles(wrong.clone()), Err(Denied::Claim), "{wrong}");
    }
}

// ---- keys ----

#[test]
fn keys_that_are_not_for_signatures_or_too_weak_are_left_out() {
    let short = URL_SAFE_NO_PAD.encode([1; 16]);
    let left_out = [
        json!({"kty": "oct", "k": short}),
        json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode([255; 128])}),
        json!({"kty": "EC", "crv": "P-521", "x": short, "y": short}),
        json!({"kty": "EC", "crv": "P-256", "x": short, "y": short}),
        json!({"kty": "new"}),
        json!({"x": 1}),
        json!(7),
    ];
    let with = |more: Value| {
        let mut first: Value = serde_json::from_str::<Value>(JWKS).unwrap()["keys"][1].clone();
        first.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        first
    };
    let others =
        [json!({"use": "enc"}), json!({"key_ops": ["sign"]}), json!({"alg": "ES384"}), json!({"alg": "RS256"})];
    let all: Vec<Value> = left_out.into_iter().chain(others.into_iter().map(with)).collect();
    for key in &all {
        assert!(KeySet::of_file(json!({"keys": [key]}).to_string().as_bytes()).is_err(), "{key}");
    }
    let good = with(json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]}));
    let mut keys = all.clone();
    keys.push(good);
    let set = KeySet::of_file(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    assert_eq!((set.keys.len(), set.left_out), (1, all.len()));
    let fetched = KeySet::of_fetched(JWKS.as_bytes()).unwrap();
    assert!(fetched.keys.iter().all(|it| it.kid.as_deref() != Some("hs")), "a secret that anybody can fetch");
}

#[test]
fn a_secret_is_for_the_algorithms_that_it_is_long_enough_for() {
    let algorithms = |bytes: usize| KeySet::of_file("s".repeat(bytes).as_bytes()).map(|it| it.keys[0].algorithms.len());
    assert!(algorithms(31).is_err());
    assert_eq!([32, 47, 48, 63, 64].map(|bytes| algorithms(bytes).unwrap()), [1, 1, 2, 2, 3]);
    let coded = format!("base64:{}\n", base64::prelude::BASE64_STANDARD.encode(SECRET));
    let token = claiming(&json!({"sub": "a", "exp": NOW + 60}));
    for file in [coded.as_bytes(), SECRET] {
        let set = KeySet::of_file(file).unwrap();
        assert!(token::identity(&token, &set, &settings(), NOW).is_ok());
    }
}

proptest! {
    /// A token in which one byte is another is good for nobody.
    #[test]
    fn a_token_that_was_changed_is_never_good(
        which in 0_usize..12,
        place in any::<prop::sample::Index>(),
        byte in 33_u8..127,
    ) {
        let token = TOKENS.lines().nth(which).unwrap().split_once(' ').unwrap().1;
        let mut bytes = token.as_bytes().to_vec();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        prop_assert!(judged(std::str::from_utf8(&bytes).unwrap()).is_err());
    }

    #[test]
    fn no_token_and_no_file_is_too_odd(header in ".{0,60}", claims in ".{0,60}", text in any::<Vec<u8>>()) {
        let _ = judged(&signed(&header, &claims, SECRET));
        let _ = judged(&String::from_utf8_lossy(&text));
        let _ = KeySet::of_file(&text);
        let _ = super::super::users::Users::of(&String::from_utf8_lossy(&text));
    }
}
