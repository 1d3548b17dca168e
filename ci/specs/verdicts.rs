//! Every verdict of a gate in one table: origin, credentials and roles, of openings and of plain requests.

use crate::hall::hall;
use crate::script;

/// Tokens of HS256 with the secret of ci/specs/auth: `exp` is in the year 2100, `iss` and `aud` are the route's.
const READER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJlZGdlI\
    iwic3ViIjoiYW5uIiwicm9sZXMiOlsicmVhZGVyIl0sInRlbmFudCI6InQxIiwiZXhwIjo0MTAyNDQ0ODAwfQ.OCWE\
    yV1vcV5UXthSkZL4hUB9uaAbQaAZtLsSWRLmr6E";
const CLERK: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJlZGdlI\
    iwic3ViIjoiYm9iIiwicm9sZXMiOlsiY2xlcmsiXSwiZXhwIjo0MTAyNDQ0ODAwfQ.XtPy1a5NqfhuZlIPBEu368sw\
    CPjjZZ5HtYR7ATNz5ts";
const PAST: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJlZGdlI\
    iwic3ViIjoiYW5uIiwicm9sZXMiOlsicmVhZGVyIl0sImV4cCI6MTAwMDAwMDAwMH0.WiwTXQN4g0HfzA0EJb_voVH\
    RFfLCMv-BYM6gHpHIApU";
const FORGED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJlZGdlI\
    iwic3ViIjoiYW5uIiwicm9sZXMiOlsicmVhZGVyIl0sImV4cCI6NDEwMjQ0NDgwMH0.reZgSpqpFovQMxc2sryzPbZ\
    zJZMWraG4AjC6bZcufmk";

/// What a page says of where it comes from, and whether it may open a WebSocket.
const ORIGINS: [(&str, bool); 5] = [
    ("", true),
    ("Origin: https://app.example\\r\\n", true),
    ("Origin: https://a.b.app.example\\r\\n", true),
    ("Origin: https://evil.example\\r\\n", false),
    ("Origin: null\\r\\n", false),
];

/// What a client shows, and the status that this is worth where nothing else is wrong: 0 stands for being let in.
fn shown() -> Vec<(String, u16)> {
    let bearer = |token: &str| format!("Authorization: Bearer {token}\\r\\n");
    let basic = |pair: &str| format!("Authorization: Basic {}\\r\\n", base64(pair));
    vec![
        (String::new(), 401),
        (bearer(READER), 0),
        (bearer(CLERK), 403),
        (bearer(PAST), 401),
        (bearer(FORGED), 401),
        (bearer("nonsense"), 401),
        (format!("Cookie: a=b; session={READER}\\r\\n"), 0),
        (basic("carol:open sesame"), 0),
        (basic("dave:open sesame"), 403),
        (basic("carol:close sesame"), 401),
        (basic("nobody:open sesame"), 401),
        ("Authorization: Basic !!\\r\\n".into(), 401),
        ("Authorization: Digest x\\r\\n".into(), 401),
        // Which of two would be meant is not known.
        (bearer(READER) + &bearer(READER), 401),
    ]
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

/// An opening, and the status of its answer.
fn opening(origin: (&str, bool), shown: &(String, u16)) -> (String, u16) {
    let head = format!(
        "GET /table HTTP/1.1\\r\\nHost: table.example\\r\\n{}{}Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n\
         Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n",
        origin.0, shown.0
    );
    let status = match (origin.1, shown.1) {
        (false, _) => 403,
        (true, 0) => 101,
        (true, status) => status,
    };
    (head, status)
}

/// A plain request, and the status of its answer: a page that is not allowed is served, and reads nothing.
fn request(origin: (&str, bool), shown: &(String, u16)) -> (String, u16) {
    let head = format!("GET /table/hello.txt HTTP/1.1\\r\\nHost: table.example\\r\\n{}{}\\r\\n", origin.0, shown.0);
    (head, if shown.1 == 0 { 200 } else { shown.1 })
}

fn story((head, status): (String, u16), origin: (&str, bool)) -> String {
    let fields = match (status, origin) {
        (101, _) => {
            "        Upgrade: websocket\n        Connection: Upgrade\n        \
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n        no Sec-WebSocket-Protocol\n        \
             no Sec-WebSocket-Extensions\n"
        }
        (200, (_, true)) => "        body \"hello\\n\"\n        Vary: Origin\n",
        (200, (_, false)) => "        body \"hello\\n\"\n        no Access-Control-Allow-Origin\n",
        _ => "",
    };
    let end = if status == 101 {
        "client: close 1000\nserver: close 1000 \"\"\nserver: end\n"
    } else {
        "client: end\nserver: end\n"
    };
    let told = format!("client: \"{head}\"\nserver: response {status}\n{fields}{end}");
    format!("proves: docs/gate.md section Origins\nstory: s\n{told}")
}

#[test]
fn every_verdict() {
    let hall = hall();
    let mut reports = Vec::new();
    for origin in ORIGINS {
        for shown in shown() {
            for case in [opening(origin, &shown), request(origin, &shown)] {
                let text = story(case.clone(), origin);
                let stories = script::read("gate/origins.wire", &text).expect("a script");
                reports.extend(hall.play(&stories[0], 1).err().map(|report| format!("{case:?}: {report}")));
            }
        }
    }
    assert!(reports.is_empty(), "{} verdicts are others:\n{}", reports.len(), reports.join("\n"));
}
