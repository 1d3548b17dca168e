//! RabbitMQ's streams: logs that the broker keeps. A message has its place there in `x-stream-offset`, and a
//! subscription that is made again goes on behind the last one that has come: so nothing is missed while there is no
//! session, and nobody is told a gap, unless the broker has kept less than that.

use super::frames::{self, Kind};
use crate::control::brokers::keeper::Keeper;
use crate::control::brokers::link::Link;
use crate::control::brokers::settings::BrokerSettings;
use crate::control::brokers::stats::Refused;
use crate::control::brokers::topics::Place;
use edgehold_wire::stomp::Frame;
use std::sync::Arc;

/// The reason code of a subscription that cannot be had so (MQTT version 5, SUBACK: implementation specific error).
const UNSPECIFIC: u8 = 0x83;

/// How a topic is subscribed to, and a stream from where on.
pub(super) fn kind(settings: &BrokerSettings, topic: &str, place: Option<Place>) -> Kind {
    if settings.is_stream(topic) { Kind::Stream(place) } else { Kind::Topic }
}

/// Takes a message of a stream: acknowledges it, and notes where it stands. Whether it is to be published: not one
/// that has come before.
pub(super) async fn take(keeper: &mut Keeper, link: &mut Link, topic: &Arc<str>, message: &Frame<'_>) -> bool {
    let Some(offset) = message.get("x-stream-offset").and_then(|text| text.parse::<u64>().ok()) else {
        return refuse(keeper, link, topic, message);
    };
    frames::acknowledge(&mut link.connection, message);
    let last = match keeper.topics.place(topic) {
        Some(Place::Behind(last)) => Some(last),
        _ => None,
    };
    if last.is_some_and(|last| offset <= last) {
        return false;
    }
    if last.is_some_and(|last| offset > last + 1) {
        keeper.tell_gap(Some(topic)).await;
    }
    keeper.topics.advance(topic, offset);
    true
}

/// It is a queue, and who takes from it takes it from others.
fn refuse(keeper: &mut Keeper, link: &mut Link, topic: &Arc<str>, message: &Frame<'_>) -> bool {
    if let Some(number) = message.get("subscription").and_then(|text| text.parse().ok()) {
        frames::unsubscribe(&mut link.connection, number);
    }
    let words = "this is no stream: its messages have no x-stream-offset (streams of the route)";
    keeper.refuse(topic, Refused::Broker, (UNSPECIFIC, words.into()));
    false
}
