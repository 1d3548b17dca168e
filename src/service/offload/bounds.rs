//! Limits of a route, each a key of the configuration.

/// What the clients of a route, and its broker, may have a shard keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of cut frames, wills and topic aliases of all clients of a shard.
    pub held_bytes: usize,
    /// Bytes of a frame or packet of the broker.
    pub broker_frame_bytes: usize,
    /// Bytes of a name that is remembered: a destination, a topic filter, the id of a subscription, a receipt.
    pub name_bytes: usize,
    /// STOMP: transactions of one client that are open.
    pub transactions_max: usize,
    /// MQTT: bytes of retained messages that a shard knows.
    pub retained_bytes: u64,
    /// MQTT: messages of QoS 1 and 2 that a client may have under way towards the broker (receive maximum).
    pub receive_max: u16,
    /// MQTT: messages of QoS 1 and 2 that are under way to one client, whatever it says that it can.
    pub in_flight_max: u16,
    /// MQTT: topic aliases of a client.
    pub topic_aliases_max: u16,
}

impl Default for Bounds {
    /// Those that hold where nothing is written.
    fn default() -> Bounds {
        Bounds {
            held_bytes: 64 << 20,
            broker_frame_bytes: 64 << 20,
            name_bytes: 1024,
            transactions_max: 16,
            retained_bytes: 64 << 20,
            receive_max: 256,
            in_flight_max: 1024,
            topic_aliases_max: 16,
        }
    }
}
