//! Brokers that speak STOMP.

use super::*;

/// A connection of the edge, as the broker sees it.
struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    /// Accepts a connection, which is to log in.
    async fn accept(listener: &TcpListener) -> Peer {
        Peer::accept_beating(listener, "0,0").await
    }

    async fn accept_beating(listener: &TcpListener, beats: &str) -> Peer {
        let mut peer = Peer { stream: accept(listener).await, received: Vec::new() };
        let connect = peer.frame().await;
        assert!(connect.starts_with("CONNECT\naccept-version:1.1,1.2\n") && connect.contains("\nlogin:edge\n"));
        peer.send(&format!("CONNECTED\nversion:1.2\nheart-beat:{beats}\n\n\0\n")).await;
        peer
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next frame, without its NUL; heart-beats are passed over.
    async fn frame(&mut self) -> String {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == 0) {
                let frame: Vec<u8> = self.received.drain(..=end).collect();
                return String::from_utf8(frame).unwrap().trim_start().trim_end_matches('\0').into();
            }
            let read = self.stream.read_buf(&mut self.received);
            assert!(timeout(PATIENCE, read).await.expect("a frame").unwrap() > 0, "the edge has hung up");
        }
    }

    /// The next frame, which must be a SUBSCRIBE: destination and id.
    async fn subscribe(&mut self) -> (String, String) {
        let frame = self.frame().await;
        let header = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").to_owned();
        assert!(frame.starts_with("SUBSCRIBE\n") && frame.contains("\nack:auto\n"), "{frame}");
        assert_eq!(header("id:"), header("receipt:"));
        (header("destination:"), header("id:"))
    }

    async fn receipt(&mut self, id: &str) {
        self.send(&format!("RECEIPT\nreceipt-id:{id}\n\n\0")).await;
    }

    /// Takes a subscription, and confirms it.
    async fn confirm(&mut self) -> (String, String) {
        let (topic, id) = self.subscribe().await;
        self.receipt(&id).await;
        (topic, id)
    }

    /// Takes a subscription to a stream from there on, and confirms it.
    async fn stream(&mut self, number: u32, from: &str) {
        let frame = self.frame().await;
        let begins = format!("SUBSCRIBE\nid:{number}\ndestination:/amq/queue/");
        let headers = format!("\nack:client\nprefetch-count:500\nx-stream-offset:{from}");
        assert!(frame.starts_with(&begins) && frame.contains(&headers), "{frame}");
        self.receipt(&number.to_string()).await;
    }

    /// Sends a message of a stream.
    async fn offset(&mut self, number: u32, offset: u64) {
        let headers = format!("subscription:{number}\nmessage-id:{offset}\nack:k{offset}\nx-stream-offset:{offset}");
        self.send(&format!("MESSAGE\n{headers}\ndestination:/amq/queue/st\n\nhi\0")).await;
    }

    /// The edge hangs up.
    async fn ends(mut self) {
        while timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await.expect("an end").unwrap_or(0) > 0 {}
    }
}

const SUBSCRIBED: TopicState =
    TopicState::Subscribed(crate::mesh::Granted { quality: 1, kept_since: 0, is_followed: true });

#[tokio::test]
async fn one_subscription_is_everybodys_until_the_last_one_has_left_for_a_while() {
    let (listener, address) = listener().await;
    let mut seat = Seat::new(settings(Protocol::Stomp, &[address]));
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/topic/a", true);
    let (topic, id) = peer.subscribe().await;
    seat.want(1, "/topic/a", true);
    until("both to wait", || seat.stats().wanted.get() == 1).await;
    peer.receipt(&id).await;
    assert_eq!(seat.told().await, (None, topic.clone(), SUBSCRIBED), "all shards are told at once");
    peer.send(&format!("MESSAGE\nsubscription:{id}\nmessage-id:1\ndestination:/topic/a\nack:x\nk:a\\cb\n\nhi\0")).await;
    peer.send("MESSAGE\nsubscription:99\nmessage-id:2\ndestination:/topic/a\n\nnobody's\0").await;
    let message = seat.messages(1).await.remove(0);
    assert_eq!((&*message.channel, message.mark, message.feed, message.text), ("/topic/a", 1, FEED, true));
    assert_eq!(message.payload(), b"message-id:1\ndestination:/topic/a\nk:a\\cb\n\nhi\0");
    seat.want(0, "/topic/a", false);
    seat.want(1, "/topic/a", false);
    assert_eq!(seat.told().await, (None, topic, TopicState::Ended));
    assert_eq!(peer.frame().await, format!("UNSUBSCRIBE\nid:{id}\n\n"));
    assert_eq!((seat.stats().messages.get(), seat.stats().wanted.get()), (1, 0));
}

#[tokio::test]
async fn a_destination_that_the_broker_refuses_costs_nobody_the_session() {
    let (listener, address) = listener().await;
    let mut seat = Seat::new(settings(Protocol::Stomp, &[address]));
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/exchange/bad", true);
    let mut trial = Peer::accept(&listener).await;
    assert_eq!(trial.subscribe().await.0, "/exchange/bad");
    trial.send("ERROR\nmessage:not_found\n\nno exchange\0").await;
    let refused = TopicState::Refused(0x87, "not_found".into());
    assert_eq!(seat.told().await, (Some(0), "/exchange/bad".into(), refused.clone()));
    trial.ends().await;
    // It is not asked again at once, and another destination is proven on a connection of its own.
    seat.want(0, "/exchange/bad", true);
    seat.want(0, "/exchange/good", true);
    assert_eq!(seat.told().await, (Some(0), "/exchange/bad".into(), refused));
    let mut trial = Peer::accept(&listener).await;
    assert_eq!(trial.confirm().await.0, "/exchange/good");
    assert_eq!(peer.confirm().await.0, "/exchange/good");
    assert_eq!(seat.told().await, (None, "/exchange/good".into(), SUBSCRIBED));
    assert!(trial.frame().await.starts_with("UNSUBSCRIBE\n"));
    assert_eq!((seat.stats().refused(Refused::Broker), seat.stats().lost.get()), (1, 0));
}

#[tokio::test]
async fn an_error_of_a_connection_that_idled_is_not_about_what_is_tried() {
    let (listener, address) = listener().await;
    let mut seat = Seat::new(settings(Protocol::Stomp, &[address]));
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/exchange/a", true);
    let mut trial = Peer::accept(&listener).await;
    trial.confirm().await;
    peer.confirm().await;
    trial.send("ERROR\nmessage:you idle\n\n\0").await;
    drop(trial);
    seat.want(0, "/exchange/b", true);
    Peer::accept(&listener).await.confirm().await;
    peer.confirm().await;
    assert_eq!([seat.told().await.2, seat.told().await.2], [SUBSCRIBED, SUBSCRIBED]);
}

#[tokio::test]
async fn one_that_ends_the_session_is_tried_apart_and_the_others_go_on() {
    let (listener, address) = listener().await;
    let mut seat = Seat::new(settings(Protocol::Stomp, &[address]));
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/topic/good", true);
    peer.confirm().await;
    assert_eq!(seat.told().await.2, SUBSCRIBED);
    seat.want(0, "/topic/secret", true);
    peer.subscribe().await;
    // RabbitMQ does not say what its ERROR is about.
    peer.send("ERROR\nmessage:access_refused\n\n\0").await;
    peer.ends().await;
    assert_eq!(seat.loss().await, None);
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.confirm().await.0, "/topic/good");
    let mut trial = Peer::accept(&listener).await;
    assert_eq!(trial.subscribe().await.0, "/topic/secret");
    trial.send("ERROR\nmessage:access_refused\n\n\0").await;
    let refused = TopicState::Refused(0x87, "access_refused".into());
    assert_eq!(seat.told().await, (None, "/topic/good".into(), SUBSCRIBED));
    assert_eq!(seat.told().await, (Some(0), "/topic/secret".into(), refused));
    assert_eq!((seat.stats().lost.get(), seat.stats().subscribed.get()), (1, 1));
}

#[tokio::test]
async fn what_is_wanted_of_a_dead_broker_is_had_when_it_is_there() {
    let (closed, address) = listener().await;
    drop(closed);
    let mut seat = Seat::new(settings(Protocol::Stomp, &[address]));
    seat.want(0, "/topic/a", true);
    seat.want(0, "/exchange/b", true);
    until("wishes to be heeded", || seat.stats().wanted.get() == 2).await;
    assert!(seat.news.try_recv().is_err(), "nobody is told anything yet");
    let listener = TcpListener::bind(address).await.unwrap();
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.confirm().await.0, "/topic/a");
    Peer::accept(&listener).await.confirm().await;
    assert_eq!(peer.confirm().await.0, "/exchange/b");
    assert_eq!([seat.told().await.1, seat.told().await.1], ["/topic/a", "/exchange/b"]);
    assert_eq!((seat.stats().up.get(), seat.stats().reconnects.get()), (1, 0));
}

#[tokio::test]
async fn nonsense_ends_the_session_which_is_made_again_elsewhere() {
    let ((one, first), (other, second)) = (listener().await, listener().await);
    let mut seat = Seat::new(settings(Protocol::Stomp, &[first, second]));
    let mut peer = Peer::accept(&one).await;
    seat.want(0, "/topic/a", true);
    peer.confirm().await;
    assert_eq!(seat.told().await.2, SUBSCRIBED);
    drop(one);
    peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    peer.ends().await;
    assert_eq!(seat.loss().await, None);
    let mut peer = Peer::accept(&other).await;
    let (_, id) = peer.confirm().await;
    peer.send(&format!("MESSAGE\nsubscription:{id}\nmessage-id:1\ndestination:/topic/a\n\nhi\0")).await;
    assert_eq!(seat.messages(1).await[0].payload(), b"message-id:1\ndestination:/topic/a\n\nhi\0");
    let stats = seat.stats();
    assert_eq!((stats.nonsense.get(), stats.lost.get(), stats.reconnects.get()), (1, 1, 1));
    assert_eq!(seat.told().await.2, SUBSCRIBED, "what there was is there again");
}

#[tokio::test]
async fn subscriptions_are_made_again_no_faster_than_they_may_be() {
    let (listener, address) = listener().await;
    let mut seat = Seat::new(BrokerSettings { subscribe_rate: 100, ..settings(Protocol::Stomp, &[address]) });
    (0..50).for_each(|at| seat.want(0, &format!("/topic/t{at}"), true));
    for _ in 0..2 {
        let mut peer = Peer::accept(&listener).await;
        let begun = Instant::now();
        for _ in 0..50 {
            peer.confirm().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
        until("all to be there", || seat.stats().subscribed.get() == 50).await;
        drop(peer);
        assert_eq!(seat.loss().await, None);
    }
}

#[tokio::test]
async fn a_silent_broker_is_given_up_and_hears_that_the_edge_is_there() {
    let (listener, address) = listener().await;
    let beat = Duration::from_millis(100);
    let mut seat = Seat::new(BrokerSettings { heart_beat: beat, ..settings(Protocol::Stomp, &[address]) });
    let mut peer = Peer::accept_beating(&listener, "100,100").await;
    let begun = Instant::now();
    let mut beats = Vec::new();
    while timeout(PATIENCE, peer.stream.read_buf(&mut beats)).await.unwrap().unwrap_or(0) > 0 {}
    assert!(begun.elapsed() >= beat * 2 && beats.len() >= 5 && beats.iter().all(|byte| *byte == b'\n'), "{beats:?}");
    assert_eq!(seat.loss().await, None);
    Peer::accept_beating(&listener, "100,100").await;
}

#[tokio::test]
async fn a_broker_that_is_held_back_is_not_taken_for_a_silent_one() {
    let (listener, address) = listener().await;
    let beat = Duration::from_millis(50);
    let mut seat = Seat::new(BrokerSettings { heart_beat: beat, ..settings(Protocol::Stomp, &[address]) });
    let mut peer = Peer::accept_beating(&listener, "50,50").await;
    seat.want(0, "/topic/a", true);
    let (_, id) = peer.confirm().await;
    seat.told().await;
    let message =
        format!("MESSAGE\nsubscription:{id}\nmessage-id:1\ndestination:/topic/a\n\n{}\0", "x".repeat(600_000));
    peer.send(&message).await;
    peer.send(&message).await;
    let begun = Instant::now();
    // Longer than silence may be.
    while begun.elapsed() < Duration::from_millis(1500) {
        let mut beats = [0];
        timeout(PATIENCE, peer.stream.read_exact(&mut beats)).await.unwrap().expect("the edge is there");
    }
    seat.want(0, "/topic/b", true);
    until("wishes to be heeded meanwhile", || seat.stats().wanted.get() == 2).await;
    assert_eq!(seat.messages(1).await.len(), 1);
    assert_eq!(seat.messages(1).await.len(), 1);
    peer.confirm().await;
    assert_eq!((seat.told().await.1.as_str(), seat.stats().lost.get()), ("/topic/b", 0));
}

#[tokio::test]
async fn there_are_no_more_topics_than_there_may_be_but_nobody_wants_to_keep_out_others() {
    let (listener, address) = listener().await;
    let linger = Duration::from_secs(3600);
    let mut seat = Seat::new(BrokerSettings { topics_max: 2, linger, ..settings(Protocol::Stomp, &[address]) });
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/topic/a", true);
    seat.want(0, "/topic/b", true);
    seat.want(0, "/topic/c", true);
    let (_, state) = (peer.confirm().await, seat.told().await.2);
    assert!(matches!(state, TopicState::Refused(0x97, _)) && seat.stats().refused(Refused::TopicsMax) == 1);
    peer.confirm().await;
    assert_eq!([seat.told().await.2, seat.told().await.2], [SUBSCRIBED, SUBSCRIBED]);
    seat.want(0, "/topic/a", false);
    seat.want(0, "/topic/c", true);
    assert_eq!(seat.told().await, (None, "/topic/a".into(), TopicState::Ended));
    assert_eq!(peer.frame().await, "UNSUBSCRIBE\nid:1\n\n");
    assert_eq!(peer.confirm().await.0, "/topic/c");
    assert_eq!(seat.told().await.1, "/topic/c");
}

/// A topic and a stream of which nothing has come yet when the session is lost.
async fn with_stream(address: SocketAddr, listener: &TcpListener) -> Seat {
    let streams = vec!["/amq/queue/s#".into()];
    let mut seat = Seat::new(BrokerSettings { streams, ..settings(Protocol::Stomp, &[address]) });
    let mut peer = Peer::accept(listener).await;
    seat.want(0, "/topic/a", true);
    peer.confirm().await;
    seat.want(0, "/amq/queue/st", true);
    Peer::accept(listener).await.stream(1, "next").await;
    peer.stream(2, "next").await;
    seat.told().await;
    seat.told().await;
    drop(peer);
    seat.loss().await;
    seat
}

#[tokio::test]
async fn a_stream_goes_on_where_it_has_stopped_and_only_what_it_no_longer_has_is_told() {
    let (listener, address) = listener().await;
    let mut seat = with_stream(address, &listener).await;
    // Nothing has come yet: what was published since it was confirmed is asked for.
    let mut peer = Peer::accept(&listener).await;
    peer.confirm().await;
    peer.stream(2, "timestamp=1").await;
    for offset in [7, 8] {
        peer.offset(2, offset).await;
        assert_eq!(peer.frame().await, format!("ACK\nid:k{offset}\nmessage-id:{offset}\nsubscription:2\n\n"));
    }
    assert_eq!(seat.messages(2).await.len(), 2);
    drop(peer);
    assert_eq!(seat.loss().await.as_deref(), Some("/topic/a"), "of the stream nothing is told");
    let mut peer = Peer::accept(&listener).await;
    peer.confirm().await;
    peer.stream(2, "offset=9\n").await;
    // What a broker sends once more is nobody's; what it has kept no longer is told.
    peer.offset(2, 8).await;
    peer.offset(2, 9).await;
    peer.offset(2, 12).await;
    assert!(seat.messages(1).await[0].payload().starts_with(b"message-id:9\n"));
    assert_eq!(seat.loss().await.as_deref(), Some("/amq/queue/st"));
    assert!(seat.messages(1).await[0].payload().starts_with(b"message-id:12\n"));
}

#[tokio::test]
async fn a_queue_that_is_called_a_stream_is_left_alone() {
    let (listener, address) = listener().await;
    let streams = vec!["/amq/queue/q".into()];
    let mut seat = Seat::new(BrokerSettings { streams, ..settings(Protocol::Stomp, &[address]) });
    let mut peer = Peer::accept(&listener).await;
    seat.want(0, "/amq/queue/q", true);
    Peer::accept(&listener).await.stream(1, "next").await;
    peer.stream(1, "next").await;
    assert_eq!(seat.told().await.2, SUBSCRIBED);
    peer.send("MESSAGE\nsubscription:1\nmessage-id:1\ndestination:/amq/queue/q\nack:k1\n\nhi\0").await;
    assert_eq!(peer.frame().await, "UNSUBSCRIBE\nid:1\n\n", "it is not acknowledged");
    assert!(matches!(seat.told().await.2, TopicState::Refused(0x83, _)));
}

#[tokio::test]
async fn of_a_broker_that_there_is_not_everything_is_refused() {
    let mut seat = Seat::new(settings(Protocol::Stomp, &[]));
    let request = |is_wanted| TopicRequest { shard: 1, feed: 9, topic: "/topic/a".into(), is_wanted };
    seat.brokers.want(request(false));
    seat.brokers.want(request(true));
    let (shard, news) = timeout(PATIENCE, seat.news.recv()).await.unwrap().unwrap();
    assert!((shard, news.feed) == (Some(1), 9) && matches!(news.state, TopicState::Refused(0x80, _)));
}
