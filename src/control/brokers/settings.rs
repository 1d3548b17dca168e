//! What a broker is configured to be.

use crate::mesh::{FeedNumber, Secret, UpstreamTls};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The broker of a route, as the control thread needs it.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The route's path: a metric label.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The number of the limits of its route: by it the route's `auth` is known.
    pub route: u16,
    /// The number of its feed.
    pub feed: FeedNumber,
    /// Where it is: one after the other is tried.
    pub addresses: Vec<BrokerAddress>,
    /// As whom the edge logs in; `None`: as nobody.
    pub user: Option<String>,
    /// With which password.
    pub password: Option<Secret>,
    /// STOMP's `host`: the virtual host.
    pub host: String,
    /// The client identifier of MQTT, which no other client of the broker may have.
    pub client_id: String,
    /// MQTT: the broker keeps the session while there is no connection (version 5).
    pub persistent: bool,
    /// Destinations of STOMP that are streams (RabbitMQ); a `#` at the end: all that begin so.
    pub streams: Vec<String>,
    /// How long a subscription outlives its last subscriber.
    pub linger: Duration,
    /// Heart-beats; zero: none.
    pub heart_beat: Duration,
    /// How long an address may take to answer, with all that is said before the first subscription.
    pub connect_timeout: Duration,
    /// Topics that may be wanted at once.
    pub topics_max: usize,
    /// Subscriptions that are made in a second.
    pub subscribe_rate: u32,
    /// Bytes of a frame or packet of the broker, at most.
    pub message_bytes: usize,
}

impl BrokerSettings {
    /// Whether the broker keeps what is published there, so that a subscription goes on where it has stopped.
    pub(super) fn is_stream(&self, topic: &str) -> bool {
        self.streams.iter().any(|it| match it.strip_suffix('#') {
            Some(beginning) => topic.starts_with(beginning),
            None => topic == it,
        })
    }
}

/// What a broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// STOMP 1.1 or 1.2.
    Stomp,
    /// MQTT 5 or 3.1.1.
    Mqtt,
}

/// Where a broker is.
#[derive(Clone, Debug)]
pub enum BrokerAddress {
    /// A host and a port.
    Tcp {
        /// The name or the address.
        host: String,
        /// The port.
        port: u16,
        /// TLS towards it; `None`: clear text.
        tls: Option<UpstreamTls>,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerAddress::Tcp { host, port, tls } => {
                let scheme = if tls.is_some() { "tls" } else { "tcp" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            BrokerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
