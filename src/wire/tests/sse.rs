//! Event streams, read back by a reader that follows the standard's own steps.

use edgehold_wire::sse;
use proptest::prelude::*;

/// What a client makes of a stream: id, event name, data (WHATWG HTML 9.2.6).
fn interpret(stream: &[u8]) -> Vec<(String, String, String)> {
    let text = std::str::from_utf8(stream).unwrap().replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut id) = (Vec::new(), String::new());
    let (mut name, mut data) = (String::new(), String::new());
    for line in text.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() && !data.is_empty() => {
                data.pop();
                events.push((id.clone(), std::mem::take(&mut name), std::mem::take(&mut data)));
            }
            "id" => id = value.into(),
            "event" => name = value.into(),
            "data" => data.extend([value, "\n"]),
            _ => {}
        }
    }
    events
}

#[test]
fn an_event_is_written_field_by_field() {
    let mut out = Vec::new();
    sse::event(&mut out, "1a-7", Some("tick"), b"a\nb\r\n\rc");
    assert_eq!(out, b"id: 1a-7\nevent: tick\ndata: a\ndata: b\ndata: \ndata: c\n\n");
    out.clear();
    sse::event(&mut out, "bad\nid", Some("bad\rname"), b"");
    assert_eq!(out, b"data: \n\n");
    out.clear();
    sse::retry(&mut out, 2500);
    assert_eq!(out, b"retry: 2500\n\n");
}

#[test]
fn what_can_be_an_id() {
    assert_eq!(["7", "", "a\nb", "a\0", "ünï"].map(sse::is_id), [true, false, false, false, true]);
}

proptest! {
    #[test]
    fn a_client_reads_what_was_written(id in "[^\r\n\0]{1,12}", name in "[^\r\n\0]{0,12}", data in "(?s).{0,200}") {
        let mut out = Vec::new();
        sse::event(&mut out, &id, Some(&name), data.as_bytes());
        out.extend_from_slice(sse::COMMENT);
        let joined = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(interpret(&out), vec![(id, name, joined)]);
    }
}
