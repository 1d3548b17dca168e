//! What brokers say that is none of MQTT.

use super::*;

/// A session on which a broker says what is no MQTT, or a client's to say, is made again; clients do not notice.
#[test]
fn what_brokers_say_that_is_nonsense_ends_a_session_and_nobody_else() {
    for nonsense in [
        &b"\x36\x05\0\x01a\0\x01"[..],
        b"\x30\xff\xff\xff\xff\x7f",
        b"\xf0\x02\0\0",
        b"\x82\x07\0\x01\0\0\x01a\0",
        b"\x20\x03\0\0\0",
        b"\x40\x02\0\0",
    ] {
        let mut hall = Hall::new(plan(), 11);
        let mut client = hall.client("one", Version::V5, false);
        client.publishes(&mut hall, ("t", b"x"), QoS::AtLeastOnce, 5);
        let mut broker = hall.broker(false);
        broker.message(&mut hall);
        broker.says_raw(&mut hall, nonsense);
        let mut again = hall.broker(false);
        let (_, payload, _, _, id, _) = again.message(&mut hall);
        assert_eq!(payload, "x", "{nonsense:x?}");
        again.acknowledges(&mut hall, AckKind::PubAck, id.expect("an identifier"), 0);
        assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(5, 0)));
    }
}

/// Acknowledgements of what there is not: a PUBREC is answered, so that the broker may forget it (MQTT 5, 3.6.2.1).
#[test]
fn what_brokers_acknowledge_that_there_is_not_is_nobodys() {
    let mut hall = Hall::new(plan(), 12);
    let mut client = hall.client("one", Version::V5, false);
    client.publishes(&mut hall, ("t", b"x"), QoS::AtLeastOnce, 5);
    let mut broker = hall.broker(false);
    let (.., id, _) = broker.message(&mut hall);
    for kind in [AckKind::PubAck, AckKind::PubComp, AckKind::PubRec] {
        broker.acknowledges(&mut hall, kind, 4711, 0);
    }
    assert_eq!(broker.hears(&mut hall), format!("PubRel({})", ack(4711, 0x92)));
    broker.acknowledges(&mut hall, AckKind::PubAck, id.expect("an identifier"), 0);
    assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(5, 0)));
}

/// A library that minds no Receive Maximum says a hundred messages of QoS 1 at once where eight may be under way: it is
/// not read meanwhile, and all are published and acknowledged. With QoS 2 it is ended.
#[test]
fn more_than_the_receive_maximum_waits_where_it_can() {
    for seed in 0..8 {
        let bounds = Bounds { receive_max: 8, ..Bounds::default() };
        let mut hall = Hall::new(OffloadPlan { bounds, ..plan() }, seed);
        let mut client = hall.client("eager", Version::V5, seed % 2 == 0);
        (1..=100).for_each(|id| client.publishes(&mut hall, ("t", b"m"), QoS::AtLeastOnce, id));
        let mut broker = hall.broker(false);
        for _ in 0..100 {
            let id = broker.message(&mut hall).4.expect("a packet identifier");
            broker.acknowledges(&mut hall, AckKind::PubAck, id, 0);
        }
        for id in 1..=100 {
            assert_eq!(client.hears(&mut hall), format!("PubAck({})", ack(id, 0)), "seed {seed}");
        }
        (1..=9).for_each(|id| client.publishes(&mut hall, ("t", b"m"), QoS::ExactlyOnce, id));
        assert!(client.hears(&mut hall).starts_with("Disconnect(Disconnect { reason: 147"), "seed {seed}");
        client.is_ended(&mut hall);
    }
}
