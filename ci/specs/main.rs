//! Wire scripts: stories between a client, edgehold and an upstream, told with all voices, each with the clause that
//! it proves.
//!
//! Each story is read plainly and played in memory first, to prove that its voices agree with each other; then the
//! client's and the upstream's part is played against the real server: every flight whole, then byte by byte, then cut
//! at random places. Every cutting must hear the same server voice. `EDGEHOLD_SEED` repeats the random cuts of a run.
//!
//! # The scripts
//!
//! Files `*.wire` below `broadcast`, `files`, `gate`, `http`, `proxy` and `websocket`. A line is `who: what`; indented
//! lines belong to the line above; `#` begins a comment line. What stands before the first story holds for all stories
//! of the file. A feed speaks in stories with the configuration broadcast.toml only. The stories of `verdicts` are made
//! of a table.
//!
//! ```text
//! proves: RFC 9112 section 2.2            the clause; every story has one
//! config: impatient.toml                  the configuration; edgehold.toml if nothing is said
//! route: path = "/chat"                   a route of its own, for the host \(host); {upstream} is where the story's
//!        service = "echo"                 upstream listens, {nobody} an address that refuses, {site} the files' folder
//! not as root: why                        skipped where the server may read every file
//! story: a title
//! client: "GET / HTTP/1.1\r\n" <00 ff>    bytes; "a" * 3 repeats; \(name) is a variable
//! server: response 200                    status, Date and Content-Length are always checked; `to HEAD`: no content
//!         ETag: \(etag)                   a field that must be there; a variable without value takes what it hears
//!         no Server                       a field that must not; Connection is checked even if it is not named
//!         body "hello"                    the content; goes on in lines that begin with bytes
//! client: opening "/chat" "a, b"          a good opening request, and the subprotocols offered
//! server: opened "a"                      the 101 to it, and the subprotocol chosen
//! client: opening "/chat" with "deflate"  the extensions offered; behind the subprotocols, if there are any
//! server: opened with "deflate"           the extensions agreed on
//! client: text more "hel"                 text, binary, continuation, ping, pong, close CODE, opcode N; a client masks
//! client: frame words                     more (no FIN), unmasked, rsv1 rsv2 rsv3, length16, length64, claims N;
//!                                         deflated: rsv1 and the deflated form of what follows
//! server: deflated text "hello"           a message in one deflated frame that says this, or binary
//! server: text "hello"                    exactly this frame
//! server: stream binary "hello"           messages whose payloads make up this
//! server: close 1002                      a close frame with that code and any reason; with a text: that reason
//! server: waits 500                       what comes next comes no sooner than so many milliseconds after the last
//!                                         flight was begun
//! onward: connects                        edgehold calls the upstream
//! onward: "bytes"                         edgehold says this to the upstream
//! upstream: "bytes"                       the upstream says this to edgehold
//! upstream: end                           FIN, of whoever speaks; `reset` is RST
//! feed: says "hello"                      published on this playing's own channel, \(channel); its id is \(id)
//! feed: says "hello" as name              another variable for the id
//! feed: says id "7" event "e" key "k" "x" what the message is to have; binary; times N; `to ".b"` is added to the
//!                                         channel
//! feed: waits for 1                       until so many listen to \(channel)
//! server: response 200 that streams       a head; the content is told by what follows
//! server: chunks "hello\n"                chunks whose contents make up this
//! server: says "hello \(id)"              a text message with variables in it, \(any) for letters, digits and -
//! server: at most 3 binary "hello"        this message, as often as it comes
//! ```
//!
//! Each connection is told to its end: nothing may come that the script does not say.
//!
//! # The modules
//!
//! Each imports only what stands before it: `words` and `deflated`; `voice`, what can be sent and how it is recognized;
//! `feed`, which publishes; `script`, stories read from files; `cut` and `play`, one side of a story played; `agree`,
//! both sides held against each other; `hall`, the servers under test; `together`.

#[path = "../load/peer.rs"]
mod peer;

mod agree;
mod cut;
mod deflated;
mod feed;
mod hall;
mod play;
mod script;
mod together;
mod verdicts;
mod voice;
mod words;

use hall::hall;

#[test]
fn broadcast() {
    hall().play_folder("broadcast");
}

#[test]
fn files() {
    hall().play_folder("files");
}

#[test]
fn gate() {
    hall().play_folder("gate");
}

#[test]
fn http() {
    hall().play_folder("http");
}

#[test]
fn proxy() {
    hall().play_folder("proxy");
}

#[test]
fn websocket() {
    hall().play_folder("websocket");
}

/// A server that does not say what the script says is noticed, and so is one that goes on.
#[test]
fn a_false_script_fails() {
    let hall = hall();
    let good = "proves: RFC 9112 section 9.3\nstory: s\nclient: \"GET /hello.txt HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"\n\
                server: response 200\n  body \"hello\\n\"\nclient: end\nserver: end\n";
    let plays = |text: &str| hall.play(&script::read("http/heads.wire", text).expect("a script")[0], 1);
    plays(good).expect("a true script");
    for text in [good.replace("hello\\n", "hullo\\n"), good.replace("response 200", "response 404")] {
        let report = plays(&text).expect_err("a false script");
        assert!(report.contains("ci/specs/http/heads.wire:4: s (RFC 9112 section 9.3), whole"), "{report}");
        assert!(report.contains("Connection") || report.contains("48 54 54 50"), "{report}");
    }
    let too_short = "proves: RFC 6455 section 1\nstory: s\nclient: opening \"/echo\"\nserver: opened\n\
                     client: text \"hello\"\nserver: end\n";
    let report = plays(too_short).expect_err("a script that leaves something out");
    assert!(report.contains("goes on instead of ending") && report.contains("81 05 68 65 6c 6c 6f"), "{report}");
}
