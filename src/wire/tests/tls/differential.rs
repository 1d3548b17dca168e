//! Our end against rustls: every suite and both roles, every cut, KeyUpdates of either end, resumption, many at a time.

use crate::peers::{
    NAME, Ours, Peer, client_config, give, say, sent_by, server_config, shake, stock_client, stock_server, suites,
};
use edgehold_wire::tls::{Aead, Established, Opened, Suite, Version, data_offset};
use rustls::{Connection, HandshakeKind};
use std::sync::Arc;

/// Both ends of a handshake: ours and rustls's.
fn ends(suite: Suite, ours_is_server: bool) -> (Ours, Connection) {
    let (server, client) = (server_config(&[suite]), client_config(&[suite]));
    if ours_is_server {
        (Ours::server(&server), stock_client(&Arc::new(client)))
    } else {
        (Ours::client(&client), stock_server(&Arc::new(server)))
    }
}

/// Every suite of either role: twelve.
fn each(mut check: impl FnMut(Suite, bool)) {
    for suite in suites() {
        for ours_is_server in [true, false] {
            check(suite, ours_is_server);
        }
    }
}

/// A handshake, and what has come behind it.
fn connected(suite: Suite, ours_is_server: bool) -> (Peer, Connection) {
    let (mut ours, mut stock) = ends(suite, ours_is_server);
    let established = shake(&mut ours, &mut stock, &[]).unwrap();
    let mut peer = Peer::new(established.parked);
    peer.receive(&established.leftover).unwrap();
    (peer, stock)
}

/// Bytes that are not all the same, and other ones for every `seed`.
fn text(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + seed * 17 + (n >> 8)) as u8).collect()
}

/// Both ends say something to each other; each hears what the other said.
fn talk(peer: &mut Peer, stock: &mut Connection, seed: usize, len: usize) {
    let (there, back) = (text(seed, len), text(seed + 1, len / 2 + 1));
    peer.receive(&say(stock, &there)).unwrap();
    assert!(std::mem::take(&mut peer.plain) == there);
    let (front, rest) = back.split_at(back.len() / 3);
    peer.send(&[front, &[], rest]);
    assert!(give(stock, &peer.taken()).unwrap() == back);
}

#[test]
fn a_parked_connection_goes_on_talking_to_rustls() {
    each(|suite, ours_is_server| {
        let (mut peer, mut stock) = connected(suite, ours_is_server);
        for turn in 0..60 {
            peer.whole = turn % 3 == 1;
            talk(&mut peer, &mut stock, turn, [1, 64, 3000, 16_384, 16_385, 40_000][turn % 6]);
        }
    });
}

#[test]
fn keys_are_updated_by_either_end() {
    for suite in suites().into_iter().filter(|suite| suite.version == Version::Tls13) {
        for ours_is_server in [true, false] {
            let (mut peer, mut stock) = connected(suite, ours_is_server);
            for turn in 0..40 {
                peer.whole = turn % 2 == 1;
                // rustls asks for one in return, which is answered once, however often it has asked.
                for _ in 0..turn % 4 {
                    stock.refresh_traffic_keys().unwrap();
                }
                if turn % 5 == 4 {
                    let mut update = [0; 64];
                    let len = peer.parked().wake_write().update_key(&mut update);
                    peer.out.extend_from_slice(&update[..len]);
                }
                talk(&mut peer, &mut stock, turn, 100);
            }
        }
    }
}

#[test]
fn several_requests_for_a_key_have_one_answer() {
    let (mut peer, mut stock) = connected(suites()[0], true);
    stock.refresh_traffic_keys().unwrap();
    stock.refresh_traffic_keys().unwrap();
    let mut bytes = sent_by(&mut stock);
    let (first, second) = bytes.split_at_mut(27);
    for record in [first, second] {
        assert_eq!(peer.parked().wake_read().open(record), Ok(Opened::Nothing));
    }
    let mut out = [0; 200];
    assert!(peer.parked().lend().owes());
    assert_eq!(peer.parked().wake_write().sealed_len(1), 27 + 23);
    assert_eq!(peer.parked().wake_write().answer(&mut out), 27);
    assert!(!peer.parked().lend().owes());
    assert_eq!(give(&mut stock, &out[..27]).unwrap(), b"");
    talk(&mut peer, &mut stock, 1, 10);
}

#[test]
fn what_is_owed_goes_in_front_of_data() {
    let (mut peer, mut stock) = connected(suites()[0], true);
    stock.refresh_traffic_keys().unwrap();
    let mut update = sent_by(&mut stock);
    assert_eq!(peer.parked().wake_read().open(&mut update), Ok(Opened::Nothing));
    peer.send(&[b"data"]);
    let out = peer.taken();
    assert_eq!(out.len(), 27 + 26);
    assert_eq!(give(&mut stock, &out).unwrap(), b"data");
}

#[test]
fn close_notify_is_understood_both_ways() {
    each(|suite, ours_is_server| {
        let (mut peer, mut stock) = connected(suite, ours_is_server);
        stock.send_close_notify();
        peer.receive(&sent_by(&mut stock)).unwrap();
        assert!(peer.closed && peer.parked().lend().is_read_closed());
        peer.send(&[b"still here"]);
        let mut out = [0; 64];
        let len = peer.parked().wake_write().close_notify(&mut out);
        peer.out.extend_from_slice(&out[..len]);
        assert_eq!(give(&mut stock, &peer.taken()).unwrap(), b"still here");
        assert!(stock.process_new_packets().unwrap().peer_has_closed());
    });
}

/// The handshake of `suite`, with what rustls sends cut at `cuts`; data of rustls's comes right behind its last flight.
fn cut(suite: Suite, ours_is_server: bool, cuts: &[usize]) -> usize {
    let (mut ours, mut stock) = ends(suite, ours_is_server);
    let mut out = Vec::new();
    let (mut sent, mut established) = (0, None);
    for _ in 0..6 {
        if !stock.is_handshaking() {
            std::io::Write::write_all(&mut stock.writer(), b"in the same flight").unwrap();
        }
        let flight = sent_by(&mut stock);
        let mut ends: Vec<usize> = cuts.iter().filter_map(|&cut| cut.checked_sub(sent)).collect();
        ends.retain(|&end| end < flight.len());
        ends.push(flight.len());
        let mut start = 0;
        for end in ends {
            match &mut established {
                None => established = ours.feed(&flight[start..end], &mut out).unwrap(),
                Some(established) => established.leftover.extend_from_slice(&flight[start..end]),
            }
            start = end;
        }
        sent += flight.len();
        give(&mut stock, &std::mem::take(&mut out)).unwrap();
        if established.is_some() && !stock.is_handshaking() && !stock.wants_write() {
            break;
        }
    }
    let established = established.expect("the handshake is over");
    let mut peer = Peer::new(established.parked);
    peer.receive(&established.leftover).unwrap();
    let said = b"in the same flight";
    assert!(peer.plain.len().is_multiple_of(said.len()) && peer.plain.chunks(said.len()).all(|plain| plain == said));
    peer.plain.clear();
    talk(&mut peer, &mut stock, 1, 10);
    sent
}

#[test]
fn a_handshake_is_the_same_wherever_it_is_cut() {
    each(|suite, ours_is_server| {
        let len = cut(suite, ours_is_server, &[]);
        let step = if suite.aead == Aead::Aes128Gcm { 1 } else { 23 };
        for at in (1..len).step_by(step) {
            cut(suite, ours_is_server, &[at]);
        }
        cut(suite, ours_is_server, &(1..2 * len).collect::<Vec<usize>>());
    });
}

#[test]
fn data_in_the_flight_that_ends_the_handshake_is_left_over() {
    let (mut ours, mut stock) = ends(suites()[0], true);
    let mut out = Vec::new();
    assert!(ours.feed(&sent_by(&mut stock), &mut out).unwrap().is_none());
    give(&mut stock, &std::mem::take(&mut out)).unwrap();
    let mut flight = say(&mut stock, b"first");
    flight.extend(say(&mut stock, b"second"));
    let (flight, late) = flight.split_at(flight.len() - 3);
    let established = ours.feed(flight, &mut out).unwrap().expect("the handshake is over");
    assert_eq!(established.leftover.len(), (22 + 5) + (22 + 6) - 3);
    let mut peer = Peer::new(established.parked);
    peer.receive(&established.leftover).unwrap();
    assert_eq!(peer.plain, b"first");
    peer.receive(late).unwrap();
    assert_eq!(peer.plain, b"firstsecond");
}

#[test]
fn sessions_are_resumed_by_either_end() {
    for suite in suites() {
        let (server, client) = (server_config(&[suite]), Arc::new(client_config(&[suite])));
        for turn in 0..3 {
            let (mut ours, mut stock) = (Ours::server(&server), stock_client(&client));
            let established = shake(&mut ours, &mut stock, &[]).unwrap();
            assert_eq!(established.resumed, turn > 0, "{suite:?}");
            assert_eq!(stock.handshake_kind() == Some(HandshakeKind::Resumed), turn > 0);
            assert_eq!(established.server_name.as_deref(), Some(NAME));
            assert_eq!(established.protocol.as_deref(), Some(&b"http/1.1"[..]));
            let mut peer = Peer::new(established.parked);
            peer.receive(&established.leftover).unwrap();
            talk(&mut peer, &mut stock, turn, 100);
        }
    }
}

/// In TLS 1.2 a ticket comes in the handshake; in 1.3 behind it, and is not kept.
#[test]
fn our_client_resumes_tls_1_2() {
    let suite = suites()[3];
    let (server, client) = (Arc::new(server_config(&[suite])), client_config(&[suite]));
    for turn in 0..3 {
        let (mut ours, mut stock) = (Ours::client(&client), stock_server(&server));
        let established = shake(&mut ours, &mut stock, &[]).unwrap();
        assert_eq!(established.resumed, turn > 0);
        assert_eq!(established.certificates.len(), 1);
        talk(&mut Peer::new(established.parked), &mut stock, turn, 100);
    }
}

/// In TLS 1.3 a caller that wants it takes the session, and gives it the ticket, as often as it wants to resume.
#[test]
fn our_client_resumes_tls_1_3_where_it_keeps_the_session() {
    for suite in suites().into_iter().filter(|suite| suite.version == Version::Tls13) {
        let (server, client) = (Arc::new(server_config(&[suite])), client_config(&[suite]));
        let (mut ours, mut stock) = (Ours::client(&client), stock_server(&server));
        let Established { mut parked, mut leftover, resumed, .. } = shake(&mut ours, &mut stock, &[]).unwrap();
        let Ours::Client(mut handshake) = ours else { unreachable!("it is a client") };
        let mut session = handshake.take_session().expect("the handshake is over");
        assert!(!resumed && handshake.take_session().is_none());
        let len = parked.lend().record_len(&leftover).unwrap().expect("a record");
        assert_eq!(parked.wake_read().open(&mut leftover[..len]), Ok(Opened::Nothing));
        let message = &leftover[data_offset(suite)..len];
        let ticket = &message[4..4 + usize::from(u16::from_be_bytes([message[2], message[3]]))];
        assert!(session.ticket(&ticket[1..]).is_err());
        for turn in 0..3 {
            session.ticket(ticket).unwrap();
            let (mut ours, mut stock) = (Ours::client(&client), stock_server(&server));
            let established = shake(&mut ours, &mut stock, &[]).unwrap();
            assert!(established.resumed && stock.handshake_kind() == Some(HandshakeKind::Resumed), "{suite:?}");
            let mut peer = Peer::new(established.parked);
            peer.receive(&established.leftover).unwrap();
            talk(&mut peer, &mut stock, turn, 100);
        }
    }
}

#[test]
fn many_handshakes_run_at_a_time() {
    let servers = suites().map(|suite| server_config(&[suite]));
    let clients = suites().map(|suite| Arc::new(client_config(&[suite])));
    let mut pairs: Vec<(Ours, Connection, Vec<u8>, Option<Peer>)> =
        (0..120).map(|n| (Ours::server(&servers[n % 6]), stock_client(&clients[n % 6]), Vec::new(), None)).collect();
    // Each in turn gets a few bytes, so that all are in the midst of their handshakes at the same time.
    for _ in 0..200 {
        for (ours, stock, to_ours, peer) in &mut pairs {
            to_ours.extend(sent_by(stock));
            let piece: Vec<u8> = to_ours.drain(..to_ours.len().min(37)).collect();
            let mut out = Vec::new();
            if let Some(peer) = peer {
                peer.receive(&piece).unwrap();
            } else if let Some(established) = ours.feed(&piece, &mut out).unwrap() {
                let peer = peer.insert(Peer::new(established.parked));
                peer.receive(&established.leftover).unwrap();
            }
            give(stock, &out).unwrap();
        }
    }
    for (n, (_, stock, _, peer)) in pairs.iter_mut().enumerate() {
        talk(peer.as_mut().expect("the handshake is over"), stock, n, 50);
    }
}

#[test]
fn a_flight_in_many_records_is_put_together_however_it_is_cut() {
    for ours_is_server in [true, false] {
        for suite in [suites()[0], suites()[3]] {
            let (mut server, mut client) = (server_config(&[suite]), client_config(&[suite]));
            (server.max_fragment_size, client.max_fragment_size) = (Some(32), Some(32));
            let (server, client) = (Arc::new(server), Arc::new(client));
            for step in [1, 2, 7, 36, 37, 38, 100, 10_000] {
                let (mut ours, mut stock) = if ours_is_server {
                    (Ours::server(&server), stock_client(&client))
                } else {
                    (Ours::client(&client), stock_server(&server))
                };
                let cuts: Vec<usize> = (step..10_000).step_by(step).collect();
                let established = shake(&mut ours, &mut stock, &cuts).unwrap();
                let mut peer = Peer::new(established.parked);
                peer.receive(&established.leftover).unwrap();
                talk(&mut peer, &mut stock, 1, 1000);
            }
        }
    }
}
