//! What a route says of its clients: keys that need each other, and the files that they name.

use super::super::draft::Section;
use super::super::forms;
use super::super::keys::{AuthDraft, ForwardDraft, JwtDraft, REQUEST_PARTS, RouteDraft};
use super::super::model::{
    AuthSettings, BasicSettings, CertificateSettings, ClientFiles, ForwardSettings, JwtSettings, KeySource, TokenPlaces,
};
use super::super::report::Report;
use crate::control::auth::{inspect_keys, inspect_users};
use crate::control::certificates::inspect_client;
use std::path::Path;

/// The kinds of `auth`, each with a key without which it is nothing, and what that is.
const KINDS: [(&str, Option<(&str, &str)>); 5] = [
    ("basic", Some(("users", "a file of users (edgehold passwd)"))),
    ("jwt", Some(("keys", "a file with keys, or the https URL of a JWKS"))),
    ("forward", Some(("url", "an http or https URL"))),
    ("client_certificate", None),
    ("broker", None),
];

/// Kinds that take a name and a password, as `broker` does.
const RIVALS: [&str; 2] = ["basic", "forward"];

/// Keys that say how a broker is asked.
const BROKER: [&str; 4] = ["broker_remember", "broker_refused_remember", "broker_parallel", "broker_wrong_per_minute"];

/// Fields that are handed on where none are written.
const FIELDS: [&str; 2] = ["authorization", "cookie"];

/// Notes what is missing or contradicts itself.
pub(super) fn check_auth(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    if section.gives("roles") && !section.gives("auth") {
        let words = "are asked for, and nobody is asked who it is — write `auth`, or leave them out";
        report.note_key(section, "roles", words.into());
    }
    if section.gives("stamp") && !section.gives("auth") && section.service().is_some() {
        let words = "names who a client is, and nobody is asked — write `auth`, or leave it out";
        report.note_key(section, "stamp", words.into());
    }
    if !section.gives("auth") || section.refused.iter().any(|it| it == "auth") {
        return;
    }
    check_broker(section, report);
    if KINDS.iter().all(|(kind, _)| !section.gives(&format!("auth.{kind}"))) {
        let words =
            "lets nobody say who it is — write `basic`, `jwt`, `forward`, `client_certificate` or `broker` in it";
        report.note_key(section, "auth", words.into());
    }
    for (kind, needed) in KINDS {
        let Some((key, form)) = needed else { continue };
        let (kind, key) = (format!("auth.{kind}"), format!("auth.{kind}.{key}"));
        if section.gives(&kind) && !section.refused.contains(&kind) && !section.gives(&key) {
            report.note(
                section.place(&kind),
                &format!("{}.{key}", section.label),
                format!("is missing — write {form}"),
            );
        }
    }
    check_keys(section, report);
}

/// A broker is asked where there is one, by name and password, which nobody else is asked about then.
fn check_broker(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let is_asked = section.value.auth.broker.is_asked;
    let key = "auth.broker";
    match section.service() {
        Some("stomp" | "mqtt") | None => {}
        Some(_) if !section.gives(key) => {}
        Some(service) => {
            let words = format!(
                "is for services in front of a broker, stomp and mqtt; this route has service {service} — write \
                 `basic`, `jwt` or `forward`"
            );
            return report.note_key(section, key, words);
        }
    }
    if section.gives(key) && !section.refused.iter().any(|it| it == key) && !is_asked {
        return report.note_key(section, key, "asks nobody — write true, or leave it out".into());
    }
    let rival = RIVALS.iter().find(|kind| section.gives(&format!("auth.{kind}")));
    if let Some(rival) = rival.filter(|_| is_asked) {
        let words = format!("and `{rival}` are both for a name and a password — leave one of them out");
        report.note_key(section, key, words);
    }
    let unused = BROKER.iter().find(|it| section.gives(&format!("auth.{it}")));
    if let Some(unused) = unused.filter(|_| !section.gives(key)) {
        let words = "is for `broker = true`, which is not written — write that too, or leave it out";
        report.note_key(section, &format!("auth.{unused}"), words.into());
    }
}

/// A verdict can depend only on what the other server is told.
fn check_keys(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let forward = &section.value.auth.forward;
    let fields = fields(forward);
    let is_told = |key: &String| REQUEST_PARTS.contains(&key.as_str()) || fields.contains(key);
    if let Some(key) = forward.keys.iter().find(|key| !is_told(key)) {
        let words = format!("{} is not among the fields that are handed on — write it in `fields`", forms::quote(key));
        report.note_key(section, "auth.forward.keys", words);
    }
}

fn fields(forward: &ForwardDraft) -> Vec<String> {
    if forward.fields.is_empty() { FIELDS.map(str::to_owned).to_vec() } else { forward.fields.clone() }
}

/// With the paths as they are from here; notes what is wrong with the files. `None`: there is no `auth`, or it lacks
/// something, which was noted.
pub(super) fn auth(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Box<AuthSettings>> {
    let draft = &section.value.auth;
    let gives = |kind: &str| section.gives(&format!("auth.{kind}"));
    if !section.gives("auth") {
        return None;
    }
    check_files(section, base, report);
    let certificate = CertificateSettings { name: draft.certificate_name, roles: draft.certificate_roles.clone() };
    Some(Box::new(AuthSettings {
        basic: gives("basic").then(|| basic(draft, base)).flatten(),
        jwt: gives("jwt").then(|| jwt(&draft.jwt, base)).flatten(),
        forward: gives("forward").then(|| forward(&draft.forward, base)).flatten(),
        broker: draft.broker.is_asked.then_some(draft.broker.settings),
        client_certificate: gives("client_certificate").then_some(certificate),
        timeout: draft.timeout,
        expired_code: draft.expired_code,
    }))
}

fn basic(draft: &AuthDraft, base: &Path) -> Option<BasicSettings> {
    let users = base.join(draft.basic.users.as_ref()?);
    Some(BasicSettings { users, realm: draft.basic.realm.clone(), remember: draft.basic.remember })
}

fn jwt(draft: &JwtDraft, base: &Path) -> Option<JwtSettings> {
    let keys = match draft.keys.as_ref()? {
        KeySource::File(file) => KeySource::File(base.join(file)),
        url @ KeySource::Url(_) => url.clone(),
    };
    let header = TokenPlaces { header: true, ..TokenPlaces::default() };
    Some(JwtSettings {
        keys,
        ca: draft.ca.as_ref().map(|file| base.join(file)),
        refresh: draft.refresh,
        algorithms: draft.algorithms.clone(),
        issuer: draft.issuer.clone(),
        audience: draft.audience.clone(),
        leeway: draft.leeway,
        remember: draft.remember,
        allow_without_expiry: draft.allow_without_expiry,
        name_claim: draft.name_claim.clone(),
        roles_claim: draft.roles_claim.clone(),
        claims: draft.claims.clone(),
        from: if draft.from == TokenPlaces::default() { header } else { draft.from.clone() },
        token_bytes: draft.token_bytes,
    })
}

fn forward(draft: &ForwardDraft, base: &Path) -> Option<ForwardSettings> {
    let fields = fields(draft);
    let all = || ["host", "target", "method"].into_iter().map(str::to_owned).chain(fields.iter().cloned()).collect();
    Some(ForwardSettings {
        url: draft.url.clone()?,
        ca: draft.ca.as_ref().map(|file| base.join(file)),
        keys: if draft.keys.is_empty() { all() } else { draft.keys.clone() },
        fields,
        remember: draft.remember,
        refused_remember: draft.refused_remember,
        parallel: draft.parallel,
        timeout: draft.timeout,
        open: draft.open,
        name_field: draft.name_field.clone(),
        roles_field: draft.roles_field.clone(),
        claims_fields: draft.claims_fields.clone(),
    })
}

// ---- files ----

fn check_files(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) {
    let draft = &section.value.auth;
    if let Some(file) = &draft.basic.users {
        for words in inspect_users(&base.join(file)) {
            note(section, "auth.basic.users", file, &words, report);
        }
    }
    if let Some(KeySource::File(file)) = &draft.jwt.keys
        && let Some(words) = inspect_keys(&base.join(file))
    {
        note(section, "auth.jwt.keys", file, &words, report);
    }
    for (key, file) in [("auth.jwt.ca", &draft.jwt.ca), ("auth.forward.ca", &draft.forward.ca)] {
        let Some(file) = file else { continue };
        for fault in inspect_client(&ClientFiles { ca: Some(base.join(file)), identity: None }) {
            note(section, key, file, &fault.words, report);
        }
    }
}

fn note(section: &Section<RouteDraft>, key: &str, file: &Path, words: &str, report: &mut Report<'_>) {
    report.note_key(section, key, format!("{} {words}", forms::quote(&file.to_string_lossy())));
}
