//! `demo`: a counter and a price, ten times a second.

use crate::control::feeds::decoder::Metadata;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Session, ticker};
use std::convert::Infallible;
use std::time::Duration;

/// Time from one message to the next.
const PERIOD: Duration = Duration::from_millis(100);

/// The channel where the configuration names none, and the key.
const NAME: &str = "demo";

/// Counts from one, without gaps.
#[derive(Default)]
pub(in crate::control::feeds) struct Demo {
    count: u64,
}

impl Session for Demo {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut ticker = ticker(PERIOD);
        feed.up();
        loop {
            ticker.tick().await;
            self.count += 1;
            let metadata = Metadata { channel: Some(NAME), key: Some(NAME), ..Metadata::default() };
            match feed.decoder.raw(message(self.count).as_bytes(), true, metadata) {
                Ok(message) => drop(feed.publish(message).await),
                Err(reason) => feed.refuse(reason),
            }
        }
    }
}

/// The payload: the count, and a price that moves in slow waves around 100.
fn message(count: u64) -> String {
    let (slow, quick) = ((count as f64 / 300.0).sin(), (count as f64 / 17.0).sin());
    format!("{{\"n\":{count},\"price\":{:.2}}}", 100.0 + 10.0 * slow + quick)
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_message_is_json() {
        let value: serde_json::Value = serde_json::from_str(&message(7)).unwrap();
        assert_eq!(value["n"], 7);
        assert!((89.0..111.0).contains(&value["price"].as_f64().unwrap()));
    }
}
