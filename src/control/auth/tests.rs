//! Tokens of others and forged ones; users; real servers that are asked, with scripts for what they say.

mod asking;
mod brokers;
mod servers;
mod tokens;

use super::settings::{AuthLimits, AuthSettings, HttpUrl, JwtSettings, KeySource, TokenPlaces};
use std::time::Duration;

/// What an answer may take in a test, on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: AuthLimits = AuthLimits { password_threads: 1, password_queue: 4, token_threads: 1, token_queue: 64 };

fn jwt(keys: KeySource) -> JwtSettings {
    JwtSettings {
        keys,
        ca: None,
        refresh: Duration::from_millis(50),
        algorithms: Vec::new(),
        issuer: Vec::new(),
        audience: Vec::new(),
        leeway: Duration::from_secs(30),
        remember: Duration::from_secs(300),
        allow_without_expiry: false,
        name_claim: "sub".into(),
        roles_claim: "roles".into(),
        claims: Vec::new(),
        from: TokenPlaces { header: true, ..TokenPlaces::default() },
        token_bytes: 8192,
    }
}

fn no_auth() -> AuthSettings {
    AuthSettings {
        basic: None,
        jwt: None,
        forward: None,
        broker: None,
        client_certificate: None,
        timeout: Duration::from_secs(5),
        expired_code: 1008,
    }
}

fn url(text: &str) -> HttpUrl {
    HttpUrl::of(text).expect(text)
}

/// Waits for what must become true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("{what}"));
}
