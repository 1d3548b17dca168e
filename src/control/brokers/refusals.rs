//! Topics that the broker has refused: for a while it is not asked again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For how long a topic that was refused is refused without asking again.
const LASTS: Duration = Duration::from_secs(10);

/// Topics that are remembered; beyond, all are forgotten.
const REMEMBERED: usize = 65_536;

/// A reason code of MQTT version 5, and words.
pub(super) type Refusal = (u8, Arc<str>);

/// The broker's refusals.
#[derive(Default)]
pub(super) struct Refusals(HashMap<Arc<str>, (Instant, Refusal)>);

impl Refusals {
    /// Why it was refused a moment ago.
    pub(super) fn of(&mut self, topic: &str, now: Instant) -> Option<Refusal> {
        match self.0.get(topic)? {
            (until, refusal) if *until > now => Some(refusal.clone()),
            _ => {
                self.0.remove(topic);
                None
            }
        }
    }

    /// The broker has refused it.
    pub(super) fn remember(&mut self, topic: Arc<str>, refusal: Refusal, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(topic, (now + LASTS, refusal));
    }
}
