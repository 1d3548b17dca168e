//! `mqtt://`, `mqtts://`: topics of an MQTT 3.1.1 broker, with QoS 1 and a session that the broker keeps.
//!
//! While there is no connection the broker keeps what is published with QoS 1, and sends it when the session resumes.
//! What was not acknowledged it sends again, with DUP set (MQTT 3.1.1 section 4.4): so the last messages are
//! remembered, and one that comes a second time is dropped.

use crate::control::certificates::ClientTls;
use crate::control::feeds::broker::{Broker, Parts};
use crate::control::feeds::decoder::{Metadata, Reason};
use crate::control::feeds::feed::Feed;
use crate::control::feeds::hash::fnv1a;
use crate::control::feeds::session::{Fault, Session, fault};
use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport, matches,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The ports of URLs that name none, in clear text and by TLS.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// How long connecting may take, in seconds.
const PATIENCE: u64 = 10;

/// The keep-alive time: a quiet broker is sent PINGREQ so often.
const PING: Duration = Duration::from_secs(15);

/// Bytes of a packet, at most (MQTT 3.1.1 section 2.2.3). A message that is too long must be received to be dropped:
/// one that is not acknowledged the broker would send again and again.
const PACKET: usize = 268_435_455;

/// Messages that are remembered. A broker has far fewer unacknowledged ones at a time.
const REMEMBERED: usize = 4096;

/// Subscribes to topics.
pub(in crate::control::feeds) struct Mqtt {
    broker: Broker,
    has_subscribed: bool,
    remembered: VecDeque<Mark>,
}

/// A message with QoS 1: its packet identifier, and a hash of topic and payload.
#[derive(Clone, Copy, PartialEq)]
struct Mark(u16, u64);

impl Mqtt {
    pub(in crate::control::feeds) fn new(broker: Broker) -> Mqtt {
        Mqtt { broker, has_subscribed: false, remembered: VecDeque::new() }
    }

    /// Handles CONNACK. A session that the broker has kept still has its subscriptions, but the first one may be of an
    /// earlier run, with other topics.
    ///
    /// # Errors
    /// The library's queue of requests is full.
    async fn connected(&mut self, feed: &Feed, client: &AsyncClient, answer: ConnAck) -> Result<(), Fault> {
        if !answer.session_present {
            self.remembered.clear();
            if std::mem::take(&mut self.has_subscribed) {
                feed.lost(None, None, "the broker has not kept the session").await;
            }
        }
        if answer.session_present && self.has_subscribed {
            feed.up();
            return Ok(());
        }
        let filters = feed.settings.topics().into_iter().map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
        client.try_subscribe_many(filters).map_err(fault)
    }

    /// Handles SUBACK.
    ///
    /// # Errors
    /// The broker refuses a subscription.
    fn subscribed(&mut self, feed: &Feed, answer: &SubAck) -> Result<(), Fault> {
        if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
            return Err("the broker refuses a subscription".into());
        }
        self.has_subscribed = true;
        feed.up();
        Ok(())
    }

    /// Handles PUBLISH.
    async fn received(&mut self, feed: &Feed, message: &Publish) {
        if self.is_duplicate(message) {
            return;
        }
        // A session that the broker has kept may have subscriptions of an earlier configuration.
        if !feed.settings.topics().iter().any(|filter| matches(&message.topic, without_share(filter))) {
            return feed.refuse(Reason::NotAllowed);
        }
        let metadata = Metadata { channel: Some(&message.topic), ..Metadata::default() };
        feed.receive(&message.payload, metadata).await;
    }

    /// Whether the message was received before; else it is remembered.
    fn is_duplicate(&mut self, message: &Publish) -> bool {
        if message.qos == QoS::AtMostOnce {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (&message.topic, &message.payload).hash(&mut hasher);
        let mark = Mark(message.pkid, hasher.finish());
        if message.dup && self.remembered.contains(&mark) {
            return true;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(mark);
        false
    }
}

impl Session for Mqtt {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let port = if self.broker.is_tls() { TLS_PORT } else { PORT };
        let (client, mut events) = open(feed, &self.broker.parts(port)?, feed.tls().await?);
        loop {
            match events.poll().await.map_err(fault)? {
                Event::Incoming(Packet::ConnAck(answer)) => self.connected(feed, &client, answer).await?,
                Event::Incoming(Packet::SubAck(answer)) => self.subscribed(feed, &answer)?,
                Event::Incoming(Packet::Publish(message)) => self.received(feed, &message).await,
                _ => {}
            }
        }
    }
}

/// A client, and the event loop that connects it when it is polled.
fn open(feed: &Feed, parts: &Parts, tls: Option<ClientTls>) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(client_id(feed, parts), &parts.host, parts.port);
    options.set_clean_session(false).set_keep_alive(PING).set_max_packet_size(PACKET, PACKET);
    if let Some(tls) = tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.config())));
    }
    if let Some(user) = &parts.user {
        options.set_credentials(user, parts.password.as_deref().unwrap_or_default());
    }
    // Requests that may wait: the subscription, and one more.
    let (client, mut events) = AsyncClient::new(options, 2);
    let mut network = events.network_options();
    network.set_connection_timeout(PATIENCE);
    events.set_network_options(network);
    (client, events)
}

/// The client identifier: the same in each run on this machine, so that the broker finds the session, and 23 characters
/// of those that every broker accepts (MQTT 3.1.1 section 3.1.3.1). Two servers of one machine need identifiers of
/// their own: `?client_id=`.
fn client_id(feed: &Feed, parts: &Parts) -> String {
    if let Some(id) = parts.value("client_id") {
        return id.to_owned();
    }
    let host = rustix::system::uname().nodename().to_bytes().to_vec();
    let hash = fnv1a(&[&host, feed.settings.name.as_bytes()].concat());
    format!("edgehold{:015x}", hash >> 4)
}

/// The topic filter of a shared subscription, `$share/group/filter`, or of a plain one.
fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|it| it.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pkid: u16, dup: bool, payload: &str) -> Publish {
        Publish { pkid, dup, ..Publish::new("t", QoS::AtLeastOnce, payload) }
    }

    #[test]
    fn what_is_sent_again_is_a_duplicate() {
        let mut mqtt = Mqtt::new(Broker::new("mqtt://b"));
        assert!(!mqtt.is_duplicate(&message(1, false, "a")));
        assert!(mqtt.is_duplicate(&message(1, true, "a")));
        // Sent again and not received before; the same payload once more; the identifier again for another payload.
        assert!(!mqtt.is_duplicate(&message(2, true, "b")));
        assert!(!mqtt.is_duplicate(&message(1, false, "a")));
        assert!(!mqtt.is_duplicate(&message(2, true, "c")));
    }

    #[test]
    fn shared_filters_are_their_filters() {
        assert_eq!([without_share("$share/g/a/+"), without_share("a/+")], ["a/+", "a/+"]);
    }
}
