//! From feeds to shards: one line in which every message has its place.
//!
//! [`Publisher`] is what feeds hold: it gives a draft its sequence and puts it into the queue, both under one lock,
//! so that the order of the queue is that of the sequences. [`PublishQueue`] is the dispatcher's end: what is
//! ready goes to all shards in one letter.
//!
//! What was taken from feeds and not yet read by every shard costs a part of `publish_backlog_bytes`. Where that is
//! used up, publishing waits, and so do the feeds: memory stays bounded however slow the shards are. But where only
//! some of them are behind, the others do not wait for longer than `publish_patience`: who has not read by then what
//! others have is *left behind*. It gets nothing more until it has read what is in its box, and then hears up to which
//! sequence it missed something ([`Missed`]), so that its clients are told a gap. One shard at least is never left
//! behind: where all are slow, the feeds wait.

use crate::mesh::{FeedNumber, Message, Missed, NewMessage, ShardNumber, ToShard};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// Messages of one letter, at most.
const LETTER: usize = 256;

/// Messages that may wait for a letter.
const QUEUE: usize = 4 * LETTER;

/// What a message is held to cost beside its payload.
const AROUND: usize = 256;

/// How far shards may be behind.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `publish_backlog_bytes`: bytes of messages that some shard has still to read.
    pub backlog_bytes: usize,
    /// `publish_patience`: how long the others wait for one that has not read what they have.
    pub time: Duration,
}

/// The dispatcher has gone: the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping;

/// What all shards hear in one order.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// Messages.
    Messages(Arc<[Arc<Message>]>),
    /// A feed has lost some.
    Missed(Missed),
}

/// What stands in the queue.
enum Entry {
    Message(Arc<Message>),
    Missed(Missed),
}

/// Takes drafts.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: mpsc::Sender<Entry>,
    budget: Arc<Semaphore>,
    last: Arc<Mutex<u64>>,
    epoch: u32,
    backlogs: Arc<Backlogs>,
}

/// Gives letters.
pub(crate) struct PublishQueue {
    queue: mpsc::Receiver<Entry>,
    budget: Arc<Semaphore>,
    gathered: VecDeque<Entry>,
    /// The sequence of the last entry that went into a letter.
    last: u64,
    /// Letters that were made.
    made: u64,
    /// Costs of the last of them: those whose room was not given back yet.
    unread: VecDeque<usize>,
    readers: Vec<Reader>,
    /// Publishing had to wait, and has not much room yet.
    pressed: bool,
    patience: Patience,
    backlogs: Arc<Backlogs>,
}

/// A shard, as far as it has read.
#[derive(Default)]
struct Reader {
    /// Costs of the letters that it has still to read.
    unread: VecDeque<usize>,
    bytes: usize,
    /// Others wait for it since then.
    awaited_since: Option<Instant>,
    /// It gets no letters until it has read what it has.
    left_behind: bool,
    /// Letters were kept from it.
    misses: bool,
}

/// What is to be done about a shard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is left behind: what is not in its box yet is given up.
    GiveUp,
    /// It has caught up, and has missed this.
    Tell(Missed),
}

/// What the admin address shows of the way to the shards.
pub struct Backlogs {
    /// The most bytes (`publish_backlog_bytes`).
    pub limit: usize,
    /// Bytes that some shard has still to read, of those that are not left behind.
    unread: AtomicU64,
    /// By shard.
    shards: Box<[ShardBacklog]>,
}

/// The same of one shard.
#[derive(Default)]
pub struct ShardBacklog {
    bytes: AtomicU64,
    left_behind: AtomicBool,
    times: AtomicU64,
}

/// Both ends, for so many shards. Sequences begin at one.
pub(crate) fn publisher(epoch: u32, shards: usize, patience: Patience) -> (Publisher, PublishQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let budget = Arc::new(Semaphore::new(patience.backlog_bytes));
    let backlogs = Arc::new(Backlogs {
        limit: patience.backlog_bytes,
        unread: AtomicU64::new(0),
        shards: (0..shards).map(|_| ShardBacklog::default()).collect(),
    });
    let publisher =
        Publisher { queue: sender, budget: budget.clone(), last: Arc::default(), epoch, backlogs: backlogs.clone() };
    let publish_queue = PublishQueue {
        queue: receiver,
        budget,
        gathered: VecDeque::new(),
        last: 0,
        made: 0,
        unread: VecDeque::new(),
        readers: (0..shards).map(|_| Reader::default()).collect(),
        pressed: false,
        patience,
        backlogs,
    };
    (publisher, publish_queue)
}

impl Publisher {
    /// Gives the draft its place. Waits while the shards are behind.
    ///
    /// # Errors
    /// The server is stopping.
    pub(crate) async fn publish(&self, draft: NewMessage) -> Result<Arc<Message>, Stopping> {
        let (room, place) = self.reserve(draft.payload.len()).await?;
        // The outlet gives it back.
        room.forget();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let message = Arc::new(Message::new(draft, self.epoch, *last));
        place.send(Entry::Message(message.clone()));
        Ok(message)
    }

    /// A feed has lost messages, of one channel or any: those who listen are told. Has its place like a message.
    ///
    /// # Errors
    /// The server is stopping.
    pub(crate) async fn miss(&self, feed: FeedNumber, channel: Option<&str>) -> Result<(), Stopping> {
        let (room, place) = self.reserve(0).await?;
        room.forget();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        place.send(Entry::Missed(Missed { feed: Some(feed), channel: channel.map(Into::into), sequence: *last }));
        Ok(())
    }

    async fn reserve(&self, payload: usize) -> Result<(OwnedSemaphorePermit, mpsc::Permit<'_, Entry>), Stopping> {
        let cost = cost(payload, self.backlogs.limit);
        let room = self.budget.clone().acquire_many_owned(cost as u32).await.map_err(|_| Stopping)?;
        let place = self.queue.reserve().await.map_err(|_| Stopping)?;
        Ok((room, place))
    }

    /// What the admin address shows.
    pub(crate) fn backlogs(&self) -> Arc<Backlogs> {
        let used = self.backlogs.limit - self.budget.available_permits();
        self.backlogs.unread.store(used as u64, Relaxed);
        self.backlogs.clone()
    }
}

impl PublishQueue {
    /// What is ready, one message at least. May be dropped while it waits: nothing is lost.
    pub(crate) async fn letter(&mut self) -> Letter {
        if self.gathered.is_empty() {
            let mut entries = Vec::with_capacity(LETTER);
            if self.queue.recv_many(&mut entries, LETTER).await == 0 {
                // No feed will ever say anything again.
                std::future::pending::<()>().await;
            }
            self.gathered = entries.into();
        }
        let (letter, cost) = self.gather(self.patience.backlog_bytes);
        self.made += 1;
        self.unread.push_back(cost);
        self.readers.iter_mut().for_each(|reader| reader.gets(cost));
        letter
    }

    /// As many messages as stand together, or one loss.
    fn gather(&mut self, most: usize) -> (Letter, usize) {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.gathered.pop_front() {
            match entry {
                Entry::Message(message) => {
                    self.last = message.sequence;
                    bytes += cost(message.payload().len(), most);
                    messages.push(message);
                }
                Entry::Missed(missed) if messages.is_empty() => {
                    self.last = missed.sequence;
                    return (Letter::Missed(missed), cost(0, most));
                }
                missed => {
                    self.gathered.push_front(missed);
                    break;
                }
            }
        }
        (Letter::Messages(messages.into()), bytes)
    }

    /// Whether this shard gets the letter that was just made.
    pub(crate) fn is_for(&self, shard: ShardNumber) -> bool {
        !self.readers[shard].left_behind
    }

    /// Notes how many letters each shard has still to read, gives room for those that are read, and says what is to be
    /// done about shards that are behind, or were.
    pub(crate) fn credit(
        &mut self,
        now: Instant,
        unread: impl IntoIterator<Item = usize>,
    ) -> Vec<(ShardNumber, Verdict)> {
        self.readers.iter_mut().zip(unread).for_each(|(reader, unread)| reader.has_still(unread));
        self.give_room();
        self.feel_pressure();
        let mut verdicts = Vec::new();
        for shard in 0..self.readers.len() {
            verdicts.extend(self.judge(shard, now).map(|verdict| (shard, verdict)));
        }
        self.give_room();
        self.show();
        verdicts
    }

    /// Letters with messages that this shard gave up, the last ones that it got.
    pub(crate) fn given_up(&mut self, shard: ShardNumber, letters: usize) {
        let reader = &mut self.readers[shard];
        reader.misses |= letters > 0;
        reader.unread.truncate(reader.unread.len() - letters);
        reader.bytes = reader.unread.iter().sum();
    }

    /// Whether some shard has not read some letter yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unread.is_empty() || self.readers.iter().any(|it| !it.unread.is_empty() || it.left_behind)
    }

    fn give_room(&mut self) {
        let prompt = self.readers.iter().filter(|it| !it.left_behind);
        let unread = prompt.map(|it| it.unread.len()).max().unwrap_or(0);
        let read = self.unread.len().saturating_sub(unread);
        self.budget.add_permits(self.unread.drain(..read).sum());
    }

    /// Whoever waits for room has taken all that there is. It takes a good part of it before nobody waits any more.
    fn feel_pressure(&mut self) {
        let free = self.budget.available_permits();
        self.pressed = free == 0 || self.pressed && free < self.patience.backlog_bytes / 4;
    }

    fn judge(&mut self, shard: ShardNumber, now: Instant) -> Option<Verdict> {
        let last = self.last;
        let is_awaited = self.pressed && self.is_awaited(shard);
        let reader = &mut self.readers[shard];
        if reader.left_behind {
            return reader.unread.is_empty().then(|| self.catch_up(shard, last)).flatten();
        }
        let since = *reader.awaited_since.get_or_insert(now);
        reader.awaited_since = is_awaited.then_some(since);
        let too_long = is_awaited && now.duration_since(since) >= self.patience.time;
        too_long.then(|| self.leave_behind(shard))
    }

    /// Whether it has not read what holds up publishing, and another has.
    fn is_awaited(&self, shard: ShardNumber) -> bool {
        let oldest = self.unread.len();
        let holds = |reader: &Reader| reader.unread.len() >= oldest;
        let others = self.readers.iter().filter(|it| !it.left_behind);
        oldest > 0 && holds(&self.readers[shard]) && others.into_iter().any(|it| !holds(it))
    }

    fn leave_behind(&mut self, shard: ShardNumber) -> Verdict {
        let reader = &mut self.readers[shard];
        (reader.left_behind, reader.awaited_since) = (true, None);
        self.backlogs.shards[shard].times.fetch_add(1, Relaxed);
        tracing::warn!(
            shard,
            bytes = reader.bytes,
            "a shard does not read what feeds say: they go on without it, its clients will be told a gap"
        );
        Verdict::GiveUp
    }

    fn catch_up(&mut self, shard: ShardNumber, last: u64) -> Option<Verdict> {
        let reader = &mut self.readers[shard];
        reader.left_behind = false;
        tracing::warn!(shard, "the shard reads again what feeds say");
        let missed = Missed { feed: None, channel: None, sequence: last };
        std::mem::take(&mut reader.misses).then_some(Verdict::Tell(missed))
    }

    fn show(&self) {
        for (reader, shown) in self.readers.iter().zip(&self.backlogs.shards) {
            shown.bytes.store(reader.bytes as u64, Relaxed);
            shown.left_behind.store(reader.left_behind, Relaxed);
        }
    }
}

impl Reader {
    fn gets(&mut self, cost: usize) {
        if self.left_behind {
            self.misses = true;
        } else {
            self.unread.push_back(cost);
            self.bytes += cost;
        }
    }

    fn has_still(&mut self, unread: usize) {
        let read = self.unread.len().saturating_sub(unread);
        self.bytes -= self.unread.drain(..read).sum::<usize>();
    }
}

impl Backlogs {
    /// Bytes that some shard has still to read, about, those that are left behind not counted.
    pub fn unread_bytes(&self) -> u64 {
        self.unread.load(Relaxed)
    }

    /// By shard: bytes that it has still to read, about; whether it is left behind; how often it was.
    pub fn by_shard(&self) -> impl Iterator<Item = (u64, bool, u64)> {
        self.shards.iter().map(|it| (it.bytes.load(Relaxed), it.left_behind.load(Relaxed), it.times.load(Relaxed)))
    }
}

impl Letter {
    /// For a shard.
    pub(crate) fn to_shard(&self) -> ToShard {
        match self {
            Letter::Messages(messages) => ToShard::Publish(messages.clone()),
            Letter::Missed(missed) => ToShard::Missed(Box::new(missed.clone())),
        }
    }
}

/// One that is larger than all of it takes all of it.
fn cost(payload: usize, most: usize) -> usize {
    payload.saturating_add(AROUND).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);
    const BYTES: usize = 1 << 20;
    const PATIENCE: Patience = Patience { backlog_bytes: BYTES, time: Duration::from_secs(1) };

    fn draft(payload: usize) -> NewMessage {
        NewMessage { channel: "c".into(), payload: vec![0; payload], ..NewMessage::default() }
    }

    fn sequences(letter: &Letter) -> Vec<u64> {
        match letter {
            Letter::Messages(messages) => messages.iter().map(|it| it.sequence).collect(),
            Letter::Missed(missed) => vec![missed.sequence],
        }
    }

    async fn publish_quarters(publisher: &Publisher, publish_queue: &mut PublishQueue, count: usize) {
        for _ in 0..count {
            publisher.publish(draft(BYTES / 4 - AROUND)).await.unwrap();
            publish_queue.letter().await;
        }
    }

    #[tokio::test]
    async fn letters_hold_what_is_ready_in_order() {
        let (publisher, mut publish_queue) = publisher(7, 1, PATIENCE);
        for sequence in 1..=300 {
            let message = publisher.publish(draft(1)).await.unwrap();
            assert_eq!((message.epoch, message.sequence), (7, sequence));
        }
        publisher.miss(3, Some("c")).await.unwrap();
        publisher.publish(draft(1)).await.unwrap();
        let mut all = Vec::new();
        for count in [LETTER, 300 - LETTER, 1, 1] {
            let letter = publish_queue.letter().await;
            assert_eq!(sequences(&letter).len(), count);
            assert_eq!(matches!(letter, Letter::Missed(_)), sequences(&letter) == [301]);
            all.extend(sequences(&letter));
        }
        assert!(all.into_iter().eq(1..=302));
    }

    #[tokio::test]
    async fn publishing_waits_until_letters_are_read() {
        let (publisher, mut publish_queue) = publisher(1, 2, PATIENCE);
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        assert!(publish_queue.credit(Instant::now(), [4, 4]).is_empty());
        assert!(publish_queue.is_behind() && publisher.backlogs().unread_bytes() == BYTES as u64);
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        assert!(publish_queue.credit(Instant::now(), [0, 0]).is_empty());
        assert!(!publish_queue.is_behind() && publisher.backlogs().unread_bytes() == 0);
        assert_eq!(publisher.publish(draft(1)).await.unwrap().sequence, 5);
    }

    #[tokio::test]
    async fn one_that_does_not_read_is_left_behind_and_told_when_it_is_back() {
        let (publisher, mut publish_queue) = publisher(1, 2, PATIENCE);
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        let begun = Instant::now();
        assert!(publish_queue.credit(begun, [0, 4]).is_empty());
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err(), "the others wait for a while");
        assert!(publish_queue.credit(begun + PATIENCE.time / 2, [0, 4]).is_empty());
        assert_eq!(publish_queue.credit(begun + PATIENCE.time, [0, 4]), [(1, Verdict::GiveUp)]);
        // One of its letters was not in its box.
        publish_queue.given_up(1, 1);
        assert!(publish_queue.is_for(0) && !publish_queue.is_for(1));
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        assert!(publish_queue.credit(begun + PATIENCE.time * 9, [0, 3]).is_empty(), "it is waited for no more");
        let shown: Vec<_> = publisher.backlogs().by_shard().collect();
        assert_eq!(shown, [(0, false, 0), (3 * BYTES as u64 / 4, true, 1)]);
        let missed = Missed { feed: None, channel: None, sequence: 8 };
        assert_eq!(publish_queue.credit(begun, [0, 0]), [(1, Verdict::Tell(missed))]);
        assert!(publish_queue.is_for(1) && !publish_queue.is_behind());
    }

    #[tokio::test]
    async fn one_that_reads_slowly_is_left_behind_as_well() {
        let (publisher, mut publish_queue) = publisher(1, 2, PATIENCE);
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        let begun = Instant::now();
        publish_queue.credit(begun, [0, 4]);
        let mut verdicts = Vec::new();
        for step in 1..=4 {
            let waits = tokio::spawn({
                let publisher = publisher.clone();
                async move { publisher.publish(draft(BYTES / 4 - AROUND)).await }
            });
            tokio::task::yield_now().await;
            verdicts.extend(publish_queue.credit(begun + PATIENCE.time * step / 3, [0, 3]));
            assert!(waits.await.unwrap().is_ok());
            publish_queue.letter().await;
        }
        assert_eq!(verdicts, [(1, Verdict::GiveUp)]);
    }

    #[tokio::test]
    async fn where_all_are_behind_nobody_is_left_behind() {
        let (publisher, mut publish_queue) = publisher(1, 2, PATIENCE);
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        let begun = Instant::now();
        for seconds in 0..100 {
            assert!(publish_queue.credit(begun + Duration::from_secs(seconds), [4, 4]).is_empty());
        }
        // They come back one after the other, soon.
        assert!(publish_queue.credit(begun + Duration::from_secs(100), [0, 4]).is_empty());
        assert!(publish_queue.credit(begun + Duration::from_secs(100), [0, 0]).is_empty());
    }

    #[tokio::test]
    async fn who_missed_nothing_is_told_nothing() {
        let (publisher, mut publish_queue) = publisher(1, 2, PATIENCE);
        publish_quarters(&publisher, &mut publish_queue, 4).await;
        let begun = Instant::now();
        publish_queue.credit(begun, [0, 4]);
        assert_eq!(publish_queue.credit(begun + PATIENCE.time, [0, 4]), [(1, Verdict::GiveUp)]);
        publish_queue.given_up(1, 0);
        assert!(publish_queue.credit(begun, [0, 0]).is_empty() && publish_queue.is_for(1));
    }

    #[tokio::test]
    async fn a_message_above_the_budget_goes_alone() {
        let (publisher, mut publish_queue) = publisher(1, 1, PATIENCE);
        publisher.publish(draft(BYTES + 1)).await.unwrap();
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        publish_queue.letter().await;
        publish_queue.credit(Instant::now(), [0]);
        assert_eq!(publisher.publish(draft(1)).await.unwrap().sequence, 2);
    }

    #[tokio::test]
    async fn many_at_once_keep_their_order() {
        let (publisher, mut publish_queue) = publisher(1, 1, PATIENCE);
        for _ in 0..50 {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    publisher.publish(draft(3)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        let mut next = 1;
        while next <= 5000 {
            for sequence in sequences(&publish_queue.letter().await) {
                assert_eq!(sequence, next);
                next += 1;
            }
            publish_queue.credit(Instant::now(), [0]);
        }
    }

    #[tokio::test]
    async fn nobody_publishes_to_a_server_that_has_gone() {
        let (publisher, publish_queue) = publisher(1, 1, PATIENCE);
        drop(publish_queue);
        assert_eq!(publisher.publish(draft(1)).await.err(), Some(Stopping));
        assert_eq!(publisher.miss(0, None).await.err(), Some(Stopping));
    }
}
