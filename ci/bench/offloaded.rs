//! offload: what the tool says of subscribers of a broker. Mosquitto itself gives every client what it must get; a
//! broker of the test's own loses, doubles and swaps messages, and the tool must see each of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use edgehold_wire::stomp::{Command, Frame, Limits, Read as Got, Version, read, write};

use crate::back_ends::serve;
use crate::stage::{Bystander, Mosquitto};
use crate::tool::{self, Found, found};

/// `published` messages came to their part of `subscribers`, as they were and in order; in stretch `part`.
#[track_caller]
fn all_in_order(found: &Found, part: &str, published: u64, delivered: u64) {
    let of = |name: &str| found.whole(&format!("/{part}/{name}"));
    assert_eq!((of("published"), of("delivered"), of("missing"), of("doubled")), (published, delivered, 0, 0));
    assert_eq!((of("disordered"), of("strange")), (0, 0));
    assert_eq!((of("latency/count"), of("last/count")), (delivered, published));
}

/// On TCP with QoS 1 and a storm; in a WebSocket with QoS 0.
#[test]
fn mosquitto() {
    let _alone = crate::alone();
    let broker = Mosquitto::start();
    let pid = format!("broker={}", broker.pid());
    let flags = ["--protocol", "mqtt", "--topics", "4", "--connections", "90", "--rate", "25", "--duration", "1s"];
    let flags = [&flags[..], &["--connect-rate", "300", "--publishers", "3", "--pid", &pid]].concat();
    let url = format!("tcp://{}", broker.plain);
    let ran = found("offload", &[&flags[..], &["--url", &url, "--acknowledged", "--storm"]].concat());
    // 23 clients on topics 0 and 1, 22 on the others.
    all_in_order(&ran, "fanout", 100, 25 * 90);
    all_in_order(&ran, "fanout_again", 100, 25 * 90);
    assert_eq!((ran.whole("/storm/cut"), ran.whole("/storm/back")), (90, 90));
    assert_eq!((ran.len("/processes"), ran.len("/processes/0/parts")), (1, 5));
    assert!(ran.whole("/processes/0/parts/1/rss_bytes") > 1 << 20);
    assert!(ran.figure("/processes/0/parts/2/cpu_seconds") > 0.0, "the broker did nothing");

    let url = format!("ws://{}/mqtt", broker.web);
    all_in_order(&found("offload", &[&flags[..], &["--url", &url]].concat()), "fanout", 100, 25 * 90);
}

/// What a broker does wrong with the messages of a topic, by their number.
#[derive(Clone, Copy, Default)]
struct Faults {
    loses: Option<u32>,
    doubles: Option<u32>,
    /// This one is sent behind the next.
    delays: Option<u32>,
    /// This one is sent to the clients of all topics.
    spreads: Option<u32>,
}

/// A broker of STOMP with these faults: who is subscribed to what, and messages that are held back.
#[derive(Clone)]
struct Broker {
    faults: Faults,
    subscribers: Arc<Mutex<Vec<(String, TcpStream)>>>,
    held: Arc<Mutex<Option<Vec<u8>>>>,
}

fn broker(faults: Faults) -> SocketAddr {
    let broker = Broker { faults, subscribers: Arc::default(), held: Arc::default() };
    serve(move |stream| {
        let _ = broker.attend(stream);
    })
}

impl Broker {
    fn attend(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let limits = Limits { frame_bytes: 1 << 20, header_bytes: 1 << 16, header_count: 100 };
        let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            let used = match read(&all, &limits, Version::V12).expect("frames of the tool's") {
                Got::Frame { frame, used } => {
                    self.take(&stream, &frame)?;
                    used
                }
                Got::Beat { used } => used,
                Got::More { .. } => match stream.read(&mut bytes)? {
                    0 => return Ok(()),
                    len => {
                        all.extend_from_slice(&bytes[..len]);
                        0
                    }
                },
            };
            all.drain(..used);
        }
    }

    fn take(&self, mut stream: &TcpStream, frame: &Frame<'_>) -> std::io::Result<()> {
        let topic = frame.get("destination").unwrap_or_default().into_owned();
        match frame.command {
            Command::Connect if frame.get("passcode").as_deref() == Some("right") => {
                stream.write_all(b"CONNECTED\nversion:1.2\n\n\0")?;
            }
            Command::Connect => stream.write_all(b"ERROR\nmessage:Access refused\n\n\0")?,
            Command::Subscribe => self.subscribers.lock().expect("no panic").push((topic, stream.try_clone()?)),
            Command::Send => self.publish(&topic, frame.body),
            _ => {}
        }
        let Some(receipt) = frame.get("receipt") else { return Ok(()) };
        stream.write_all(format!("RECEIPT\nreceipt-id:{receipt}\n\n\0").as_bytes())
    }

    /// `EB#0000000042#…`, as the tool marks its messages.
    fn publish(&self, topic: &str, body: &[u8]) {
        let number = std::str::from_utf8(&body[3..13]).ok().and_then(|it| it.parse::<u32>().ok());
        let mut message = Vec::new();
        write(&mut message, Version::V12, Command::Message, &[("subscription", "0"), ("destination", topic)], body);
        let Faults { loses, doubles, delays, spreads } = self.faults;
        let is = |fault: Option<u32>| fault.is_some() && fault == number;
        if is(delays) {
            *self.held.lock().expect("no panic") = Some(message);
            return;
        }
        let copies = if is(loses) { 0 } else { 1 + usize::from(is(doubles)) };
        let held = self.held.lock().expect("no panic").take();
        let to_all = is(spreads);
        for (_, stream) in self.subscribers.lock().expect("no panic").iter_mut().filter(|it| to_all || it.0 == topic) {
            let _ = stream.write_all(&[message.repeat(copies), held.clone().unwrap_or_default()].concat());
        }
    }
}

/// 6 clients, 10 messages to each topic; of two topics one has the even numbers.
fn against(faults: Faults, topics: &str, more: &[&str]) -> Found {
    let url = format!("tcp://{}", broker(faults));
    let flags = ["--url", &url, "--protocol", "stomp", "--user", "a", "--password", "right", "--topics", topics];
    let stretch = ["--connections", "6", "--rate", "20", "--duration", "500ms"];
    found("offload", &[&flags[..], &stretch[..], more].concat())
}

#[test]
fn what_a_broker_does_wrong_is_told() {
    let _alone = crate::alone();
    all_in_order(&against(Faults::default(), "2", &["--acknowledged", "--storm"]), "fanout", 20, 60);
    let wrong = |faults| {
        let found = against(faults, "2", &[]);
        let of = |name: &str| found.whole(&format!("/fanout/{name}"));
        [of("delivered"), of("missing"), of("doubled"), of("disordered"), of("strange")]
    };
    assert_eq!(wrong(Faults { loses: Some(4), ..Faults::default() }), [57, 3, 0, 0, 0]);
    assert_eq!(wrong(Faults { doubles: Some(5), ..Faults::default() }), [60, 0, 3, 0, 0]);
    assert_eq!(wrong(Faults { spreads: Some(7), ..Faults::default() }), [60, 0, 0, 0, 3]);
}

/// On one topic, so that the one that comes next is of the same.
#[test]
fn what_comes_out_of_order_is_told() {
    let _alone = crate::alone();
    let found = against(Faults { delays: Some(3), ..Faults::default() }, "1", &[]);
    let of = |name: &str| found.whole(&format!("/fanout/{name}"));
    assert_eq!((of("delivered"), of("missing"), of("doubled"), of("disordered")), (60, 0, 0, 6));
}

/// In `idle` a broker's client stands when it is let in and subscribed, and not when it is connected.
#[test]
fn idle_clients_of_a_broker() {
    let _alone = crate::alone();
    let idle = |password: &str| {
        let url = format!("tcp://{}", broker(Faults::default()));
        let flags = ["--url", &url, "--protocol", "stomp", "--user", "a", "--password", password, "--topics", "2"];
        tool::run("idle", &[&flags[..], &["--connections", "6", "--settle", "1s", "--hold", "100ms"]].concat())
    };
    let ran = idle("right");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = idle("wrong");
    assert!(ran.code == Some(1) && ran.err.contains("Access refused"), "{:?}: {}", ran.code, ran.err);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let url = format!("tcp://{}", broker(Faults::default()));
    let run = |more: &[&str]| tool::run("offload", &[&["--url", &url, "--protocol", "stomp"], more].concat());
    let refused = |more: &[&str], words: &str| {
        let ran = run(more);
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(ran.err.contains(words), "no \"{words}\" in {}", ran.err);
    };
    refused(&[], "--rate");
    refused(&["--rate", "1"], "Access refused");
    refused(&["--rate", "1", "--user", "a"], "--password");
    refused(&["--rate", "1", "--topics", "2", "--topic", "/topic/a"], "--topic /topic/a: {}");
    refused(&["--rate", "1", "--pid", "broker"], "NAME=PID");
    let gone = format!("broker={}", Bystander::start().pid());
    refused(&["--rate", "1", "--user", "a", "--password", "right", "--pid", &gone], "there is no such process");
    let stream = tool::run("offload", &["--url", "http://127.0.0.1:9/", "--protocol", "mqtt", "--rate", "1"]);
    assert!(stream.code == Some(2) && stream.err.contains("give ws:// or tcp://"), "{}", stream.err);
}
