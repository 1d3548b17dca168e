//! The keys inside of `auth` of a route, and of `auth_limits` of the server.

use super::super::forms::{self, Parsed};
use super::super::model::{Algorithm, AuthLimits, CertificateName, HttpUrl, KeySource, Server, TokenPlaces};
use super::auth_broker::{self, BrokerDraft};
use super::route::RouteDraft;
use super::{DAY, Field, HOUR, KIB, Key, MINUTE, Preset, Rule, push_new, put};
use crate::control::auth::{NOT_HANDED_ON, is_handed_on};
use std::path::PathBuf;
use std::time::Duration;

/// The value of `auth` as it is read: the keys of all kinds side by side.
#[derive(Default)]
pub(crate) struct AuthDraft {
    pub(crate) timeout: Duration,
    pub(crate) expired_code: u16,
    pub(crate) basic: BasicDraft,
    pub(crate) jwt: JwtDraft,
    pub(crate) forward: ForwardDraft,
    pub(crate) broker: BrokerDraft,
    pub(crate) certificate_name: CertificateName,
    pub(crate) certificate_roles: Vec<String>,
}

/// The value of `auth.basic` as it is read.
#[derive(Default)]
pub(crate) struct BasicDraft {
    pub(crate) users: Option<PathBuf>,
    pub(crate) realm: String,
    pub(crate) remember: Duration,
}

/// The value of `auth.jwt` as it is read.
#[derive(Default)]
pub(crate) struct JwtDraft {
    pub(crate) keys: Option<KeySource>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) refresh: Duration,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) issuer: Vec<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) leeway: Duration,
    pub(crate) remember: Duration,
    pub(crate) allow_without_expiry: bool,
    pub(crate) name_claim: String,
    pub(crate) roles_claim: String,
    pub(crate) claims: Vec<String>,
    pub(crate) from: TokenPlaces,
    pub(crate) token_bytes: u32,
}

/// The value of `auth.forward` as it is read.
#[derive(Default)]
pub(crate) struct ForwardDraft {
    pub(crate) url: Option<HttpUrl>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) fields: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) remember: Duration,
    pub(crate) refused_remember: Duration,
    pub(crate) parallel: u32,
    pub(crate) timeout: Duration,
    pub(crate) open: bool,
    pub(crate) name_field: String,
    pub(crate) roles_field: String,
    pub(crate) claims_fields: Vec<String>,
}

/// Close codes of a token that has ended: policy violation, and those that applications have for themselves (RFC 6455
/// section 7.4.2).
const EXPIRED_CODES: Rule = Rule::Or(1008, 4000, 4999);

/// What stands for parts of the request in `auth.forward.keys`.
pub(crate) const REQUEST_PARTS: [&str; 5] = ["method", "target", "path", "host", "address"];

// ---- forms ----

/// The realm, a claim, a role: what fits into a quoted string and is short.
fn words(text: &str, what: &str) -> Parsed<String> {
    let fits = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
    let refuse = || format!("{} is no {what} — write 1 to 255 bytes without control characters", forms::quote(text));
    fits.then(|| text.into()).ok_or_else(refuse)
}

fn realm(text: &str) -> Parsed<String> {
    let fits =
        (1..=255).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\');
    let refuse = || format!("{} is no realm — write plain text without quotes, \"Example\"", forms::quote(text));
    fits.then(|| text.into()).ok_or_else(refuse)
}

pub(super) fn role(text: &str) -> Parsed<String> {
    let text = words(text, "role")?;
    if text.contains([',', ':', ' ']) {
        return Err(format!("{} is no role — write one word, without `,`, `:` or spaces", forms::quote(&text)));
    }
    Ok(text)
}

fn url(text: &str) -> Parsed<HttpUrl> {
    let refuse = || {
        let instead = "write scheme, host and path, \"https://id.example/auth\", without a user or a fragment";
        format!("{} is no URL to ask — {instead}", forms::quote(text))
    };
    HttpUrl::of(text).ok_or_else(refuse)
}

fn keys(text: &str) -> Parsed<KeySource> {
    if !text.contains("://") {
        return forms::file(text).map(KeySource::File);
    }
    let url = url(text)?;
    if !url.secure && !url.is_loopback() {
        let why = "would bring keys over a network that anybody in between may change";
        return Err(format!("{} {why} — write \"https://\"", forms::quote(text)));
    }
    Ok(KeySource::Url(url))
}

fn algorithm(text: &str) -> Parsed<Algorithm> {
    let names = Algorithm::names();
    let refuse = || match text {
        "none" => "\"none\" would let everybody in — write the algorithms of the issuer, \"ES256\"".into(),
        _ => format!("{} is no algorithm known here — those are {}", forms::quote(text), forms::quoted(&names)),
    };
    Algorithm::of(text).ok_or_else(refuse)
}

/// Stores a place of `from`; each may stand once.
fn place(places: &mut TokenPlaces, text: &str) -> Parsed<()> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let slot = match (kind, name) {
        ("header", "") if !places.header => {
            places.header = true;
            return Ok(());
        }
        ("header", "") => return Err("\"header\" stands here twice — write it once".into()),
        ("cookie", _) => &mut places.cookie,
        ("query", _) => &mut places.query,
        ("subprotocol", _) => &mut places.subprotocol,
        _ => return Err(no_place(text)),
    };
    if slot.is_some() {
        return Err(format!("{} is a second {kind} — write one", forms::quote(text)));
    }
    let name = forms::token(name).map_err(|_| no_place(text))?;
    put(slot, name);
    Ok(())
}

fn no_place(text: &str) -> String {
    let instead =
        "write \"header\", \"cookie:NAME\", \"query:NAME\" or \"subprotocol:PREFIX\", with a token for the name";
    format!("{} is no place of a token — {instead}", forms::quote(text))
}

/// The name of a field, in lower case.
fn field(text: &str) -> Parsed<String> {
    let refuse = |_| format!("{} is no field — write its name, \"Cookie\"", forms::quote(text));
    forms::token(text).map(|it| it.to_ascii_lowercase()).map_err(refuse)
}

/// The name of a field that may be handed on.
fn handed_on(text: &str) -> Parsed<String> {
    let name = field(text)?;
    if is_handed_on(&name) {
        return Ok(name);
    }
    let why = if NOT_HANDED_ON.contains(&&*name) { "is about the connection" } else { "is said by edgehold itself" };
    Err(format!("{} {why}, and what a client writes there is not handed on — leave it out", forms::quote(text)))
}

fn part(text: &str) -> Parsed<String> {
    if REQUEST_PARTS.contains(&text) { Ok(text.into()) } else { field(text) }
}

/// A field, or nothing.
fn field_or_none(text: &str) -> Parsed<String> {
    if text.is_empty() { Ok(String::new()) } else { field(text) }
}

/// A field for the name of a file inside of `auth`.
macro_rules! file {
    ($form:literal, $($place:ident).+) => {
        Field::Text { form: $form, store: |r, text| forms::file(text).map(|file| put(&mut r.auth.$($place).+, file)) }
    };
}

// ---- keys ----

/// The keys inside of `auth`.
pub(super) static AUTH: [Key<RouteDraft>; 11] = [
    Key {
        name: "basic",
        field: Field::Table { form: "a table, { users = \"users\" }", keys: &BASIC },
        default: Preset::Absent("no password is asked for"),
        words: "A name and a password (RFC 7617), of a file of users.",
        note: "Browsers ask for it by themselves, for WebSockets of the same origin too. Only over TLS is it a secret. \
               Passwords are verified beside the shards (`auth_limits`).",
        example: "{ users = \"users\" }",
        see: &["auth.basic.users", "auth_limits"],
        ..Key::PLAIN
    },
    Key {
        name: "jwt",
        field: Field::Table { form: "a table, { keys = \"https://id.example/jwks\" }", keys: &JWT },
        default: Preset::Absent("no token is taken"),
        words: "A JSON Web Token (RFC 7519) that somebody has signed whose keys are known.",
        note: "The connection ends when the token does (`auth.expired_code`).",
        example: "{ keys = \"https://id.example/jwks\", issuer = \"https://id.example\", audience = \"edge\" }",
        see: &["auth.jwt.keys", "auth.jwt.from"],
        ..Key::PLAIN
    },
    Key {
        name: "forward",
        field: Field::Table { form: "a table, { url = \"http://127.0.0.1:9000/auth\" }", keys: &FORWARD },
        default: Preset::Absent("no other server is asked"),
        words: "Another server is asked about each request: 2xx lets in, 401 and 403 are passed on.",
        note: "It is sent GET with `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto` and `-For` and the fields that are \
               chosen. Redirects are not followed.",
        example: "{ url = \"http://127.0.0.1:9000/auth\", fields = [\"Cookie\"] }",
        see: &["auth.forward.url", "auth.forward.fail"],
        ..Key::PLAIN
    },
    Key {
        name: "client_certificate",
        field: Field::Table { form: "a table, { name = \"cn\" }", keys: &CERTIFICATE },
        default: Preset::Absent("certificates say nothing of who it is"),
        words: "The certificate that the client has shown in its TLS handshake.",
        note: "The listener asks for it (`tls.client.verify`).",
        example: "{ name = \"cn\" }",
        see: &["auth.client_certificate.name", "tls.client"],
        ..Key::PLAIN
    },
    auth_broker::BROKER,
    auth_broker::REMEMBER,
    auth_broker::REFUSED_REMEMBER,
    auth_broker::PARALLEL,
    auth_broker::WRONG_PER_MINUTE,
    Key {
        name: "timeout",
        field: Field::millis(Rule::Range(100, MINUTE), |r| &mut r.auth.timeout),
        default: Preset::Is("5s"),
        words: "How long a client may wait for the verdict; then it is answered 503.",
        see: &["head_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "expired_code",
        field: Field::count(EXPIRED_CODES, |r| &mut r.auth.expired_code),
        default: Preset::Is("1008"),
        words: "The close code of a WebSocket whose token has ended.",
        note: "1008 is the policy violation; 4000 to 4999 are for applications (RFC 6455, section 7.4.2).",
        example: "4001",
        see: &["auth.jwt"],
        ..Key::PLAIN
    },
];

static BASIC: [Key<RouteDraft>; 3] = [
    Key {
        name: "users",
        field: file!("a file of users", basic.users),
        default: Preset::Required,
        words: "The file of users: a line for each, `name:hash` or `name:hash:role,role`.",
        note: "`edgehold passwd` writes it; what `htpasswd -B` wrote is taken too. Hashes are of argon2id or bcrypt. \
               It is read again on SIGHUP; where that fails, the users before stay, and log and metrics say why.",
        example: "\"users\"",
        see: &["auth.basic.remember"],
        ..Key::PLAIN
    },
    Key {
        name: "realm",
        field: Field::Text {
            form: "text without quotes",
            store: |r, text| realm(text).map(|value| r.auth.basic.realm = value),
        },
        default: Preset::Is("edgehold"),
        words: "What a browser shows when it asks for the password.",
        example: "\"Example\"",
        ..Key::PLAIN
    },
    Key {
        name: "remember",
        field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.basic.remember),
        default: Preset::Is("60s"),
        words: "How long a right password is remembered, by a keyed hash of it.",
        note: "A user that is removed comes in so much longer. A wrong password is remembered for 5 s.",
        see: &["auth_limits"],
        ..Key::PLAIN
    },
];

static JWT: [Key<RouteDraft>; 14] = [
    Key {
        name: "keys",
        field: Field::Text {
            form: "a file with keys, or the https URL of a JWKS",
            store: |r, text| keys(text).map(|value| put(&mut r.auth.jwt.keys, value)),
        },
        default: Preset::Required,
        words: "The keys by which tokens are signed.",
        note: "A file has a JWKS (RFC 7517), public keys in PEM, or a secret: 32 bytes or more, behind `base64:` in \
               base64, else as it stands. It is read again on SIGHUP. A JWKS at a URL is fetched again and again; \
               until the first good one clients are answered 503, then the last good one stays whatever comes. Each \
               key is for the algorithms of its kind only.",
        example: "\"https://id.example/jwks\"",
        see: &["auth.jwt.refresh", "auth.jwt.algorithms", "auth.jwt.ca"],
        ..Key::PLAIN
    },
    Key {
        name: "ca",
        field: file!("a file with certificates of authorities in PEM", jwt.ca),
        default: Preset::Absent("those that the system believes"),
        words: "The authorities of which the certificate of the URL must be.",
        example: "\"id.pem\"",
        see: &["auth.jwt.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "refresh",
        field: Field::millis(Rule::Range(1000, DAY), |r| &mut r.auth.jwt.refresh),
        default: Preset::Is("5m"),
        words: "How often the keys of a URL are fetched.",
        note: "A token whose key is not known has them fetched earlier, every 30 s at most.",
        see: &["auth.jwt.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "algorithms",
        field: Field::List {
            form: "a list of algorithms, \"ES256\"",
            single: true,
            most: 12,
            store: |r, text| push_new(&mut r.auth.jwt.algorithms, algorithm(text)?, text),
        },
        default: Preset::Absent("all that a key is for"),
        words: "The algorithms that are taken: HS256, HS384, HS512, RS256 to RS512, PS256 to PS512, ES256, ES384, \
                EdDSA.",
        note: "`none` is never taken, and no public key for HS.",
        example: "[\"ES256\", \"RS256\"]",
        see: &["auth.jwt.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "issuer",
        field: Field::List {
            form: "a name, or a list of names",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.auth.jwt.issuer, words(text, "issuer")?, text),
        },
        default: Preset::Absent("anybody who has a key"),
        words: "Who must have issued the token (`iss`).",
        example: "\"https://id.example\"",
        see: &["auth.jwt.audience"],
        ..Key::PLAIN
    },
    Key {
        name: "audience",
        field: Field::List {
            form: "a name, or a list of names",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.auth.jwt.audience, words(text, "audience")?, text),
        },
        default: Preset::Absent("tokens for anybody are taken"),
        words: "For whom the token must be (`aud`): one of these.",
        note: "Write it where the issuer has tokens for others too: without it theirs are good here.",
        example: "\"edge\"",
        see: &["auth.jwt.issuer"],
        ..Key::PLAIN
    },
    Key {
        name: "leeway",
        field: Field::millis(Rule::Range(0, HOUR), |r| &mut r.auth.jwt.leeway),
        default: Preset::Is("30s"),
        words: "How far the issuer's clock may be from this one: for `exp`, `nbf` and `iat`.",
        ..Key::PLAIN
    },
    Key {
        name: "remember",
        field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.jwt.remember),
        default: Preset::Is("5m"),
        words: "How long it is remembered at most that a token is good; never beyond its end.",
        note: "A key that is withdrawn lets in so much longer who has shown its token before.",
        see: &["auth.jwt.refresh"],
        ..Key::PLAIN
    },
    Key {
        name: "allow_without_expiry",
        field: Field::Flag { store: |r, on| r.auth.jwt.allow_without_expiry = on },
        default: Preset::Is("false"),
        words: "Whether a token without `exp` is taken; its connections have no end.",
        example: "true",
        ..Key::PLAIN
    },
    Key {
        name: "name_claim",
        field: Field::Text {
            form: "a claim",
            store: |r, text| words(text, "claim").map(|value| r.auth.jwt.name_claim = value),
        },
        default: Preset::Is("sub"),
        words: "The claim that is the client's name; with dots, a member of an object.",
        example: "\"email\"",
        see: &["auth.jwt.roles_claim"],
        ..Key::PLAIN
    },
    Key {
        name: "roles_claim",
        field: Field::Text {
            form: "a claim",
            store: |r, text| words(text, "claim").map(|value| r.auth.jwt.roles_claim = value),
        },
        default: Preset::Is("roles"),
        words: "The claim that has the client's roles: a list of strings, or one string with spaces, as `scope` is.",
        example: "\"realm_access.roles\"",
        see: &["roles", "auth.jwt.name_claim"],
        ..Key::PLAIN
    },
    Key {
        name: "claims",
        field: Field::List {
            form: "a list of claims",
            single: true,
            most: 16,
            store: |r, text| push_new(&mut r.auth.jwt.claims, words(text, "claim")?, text),
        },
        default: Preset::Is("[]"),
        words: "Claims that are kept, for `{claim.x}` in patterns of channels.",
        example: "[\"tenant\"]",
        see: &["channels"],
        ..Key::PLAIN
    },
    Key {
        name: "from",
        field: Field::List {
            form: "a list of places: \"header\", \"cookie:NAME\", \"query:NAME\", \"subprotocol:PREFIX\"",
            single: true,
            most: 4,
            store: |r, text| place(&mut r.auth.jwt.from, text),
        },
        default: Preset::Follows("`\"header\"`: `Authorization: Bearer`"),
        words: "Where a token is looked for, in this order: header, cookie, query, subprotocol.",
        note: "A browser's WebSocket can send no header: it has cookies, the query, or a subprotocol, `new \
               WebSocket(url, [\"chat\", \"token.\" + token])` with \"subprotocol:token.\". A token in the query \
               stands in the logs of others; edgehold's have it not.",
        example: "[\"header\", \"cookie:session\", \"subprotocol:token.\"]",
        see: &["allow_origin"],
        ..Key::PLAIN
    },
    Key {
        name: "token_bytes",
        field: Field::bytes(Rule::Range(256, 64 * KIB), |r| &mut r.auth.jwt.token_bytes),
        default: Preset::Is("8KiB"),
        words: "The longest token.",
        note: "A token in a head is within `head_bytes` as well.",
        see: &["head_bytes"],
        ..Key::PLAIN
    },
];

static FORWARD: [Key<RouteDraft>; 12] = [
    Key {
        name: "url",
        field: Field::Text {
            form: "an http or https URL",
            store: |r, text| url(text).map(|value| put(&mut r.auth.forward.url, value)),
        },
        default: Preset::Required,
        words: "What is asked, by HTTP/1.1.",
        note: "Connections to it are kept. By `http` whoever is in between reads the fields and writes the verdict: it \
               is for the loopback and networks of your own.",
        example: "\"http://127.0.0.1:9000/auth\"",
        see: &["auth.forward.ca", "auth.forward.timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "ca",
        field: file!("a file with certificates of authorities in PEM", forward.ca),
        default: Preset::Absent("those that the system believes"),
        words: "The authorities of which the certificate of the URL must be.",
        example: "\"id.pem\"",
        see: &["auth.forward.url"],
        ..Key::PLAIN
    },
    Key {
        name: "fields",
        field: Field::List {
            form: "a list of names of fields, \"Cookie\"",
            single: true,
            most: 32,
            store: |r, text| push_new(&mut r.auth.forward.fields, handed_on(text)?, text),
        },
        default: Preset::Follows("`[\"Authorization\", \"Cookie\"]`"),
        words: "The fields of the request that are handed on.",
        note: "What is about the connection never is, nor what a client writes as `X-Forwarded-`.",
        example: "[\"Cookie\"]",
        see: &["auth.forward.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "keys",
        field: Field::List {
            form: "a list of fields that are handed on, and of \"method\", \"target\", \"path\", \"host\", \"address\"",
            single: true,
            most: 37,
            store: |r, text| push_new(&mut r.auth.forward.keys, part(text)?, text),
        },
        default: Preset::Follows("all of `fields`, and `host`, `target` and `method`"),
        words: "What a verdict that is remembered depends on: who is the same in these is not asked about again.",
        note: "`target` is the path with its query. Leave nothing out that the other server looks at: it would \
               say of one client what holds for another.",
        example: "[\"Cookie\", \"host\"]",
        see: &["auth.forward.remember"],
        ..Key::PLAIN
    },
    Key {
        name: "remember",
        field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.forward.remember),
        default: Preset::Is("10s"),
        words: "How long it is remembered that a client is let in.",
        see: &["auth.forward.keys"],
        ..Key::PLAIN
    },
    Key {
        name: "refused_remember",
        field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.forward.refused_remember),
        default: Preset::Is("2s"),
        words: "How long it is remembered that it is not.",
        see: &["auth.forward.remember"],
        ..Key::PLAIN
    },
    Key {
        name: "parallel",
        field: Field::count(Rule::Range(1, 1024), |r| &mut r.auth.forward.parallel),
        default: Preset::Is("32"),
        words: "How many requests are under way at one time, and connections are kept.",
        note: "Sixteen times as many wait; those beyond are answered 503.",
        see: &["auth.forward.timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "timeout",
        field: Field::millis(Rule::Range(10, MINUTE), |r| &mut r.auth.forward.timeout),
        default: Preset::Is("3s"),
        words: "How long the other server may take, connecting included.",
        see: &["auth.timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "fail",
        field: choice!(auth.forward.open: "closed" => false, "open" => true),
        default: Preset::Is("closed"),
        words: "What becomes of clients where the other server cannot be reached, or says neither yes nor no.",
        note: "`closed`: they are answered 503. `open`: they are let in, as `unknown` and without roles.",
        see: &["auth.forward.url"],
        ..Key::PLAIN
    },
    Key {
        name: "name_field",
        field: Field::Text { form: "a field", store: |r, text| field(text).map(|it| r.auth.forward.name_field = it) },
        default: Preset::Is("X-User"),
        words: "The field of the response that has the client's name; without it nobody is let in.",
        example: "\"Remote-User\"",
        see: &["auth.forward.roles_field"],
        ..Key::PLAIN
    },
    Key {
        name: "roles_field",
        field: Field::Text {
            form: "a field, or \"\" for none",
            store: |r, text| field_or_none(text).map(|it| r.auth.forward.roles_field = it),
        },
        default: Preset::Is("X-Roles"),
        words: "The field of the response that has its roles, between commas or spaces.",
        example: "\"Remote-Groups\"",
        see: &["roles"],
        ..Key::PLAIN
    },
    Key {
        name: "claims_fields",
        field: Field::List {
            form: "a list of fields",
            single: true,
            most: 16,
            store: |r, text| push_new(&mut r.auth.forward.claims_fields, field(text)?, text),
        },
        default: Preset::Is("[]"),
        words: "Fields of the response that are kept, for `{claim.x}` in patterns of channels, in lower case there.",
        example: "[\"X-Tenant\"]",
        see: &["channels"],
        ..Key::PLAIN
    },
];

static CERTIFICATE: [Key<RouteDraft>; 2] = [
    Key {
        name: "name",
        field: choice!(auth.certificate_name:
            "subject" => CertificateName::Subject, "cn" => CertificateName::CommonName, "dns" => CertificateName::Dns,
            "email" => CertificateName::Email, "uri" => CertificateName::Uri),
        default: Preset::Is("subject"),
        words: "Which part of the certificate is the client's name: the subject as a whole, its common name, or the \
                first DNS name, e-mail address or URI of its alternative names.",
        example: "\"uri\"",
        see: &["tls.client.ca"],
        ..Key::PLAIN
    },
    Key {
        name: "roles",
        field: Field::List {
            form: "a role, or a list of roles",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.auth.certificate_roles, role(text)?, text),
        },
        default: Preset::Is("[]"),
        words: "The roles of all who come by a certificate.",
        example: "[\"agent\"]",
        see: &["roles"],
        ..Key::PLAIN
    },
];

/// An `AuthLimits` before its defaults are laid in.
pub(super) const BLANK_AUTH_LIMITS: AuthLimits =
    AuthLimits { password_threads: 0, password_queue: 0, token_threads: 0, token_queue: 0 };

/// The keys inside of `auth_limits`.
pub(super) static AUTH_LIMITS: [Key<Server>; 4] = [
    Key {
        name: "password_threads",
        field: Field::count(Rule::Range(1, 64), |s| &mut s.auth_limits.password_threads),
        default: Preset::Is("1"),
        words: "Threads that verify passwords, each of them one at a time.",
        note: "A hash of `edgehold passwd` takes a thread some 20 ms and 19 MiB. They run at nice 10, behind the \
               shards.",
        see: &["auth.basic"],
        ..Key::PLAIN
    },
    Key {
        name: "password_queue",
        field: Field::count(Rule::Range(1, 1 << 16), |s| &mut s.auth_limits.password_queue),
        default: Preset::Is("64"),
        words: "Passwords that may wait for a thread; those beyond are answered 503.",
        see: &["auth.timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "token_threads",
        field: Field::count(Rule::Range(1, 64), |s| &mut s.auth_limits.token_threads),
        default: Preset::Is("1"),
        words: "Threads that verify tokens which are seen for the first time.",
        note: "They run at nice 10, behind the shards. A signature of ES256 takes some 100 µs.",
        see: &["auth.jwt"],
        ..Key::PLAIN
    },
    Key {
        name: "token_queue",
        field: Field::count(Rule::Range(1, 1 << 16), |s| &mut s.auth_limits.token_queue),
        default: Preset::Is("1024"),
        words: "Tokens that may wait for a thread; those beyond are answered 503.",
        see: &["auth.timeout"],
        ..Key::PLAIN
    },
];
