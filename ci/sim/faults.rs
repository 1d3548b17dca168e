//! A fault of ours, a panic in a service, costs the connection in which it showed, and nobody else.

use crate::stage::{KIND, settings};
use edgehold::engine::script::{FarEnd, Script};
use edgehold::mesh::{ServiceKind, ToShard, Waker, mailbox};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Desk, Event, Services, Verdict};
use edgehold::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use std::sync::Arc;
use std::time::Duration;

/// Answers each request but those for `/fault`; of `/later` the fault shows in an event.
struct Faulty;

impl Services for Faulty {
    type Settings = ();

    fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

    fn held(&self) -> usize {
        0
    }

    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> Verdict {
        desk.route(who, ServiceKind::Echo, 0);
        match head.path {
            "/fault" => panic!("a fault in a request"),
            "/later" => {
                desk.take(who, 0);
                desk.want_body(who);
            }
            _ => desk.answer(who, Status::OK, &[], b"fine"),
        }
        Verdict::Served
    }

    fn event(&mut self, _desk: &mut Desk<'_>, _who: Handle, _token: u32, event: Event<'_>) {
        assert!(!matches!(event, Event::Body(_)), "a fault in an event");
    }

    fn letter(&mut self, _desk: &mut Desk<'_>, _letter: ToShard) {}

    fn poll(&mut self, _desk: &mut Desk<'_>, _budget: u32) -> u32 {
        0
    }
}

fn turns(shard: &mut Shard<Script, Faulty>, from: u64) {
    for turn in from..from + 50 {
        let since_start = Duration::from_millis(turn);
        shard.ring().set_time(since_start);
        shard.turn(Now { since_start, unix: 0 }).expect("the scripted ring never fails");
    }
}

#[test]
fn a_fault_closes_its_connection_and_no_other() {
    let waker = || Arc::new(Waker::new().expect("an eventfd"));
    let (_letters, inbox) = mailbox(16, waker());
    let (to_control, _from_shard) = mailbox(16, waker());
    let mut shard = Shard::new(Script::new(1, KIND), Faulty, &settings(), inbox, to_control);
    shard.survive_faults();
    let ends: Vec<FarEnd> = (0..4).map(|_| shard.ring().arrive(0)).collect();
    let asked = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    for (end, path) in ends.iter().zip(["/", "/fault", "/later", "/"]) {
        shard.ring().say(*end, asked(path).as_bytes());
    }
    turns(&mut shard, 0);
    let closed = ends.iter().map(|end| shard.ring().is_ended(*end)).collect::<Vec<_>>();
    assert_eq!(closed, [false, true, true, false]);
    assert_eq!((shard.report().counters.faults, shard.report().counters.used), (2, 2));
    // Those who had nothing to do with it are served on.
    for end in [ends[0], ends[3]] {
        shard.ring().read(end, usize::MAX);
        shard.ring().say(end, asked("/").as_bytes());
    }
    turns(&mut shard, 50);
    for end in [ends[0], ends[3]] {
        assert!(shard.ring().read(end, usize::MAX).ends_with(b"fine"));
        shard.ring().end(end);
    }
    turns(&mut shard, 100);
    assert_eq!((shard.report().counters.used, shard.report().counters.outbox_bytes), (0, 0));
}
