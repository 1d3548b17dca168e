//! fanout: each message comes to each subscriber, once.

use crate::back_ends;
use crate::stage::{Redis, Server};
use crate::tool::{Found, found};

/// `published` messages came to each of `subscribers`, and their times were counted.
#[track_caller]
fn all_delivered(found: &Found, published: u64, subscribers: u64) {
    let of = |name: &str| found.whole(&format!("/fanout/{name}"));
    assert_eq!((of("published"), of("subscribers")), (published, subscribers));
    assert_eq!((of("delivered"), of("missing"), of("doubled")), (published * subscribers, 0, 0));
    assert_eq!((of("latency/count"), of("last/count")), (published * subscribers, published));
    let [each, last] = ["latency", "last"].map(|it| found.figure(&format!("/fanout/{it}/max_us")));
    assert!((each - last).abs() <= last * 0.002, "the last receipt is among all: {each} and {last} µs");
    let rate = found.figure("/fanout/delivered") / found.figure("/fanout/seconds");
    assert!((found.figure("/fanout/per_second") - rate).abs() < 0.01);
}

/// Subscribers and the publisher reach Redis through the server.
#[test]
fn redis_behind_the_server() {
    let _alone = crate::alone();
    let redis = Redis::start();
    let server = Server::before(redis.address);
    let (url, pid) = (server.ws("/back"), server.pid());
    let before = server.counts("proxy");
    let flags = ["--url", &url, "--publish", &url, "--server-pid", &pid, "--connections", "200", "--rate", "50"];
    let words = ["--subscribe", r"SUBSCRIBE t\r\n", "--publish-as", r"PUBLISH t {}\r\n", "--duration", "2s"];
    let found = found("fanout", &[&flags[..], &words[..]].concat());
    let counts = server.counts("proxy").since(before);

    all_delivered(&found, 100, 200);
    // The subscribers, the publisher, and the first client that only asks whether somebody answers.
    assert_eq!(counts.accepts, 200 + 1 + 1);
    assert_eq!(counts.heard, 200 + 100, "a SUBSCRIBE of each, and each PUBLISH");
}

/// A server of events that is not this project's.
#[test]
fn events_over_http() {
    let _alone = crate::alone();
    let address = back_ends::events();
    let (url, publish) = (format!("http://{address}/"), format!("http://{address}/pub"));
    let flags = ["--url", &url, "--publish", &publish, "--connections", "100", "--rate", "100", "--duration", "1s"];
    all_delivered(&found("fanout", &flags), 100, 100);
}
