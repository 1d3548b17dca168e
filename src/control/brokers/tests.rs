//! Brokers that say what the test says, by real sockets; what is published is read where the dispatcher would.

mod mqtt;
mod stomp;

use super::*;
use crate::control::publishing::{self, Letter, PublishLimits, PublishQueue};
use crate::mesh::Message;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(10);
const FEED: FeedNumber = 3;
const LIMITS: PublishLimits = PublishLimits { backlog_bytes: 1 << 20, patience: Duration::from_secs(1) };

fn settings(protocol: Protocol, addresses: &[SocketAddr]) -> BrokerSettings {
    let address = |it: &SocketAddr| BrokerAddress::Tcp { host: it.ip().to_string(), port: it.port(), tls: None };
    BrokerSettings {
        name: "/stomp".into(),
        protocol,
        route: 1,
        feed: FEED,
        addresses: addresses.iter().map(address).collect(),
        user: Some("edge".into()),
        password: None,
        host: "/".into(),
        client_id: "edge-1".into(),
        persistent: false,
        streams: Vec::new(),
        linger: Duration::from_millis(100),
        heart_beat: Duration::ZERO,
        connect_timeout: Duration::from_secs(2),
        topics_max: 100,
        subscribe_rate: 1000,
        message_bytes: 1 << 20,
    }
}

/// Where the dispatcher would be.
struct Seat {
    brokers: Brokers,
    news: UnboundedReceiver<Addressed>,
    queue: PublishQueue,
}

impl Seat {
    fn new(settings: BrokerSettings) -> Seat {
        let (publisher, queue) = publishing::channel(7, 1, LIMITS);
        let (brokers, news) = Brokers::start(vec![settings], &publisher);
        Seat { brokers, news, queue }
    }

    fn want(&self, shard: ShardNumber, topic: &str, is_wanted: bool) {
        self.brokers.want(TopicRequest { shard, feed: FEED, topic: topic.into(), is_wanted });
    }

    fn stats(&self) -> Arc<BrokerStats> {
        self.brokers.stats()[0].clone()
    }

    async fn told(&mut self) -> (Option<ShardNumber>, String, TopicState) {
        let (shard, news) = timeout(PATIENCE, self.news.recv()).await.expect("news").unwrap();
        assert_eq!(news.feed, FEED);
        (shard, news.topic.as_ref().into(), news.state)
    }

    async fn letter(&mut self) -> Letter {
        let letter = timeout(PATIENCE, self.queue.letter()).await.expect("a letter");
        self.queue.update(Instant::now(), [0]);
        letter
    }

    /// The next messages.
    async fn messages(&mut self, count: usize) -> Vec<Arc<Message>> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.letter().await {
                Letter::Messages(messages) => all.extend(messages.iter().cloned()),
                Letter::Missed(missed) => panic!("{missed:?}"),
            }
        }
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    /// Messages of this feed were lost, of one topic or of all.
    async fn loss(&mut self) -> Option<Arc<str>> {
        match self.letter().await {
            Letter::Missed(missed) => missed.channel,
            Letter::Messages(messages) => panic!("{messages:?}"),
        }
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap().0
}

/// Waits for what must become true.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
