//! Who is blamed, what brokers say that is none of STOMP, and what is of the past.

use super::*;

/// An ACK ends the session while another client's SEND is alone under way: that one hears nothing of it.
#[test]
fn an_acknowledgement_that_ends_a_session_is_not_laid_to_a_send() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut taker, mut sender) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    subscribe(&mut stage, &taker, "s", "/queue/a", "client-individual");
    until(&mut stage, &mut broker, &mut [&mut taker], |clients, _| clients[0].heard.len() == 1);
    proven(&mut stage, &mut broker, &mut sender, "/queue/b");
    (broker.confirms, broker.ends_for) = (false, Some(Command::Ack));
    sender.say(&mut stage, Command::Send, &[("destination", "/queue/b"), ("receipt", "mine")], b"x");
    // The first time nothing is known, the second time the acknowledgement waits for its turn.
    for (round, session) in [(2, 0), (3, 2)] {
        until(&mut stage, &mut broker, &mut [&mut taker, &mut sender], |_, broker| {
            let of = broker.sessions.get(session);
            of.is_some_and(|it| it.first(Command::Subscribe).is_some() && it.first(Command::Send).is_some())
        });
        deliver(&mut stage, &broker, session, "1");
        until(&mut stage, &mut broker, &mut [&mut taker, &mut sender], |clients, _| clients[0].heard.len() == round);
        let name = taker.heard[round - 1].get("ack").to_owned();
        taker.say(&mut stage, Command::Ack, &[("id", &name)], b"");
        (0..200).for_each(|_| stage.turn());
        broker.step(&mut stage);
    }
    assert_eq!(broker.heard(Command::Ack).len(), 1, "the second one has not been said");
    let receipt = broker.sessions[2].first(Command::Send).expect("it is said again").get("receipt").to_owned();
    broker.sessions[2].say(&mut stage, Command::Receipt, &[("receipt-id", &receipt)], b"");
    until(&mut stage, &mut broker, &mut [&mut taker, &mut sender], |clients, _| {
        clients[0].commands().last() == Some(&Command::Error)
    });
    assert_eq!(sender.commands(), [Command::Receipt]);
}

/// Whoever wants what was refused to another is heard, though that one has not gone yet.
#[test]
fn what_was_refused_is_asked_for_again() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let (mut one, mut two) = (client(&mut stage, &mut broker), client(&mut stage, &mut broker));
    for client in [&mut one, &mut two] {
        subscribe(&mut stage, client, "s", "/topic/no", "auto");
        (0..100).for_each(|_| stage.turn());
        let wishes = wishes(&mut stage);
        assert_eq!(wishes.iter().filter(|it| it.is_wanted).count(), 1);
        tell(&mut stage, "/topic/no", TopicState::Refused(0x87, "not here".into()));
        until(&mut stage, &mut broker, &mut [client], |clients, _| clients[0].commands() == [Command::Error]);
    }
}

/// A session on which a broker says what is no STOMP, or a client's to say, is made again; clients do not notice.
#[test]
fn what_brokers_say_that_is_nonsense_ends_a_session_and_nobody_else() {
    for nonsense in [
        &b"NONSENSE\n\n\0"[..],
        b"MESSAGE\nno colon\n\n\0",
        b"MESSAGE\ncontent-length:1\n\nab\0",
        b"MESSAGE\na:\\t\n\n\0",
        b"SEND\ndestination:/queue/a\n\n\0",
        b"CONNECTED\nversion:1.2\n\n\0",
        b"MESSAGE\ncontent-length:99999999999\n\n",
    ] {
        let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
        let mut one = client(&mut stage, &mut broker);
        proven(&mut stage, &mut broker, &mut one, "/queue/a");
        proven(&mut stage, &mut broker, &mut one, "/queue/a");
        let (end, sessions) = (broker.sessions[1].at, broker.sessions.len());
        stage.shard.ring().say(end, nonsense);
        let is_over = |stage: &mut Stage| stage.shard.ring().is_ended(end) || stage.shard.ring().is_broken(end);
        assert!(stage.until(TURNS, is_over), "{:?}", String::from_utf8_lossy(nonsense));
        one.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
        until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].commands() == [Command::Receipt]);
        assert_eq!(broker.sessions.len(), sessions + 1);
    }
}

/// RECEIPT, MESSAGE and ERROR of what the edge has not asked for.
#[test]
fn what_brokers_say_of_what_there_is_not_is_nobodys() {
    let (mut stage, mut broker) = (stage(plan(), 1, KIND), Broker::new());
    let mut one = client(&mut stage, &mut broker);
    proven(&mut stage, &mut broker, &mut one, "/queue/a");
    proven(&mut stage, &mut broker, &mut one, "/queue/a");
    let session = &broker.sessions[1];
    session.say(&mut stage, Command::Receipt, &[("receipt-id", "4711")], b"");
    session.say(&mut stage, Command::Receipt, &[("receipt-id", "x")], b"");
    session.say(&mut stage, Command::Message, &[("subscription", "nobody"), ("message-id", "1")], b"x");
    session.say(&mut stage, Command::Message, &[("subscription", "q99"), ("message-id", "1")], b"x");
    session.say(&mut stage, Command::Error, &[("message", "for nothing")], b"");
    one.say(&mut stage, Command::Send, &[("destination", "/queue/a"), ("receipt", "r")], b"x");
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].commands() == [Command::Receipt]);
}

/// The last value of a destination is that of the subscription: when it has ended, nobody is sent it any more.
#[test]
fn a_last_value_does_not_outlive_the_subscription_that_it_came_by() {
    let plan = OffloadPlan { snapshot: true, ..plan() };
    let mut settings = services(plan, Arc::default());
    settings.stomp.feeds[1].as_mut().expect("the feed of the broker").keep.values = true;
    let of_shard = ShardSettings { bare: vec![true], limits: vec![limits()], ..crate::stage::settings() };
    let mut stage = Stage::of(&settings, 1, KIND, &of_shard).at_pace(Duration::from_millis(50));
    let mut broker = Broker::new();
    for (round, ends) in [false, true, false].into_iter().enumerate() {
        let mut one = client(&mut stage, &mut broker);
        subscribe(&mut stage, &one, "s", "/topic/a", "auto");
        (0..100).for_each(|_| stage.turn());
        tell(&mut stage, "/topic/a", TopicState::Subscribed(Granted { quality: 1, kept_since: 0, is_followed: true }));
        until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].first(Command::Receipt).is_some());
        (0..100).for_each(|_| stage.turn());
        one.step(&mut stage);
        // The second one comes to a subscription that goes on, the third to a new one.
        let snapshot = one.first(Command::Message).map(|it| it.body.clone());
        assert_eq!(snapshot, (round == 1).then(|| b"old".to_vec()), "round {round}");
        if round == 0 {
            publish(&mut stage, "/topic/a", 1, "old");
            until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].first(Command::Message).is_some());
        }
        one.say(&mut stage, Command::Unsubscribe, &[("id", "s"), ("receipt", "u")], b"");
        until(&mut stage, &mut broker, &mut [&mut one], |clients, _| {
            clients[0].heard.iter().any(|it| it.get("receipt-id") == "u")
        });
        if ends {
            tell(&mut stage, "/topic/a", TopicState::Ended);
            (0..10).for_each(|_| stage.turn());
        }
    }
}

/// Heart-beats that were promised and stop end the client; one that keeps its promise stays.
#[test]
fn heart_beats_that_stop_end_their_client() {
    let plan = OffloadPlan { heart_beat_millis: 500, ..plan() };
    let (mut stage, mut broker) = (stage(plan, 1, KIND), Broker::new());
    let mut one = End::new(stage.shard.ring().arrive(0));
    one.say(&mut stage, Command::Connect, &[("accept-version", "1.2"), ("heart-beat", "500,0")], b"");
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].first(Command::Connected).is_some());
    for _ in 0..20 {
        stage.shard.ring().say(one.at, b"\n");
        (0..10).for_each(|_| stage.turn());
    }
    one.step(&mut stage);
    assert_eq!(one.commands(), [Command::Connected]);
    until(&mut stage, &mut broker, &mut [&mut one], |clients, _| clients[0].first(Command::Error).is_some());
    assert_eq!(one.heard[1].get("message"), "your heart-beats have stopped");
}
