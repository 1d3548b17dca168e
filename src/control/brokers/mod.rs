//! Brokers of which the edge shares topics: one session for all shards, with one subscription for each topic.
//!
//! | room, from top to bottom | what |
//! |---|---|
//! | `mod` | starts a task for each broker, and hands it what shards want |
//! | `login` | whether a broker lets somebody in, by a short session under another's name |
//! | `mqtt` | a session that speaks MQTT, and which copy of a message is taken |
//! | `stomp` | a session that speaks STOMP, and trials of topics that the broker may not take |
//! | `keeper` | the task: wishes, sessions again and again, what is published |
//! | `topics`, `refusals` | which shards want what, and what has become of it |
//! | `pace` | how fast subscriptions are made |
//! | `link`, `connection` | bytes to and from a broker, heart-beats |
//! | `settings`, `stats` | what is configured; what the admin address shows |
//!
//! A message reaches the edge once, and is published to all shards as those of feeds are: with a place in the order of
//! all, under the credit that holds a broker back whose messages come faster than shards read.

mod connection;
mod keeper;
mod link;
mod login;
mod mqtt;
mod pace;
mod refusals;
mod settings;
mod stats;
mod stomp;
mod topics;

pub(super) use login::Logins;
pub use settings::{BrokerAddress, BrokerSettings, Protocol};
pub use stats::{BrokerStats, Refused};

use super::publishing::Publisher;
use crate::mesh::{FeedNumber, ShardNumber, TopicNews, TopicRequest, TopicState};
use keeper::Keeper;
use mqtt::Mqtt;
use std::collections::HashMap;
use std::sync::Arc;
use stomp::Stomp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// News for a shard; `None`: for all.
pub(super) type Addressed = (Option<ShardNumber>, TopicNews);

/// All brokers, by the numbers of their feeds.
pub(super) struct Brokers {
    tasks: HashMap<FeedNumber, UnboundedSender<TopicRequest>>,
    stats: Arc<[Arc<BrokerStats>]>,
    news: UnboundedSender<Addressed>,
}

impl Brokers {
    /// Starts a task for each; their news come out of the other end. What is queued for a task is bounded by what
    /// shards may want: `topics_max`, and the mailboxes that they post it by.
    pub(super) fn start(
        settings: Vec<BrokerSettings>,
        publisher: &Publisher,
    ) -> (Brokers, UnboundedReceiver<Addressed>) {
        let (news, receiver) = unbounded_channel();
        let (mut tasks, mut stats) = (HashMap::new(), Vec::new());
        for settings in settings {
            let (wishes, queue) = unbounded_channel();
            tasks.insert(settings.feed, wishes);
            let its = Arc::new(BrokerStats::new(settings.name.clone()));
            stats.push(its.clone());
            let settings = Arc::new(settings);
            let keeper = Keeper::new((settings.clone(), its), publisher.clone(), queue, news.clone());
            match settings.protocol {
                Protocol::Stomp => tokio::spawn(keeper.run(Stomp::start(&settings))),
                Protocol::Mqtt => tokio::spawn(keeper.run(Mqtt::new())),
            };
        }
        (Brokers { tasks, stats: stats.into(), news }, receiver)
    }

    /// What the admin address shows.
    pub(super) fn stats(&self) -> Arc<[Arc<BrokerStats>]> {
        self.stats.clone()
    }

    /// What a shard wants goes to the broker's task.
    pub(super) fn want(&self, request: TopicRequest) {
        let Some(task) = self.tasks.get(&request.feed) else { return self.refuse(request) };
        if let Err(unsent) = task.send(request) {
            self.refuse(unsent.0);
        }
    }

    fn refuse(&self, request: TopicRequest) {
        let state = TopicState::Refused(0x80, "there is no session with this broker".into());
        if request.is_wanted {
            let news = TopicNews { feed: request.feed, topic: request.topic, state, after: 0 };
            let _gone = self.news.send((Some(request.shard), news));
        }
    }
}

#[cfg(test)]
mod tests;
