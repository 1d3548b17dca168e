//! The feeds' end of the publish queue.

use super::backlogs::Backlogs;
use super::credit::{Credit, Stopping};
use super::queue::Entry;
use crate::mesh::{FeedNumber, Message, Missed, NewMessage};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Gives messages their sequence and queues them for the shards.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: mpsc::Sender<Entry>,
    credit: Credit,
    /// The last sequence that was given out.
    sequence: Arc<Mutex<u64>>,
    epoch: u32,
    backlogs: Arc<Backlogs>,
}

impl Publisher {
    pub(super) fn new(queue: mpsc::Sender<Entry>, credit: Credit, epoch: u32, backlogs: Arc<Backlogs>) -> Publisher {
        Publisher { queue, credit, sequence: Arc::default(), epoch, backlogs }
    }

    /// Gives the message its sequence and queues it. Waits while there is too little credit: that is, while shards are
    /// behind.
    ///
    /// # Errors
    /// The server is stopping.
    pub(crate) async fn publish(&self, new: NewMessage) -> Result<Arc<Message>, Stopping> {
        let (credit, place) = self.reserve(new.payload.payload().len()).await?;
        let mut sequence = self.lock();
        *sequence += 1;
        let message = Arc::new(Message::new(new, self.epoch, *sequence));
        place.send(Entry::Message(message.clone()));
        // The publish queue gives it back.
        credit.forget();
        Ok(message)
    }

    /// Queues the news that a feed has lost messages, of one channel or of any. It has a sequence as a message has.
    ///
    /// # Errors
    /// The server is stopping.
    pub(crate) async fn publish_loss(&self, feed: FeedNumber, channel: Option<&str>) -> Result<(), Stopping> {
        let (credit, place) = self.reserve(0).await?;
        let mut sequence = self.lock();
        *sequence += 1;
        place.send(Entry::Missed(Missed { feed: Some(feed), channel: channel.map(Into::into), sequence: *sequence }));
        credit.forget();
        Ok(())
    }

    /// The last sequence that was given out.
    pub(crate) fn sequence(&self) -> u64 {
        *self.lock()
    }

    /// Credit for a payload of that many bytes, and a place in the queue.
    ///
    /// # Errors
    /// The server is stopping.
    async fn reserve(&self, payload: usize) -> Result<(OwnedSemaphorePermit, mpsc::Permit<'_, Entry>), Stopping> {
        let credit = self.credit.take(self.credit.cost(payload)).await?;
        let place = self.queue.reserve().await.map_err(|_| Stopping)?;
        Ok((credit, place))
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the admin address shows.
    pub(crate) fn backlogs(&self) -> Arc<Backlogs> {
        self.backlogs.clone()
    }
}
