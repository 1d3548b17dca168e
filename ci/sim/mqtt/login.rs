//! Who clients are: what CONNECT shows is asked about, and what is found out is said of what they publish.

use super::*;
use edgehold::mesh::{Answer, Credentials, Denial, Denied, Identity};
use edgehold::service::gate::AuthPlan;

pub(super) fn asking(seed: u64) -> Hall {
    let auth = AuthPlan { late: true, certificate: None, token: None, basic: None, forward: None, broker: true };
    let gate = GatePlan { auth: Some(auth), ..GatePlan::default() };
    Hall::gated(OffloadPlan { auth: true, stamp: Some("x-user".into()), ..plan() }, Arc::new(gate), seed)
}

pub(super) fn shown<'c>(id: &'c str, version: Version, user: &'c str, password: &'c [u8]) -> Connect<'c> {
    let user = Some(user).filter(|it| !it.is_empty());
    Connect { user, password: user.and(Some(password)), ..connect(id, version) }
}

impl Hall {
    /// Answers the one question that was asked.
    pub(super) fn answers(&mut self, shown: (&str, &str), verdict: Result<&str, Denied>, keep: u32) {
        for _ in 0..TURNS {
            self.turn();
            if !self.asked.is_empty() {
                break;
            }
        }
        assert_eq!(self.asked.len(), 1, "{:?}", self.asked);
        let question = self.asked.remove(0);
        let Credentials::Basic { user, password } = &question.credentials else { panic!("{question:?}") };
        assert_eq!((&**user, password.reveal()), shown);
        let identity =
            |name: &str| Arc::new(Identity { name: name.into(), roles: [].into(), claims: [].into(), expires: None });
        let verdict = verdict.map(identity).map_err(Denial::new);
        let answer = Answer { question: question.number, verdict, keep };
        self.stage.letters.post(ToShard::Answer(Box::new(answer))).expect("room for a letter");
    }
}

#[test]
fn who_is_wrong_hears_so_and_who_cannot_be_asked_about_is_to_try_again() {
    for (seed, (version, wrong, later)) in (0..).zip([(Version::V5, 0x86, 0x88), (Version::V311, 4, 3)]) {
        let mut hall = asking(seed);
        for (web, verdict, reason) in
            [(true, Err(Denied::Unavailable), later), (false, Err(Denied::Rate), later), (false, Ok("ann"), 0)]
        {
            let mut peer = hall.peer(version, web);
            peer.says(&mut hall, |out| mqtt::write_connect(out, &shown("a", version, "ann", b"secret")));
            hall.answers(("ann", "secret"), verdict, u32::from(verdict.is_ok()) * 60);
            let connack = peer.hears(&mut hall);
            assert!(connack.contains(&format!("reason: {reason},")), "{connack}");
        }
        let mut peer = hall.peer(version, false);
        peer.says(&mut hall, |out| mqtt::write_connect(out, &shown("b", version, "ann", b"x")));
        hall.answers(("ann", "x"), Err(Denied::Password), 60);
        for _ in 0..2 {
            let connack = peer.hears(&mut hall);
            assert!(connack.contains(&format!("reason: {wrong},")), "{connack}");
            peer = hall.peer(version, false);
            peer.says(&mut hall, |out| mqtt::write_connect(out, &shown("b", version, "ann", b"x")));
        }
        // What is no text is nobody's, and not asked about.
        let mut odd = hall.peer(version, false);
        let connack = odd.ask(&mut hall, |out| mqtt::write_connect(out, &shown("c", version, "ann", b"\xff")));
        assert!(connack.contains(&format!("reason: {wrong},")) && hall.asked.is_empty(), "{connack}");
    }
}

/// On messages and wills, whatever clients say of themselves, and whatever version they speak.
#[test]
fn the_broker_is_told_who_has_published_and_only_the_edge_says_so() {
    let mut hall = asking(3);
    let mut forged = Vec::new();
    [Property::User("X-User", "root"), Property::User("k", "v")].iter().for_each(|it| it.write(&mut forged));
    let properties = Properties::written(&forged);
    let with_will =
        Connect { will: Some(Will { properties, ..will("w/ann") }), ..shown("a", Version::V5, "ann", b"secret") };
    let mut ann = hall.peer(Version::V5, true);
    ann.says(&mut hall, |out| mqtt::write_connect(out, &with_will));
    hall.answers(("ann", "secret"), Ok("ann"), 60);
    assert!(ann.hears(&mut hall).contains("reason: 0,"));
    let message = |topic| {
        let (dup, qos, retain, packet_id, payload) = (false, QoS::AtMostOnce, false, None, &b"x"[..]);
        Publish { dup, qos, retain, topic, packet_id, properties, payload }
    };
    ann.says(&mut hall, |out| mqtt::write_publish(out, Version::V5, &message("t/ann")));
    let mut old = hall.peer(Version::V311, false);
    assert!(
        old.ask(&mut hall, |out| mqtt::write_connect(out, &shown("b", Version::V311, "ann", b"secret")))
            .contains("reason: 0,")
    );
    old.says(&mut hall, |out| mqtt::write_publish(out, Version::V311, &message("t/old")));
    let mut nobody = hall.peer(Version::V5, false);
    nobody.says(&mut hall, |out| mqtt::write_connect(out, &shown("c", Version::V5, "", b"")));
    hall.answers(("", ""), Ok(""), 60);
    assert!(nobody.hears(&mut hall).contains("reason: 0,"));
    nobody.says(&mut hall, |out| mqtt::write_publish(out, Version::V5, &message("t/nobody")));
    let mut broker = hall.broker(false);
    let mut heard: Vec<_> = (0..3).map(|_| broker.message(&mut hall)).collect();
    heard.sort();
    hall.stage.shard.ring().break_off(ann.end);
    heard.push(broker.message(&mut hall));
    let (kept, stamp) = ("User(\"k\", \"v\")", "User(\"x-user\", \"ann\")");
    let expected =
        [("t/ann", vec![kept, stamp]), ("t/nobody", vec![kept]), ("t/old", vec![stamp]), ("w/ann", vec![kept, stamp])];
    for (message, (topic, said)) in heard.iter().zip(expected) {
        assert_eq!(message.0, topic);
        assert_eq!(message.5.matches("User(").count(), said.len(), "{message:?}");
        assert!(said.iter().all(|it| message.5.contains(it)), "{message:?}");
    }
}
