//! `demo`: a counter and a price, ten times a second.

use super::decoder::Said;
use super::feed::{Fault, Feed, Session};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Time from one message to the next.
const BEAT: Duration = Duration::from_millis(100);

/// The channel where the configuration names none, and the key.
const NAME: &str = "demo";

/// Counts from one, without gaps.
#[derive(Default)]
pub(super) struct Demo {
    count: u64,
}

impl Session for Demo {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        feed.up();
        loop {
            beat.tick().await;
            self.count += 1;
            let said = Said { channel: Some(NAME), key: Some(NAME), ..Said::default() };
            match feed.rules.raw(message(self.count).as_bytes(), true, said) {
                Ok(draft) => drop(feed.hand_over(draft).await),
                Err(reason) => feed.refuse(reason),
            }
        }
    }
}

/// The price goes up and down in slow waves around 100.
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
