//! `mqtt://`: topics of an MQTT 3.1.1 broker, with QoS 1 and a session that the broker keeps.
//!
//! While the connection is away the broker keeps what is published with QoS 1 and sends it when we are back. What it
//! has no acknowledgement for it sends again, marked as such: that is where a message would come twice, and so the
//! last ones are remembered.

use super::broker::{Broker, Parts};
use super::decoder::{Reason, Said};
use super::feed::{Fault, Feed, Session};
use super::stable_hash;
use rumqttc::{
    AsyncClient, ConnAck, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode, matches,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The port of a URL that names none.
const PORT: u16 = 1883;

/// How long a connection may take, in seconds.
const PATIENCE: u64 = 10;

/// A quiet broker is asked this often whether it is there.
const PING: Duration = Duration::from_secs(15);

/// The longest packet that MQTT knows (MQTT 3.1.1 section 2.2.3). A message that is too long must be taken to be
/// dropped: left with the broker, it would come again and again.
const PACKET: usize = 268_435_455;

/// Messages that are remembered. A broker waits for far fewer acknowledgements at a time.
const REMEMBERED: usize = 4096;

/// Listens to topics.
pub(super) struct Mqtt {
    broker: Broker,
    has_subscribed: bool,
    remembered: VecDeque<Mark>,
}

/// A message that came with QoS 1: its packet's number, and a hash of what it said.
#[derive(Clone, Copy, PartialEq)]
struct Mark(u16, u64);

impl Mqtt {
    pub(super) fn new(broker: Broker) -> Mqtt {
        Mqtt { broker, has_subscribed: false, remembered: VecDeque::new() }
    }

    async fn listen(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let (client, mut events) = open(feed, &self.broker.parts(PORT)?);
        loop {
            match events.poll().await.map_err(|error| error.to_string())? {
                Event::Incoming(Packet::ConnAck(greeting)) => self.greeted(feed, &client, greeting).await?,
                Event::Incoming(Packet::SubAck(answer)) => self.subscribed(feed, &answer)?,
                Event::Incoming(Packet::Publish(message)) => self.take(feed, message).await,
                _ => {}
            }
        }
    }

    /// A session that was kept has its subscriptions still; the first one may be of another configuration.
    async fn greeted(&mut self, feed: &Feed, client: &AsyncClient, greeting: ConnAck) -> Result<(), Fault> {
        if !greeting.session_present {
            self.remembered.clear();
            if std::mem::take(&mut self.has_subscribed) {
                feed.lost(None, None, "the broker has not kept the session").await;
            }
        }
        if greeting.session_present && self.has_subscribed {
            feed.up();
            return Ok(());
        }
        let filters = feed.settings.topics().into_iter().map(|topic| SubscribeFilter::new(topic, QoS::AtLeastOnce));
        client.try_subscribe_many(filters).map_err(|error| error.to_string())
    }

    fn subscribed(&mut self, feed: &Feed, answer: &SubAck) -> Result<(), Fault> {
        if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
            return Err("the broker refuses a subscription".into());
        }
        self.has_subscribed = true;
        feed.up();
        Ok(())
    }

    async fn take(&mut self, feed: &Feed, message: Publish) {
        if self.is_known(&message) {
            return;
        }
        // A session that was kept may have subscriptions of an earlier configuration.
        if !feed.settings.topics().iter().any(|filter| matches(&message.topic, without_share(filter))) {
            return feed.refuse(Reason::NotAllowed);
        }
        feed.take(&message.payload, Said { channel: Some(&message.topic), ..Said::default() }).await;
    }

    /// Whether it came before; remembers it else.
    fn is_known(&mut self, message: &Publish) -> bool {
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
    async fn run(&mut self, feed: &Feed) -> Fault {
        let Err(fault) = self.listen(feed).await;
        fault
    }
}

fn open(feed: &Feed, parts: &Parts) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(client_id(feed, parts), &parts.host, parts.port);
    options.set_clean_session(false).set_keep_alive(PING).set_max_packet_size(PACKET, PACKET);
    if let Some(user) = &parts.user {
        options.set_credentials(user, parts.password.as_deref().unwrap_or_default());
    }
    // Two requests: the subscription, and room.
    let (client, mut events) = AsyncClient::new(options, 2);
    let mut network = events.network_options();
    network.set_connection_timeout(PATIENCE);
    events.set_network_options(network);
    (client, events)
}

/// The same for each run on this machine, so that the broker knows the session again; 23 characters of those that every
/// broker takes (MQTT 3.1.1 section 3.1.3.1). Two servers of one machine need ids of their own: `?client_id=`.
fn client_id(feed: &Feed, parts: &Parts) -> String {
    if let Some(id) = parts.value("client_id") {
        return id.to_owned();
    }
    let host = rustix::system::uname().nodename().to_bytes().to_vec();
    let hash = stable_hash(&[&host, feed.settings.name.as_bytes()].concat());
    format!("edgehold{:015x}", hash >> 4)
}

/// `$share/group/filter` delivers messages of `filter`.
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
    fn what_is_sent_again_is_known() {
        let mut mqtt = Mqtt::new(Broker::new("mqtt://b"));
        assert!(!mqtt.is_known(&message(1, false, "a")));
        assert!(mqtt.is_known(&message(1, true, "a")));
        // Sent again and not heard before; the same words once more; the number again for other words.
        assert!(!mqtt.is_known(&message(2, true, "b")));
        assert!(!mqtt.is_known(&message(1, false, "a")));
        assert!(!mqtt.is_known(&message(2, true, "c")));
    }

    #[test]
    fn shared_filters_are_their_filters() {
        assert_eq!([without_share("$share/g/a/+"), without_share("a/+")], ["a/+", "a/+"]);
    }
}
