//! Letters between shards: a mailbox for each ordered pair of shards.
//!
//! A shard that looks for letters must not touch the mailbox of each other shard in every turn. So a sender, once its
//! letter is in the mailbox, sets its bit in a set that belongs to the receiver ([`Posted`]), and only then wakes it.
//! The receiver takes the whole set with one atomic operation for 64 shards and looks into those mailboxes alone.

use super::letters::{ShardLetter, ShardNumber, ToShard};
use super::{Receiver, Sender, Waker, mailbox, mailbox_bytes};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ends of all mailboxes that one shard has with others.
#[derive(Default)]
pub struct Peers {
    /// Letters to them.
    pub to: PeerSenders,
    /// Letters from them.
    pub from: PeerReceivers,
}

/// The ends for each shard, by number: `wakers` are those of the shards. Each ordered pair has a mailbox for `capacity`
/// letters.
pub fn peers(capacity: usize, wakers: &[Arc<Waker>]) -> Vec<Peers> {
    let new = |_| Peers { to: PeerSenders::default(), from: PeerReceivers::new(wakers.len()) };
    let mut all: Vec<Peers> = (0..wakers.len()).map(new).collect();
    for from in 0..wakers.len() {
        for (to, waker) in wakers.iter().enumerate() {
            let ends = (from != to).then(|| mailbox(capacity, waker.clone())).unzip();
            let posted = all[to].from.posted.clone();
            all[from].to.0.push(ends.0.map(|letters| PeerSender { letters, from, posted }));
            all[to].from.mailboxes.push(ends.1);
        }
    }
    all
}

/// The bytes of all mailboxes between so many shards, without what their letters point to.
pub const fn peers_bytes(capacity: usize, shards: usize) -> usize {
    shards * shards.saturating_sub(1) * mailbox_bytes::<ShardLetter>(capacity)
}

/// The writing ends of one shard, by the number of the shard that reads.
#[derive(Default)]
pub struct PeerSenders(Vec<Option<PeerSender>>);

struct PeerSender {
    letters: Sender<ShardLetter>,
    from: ShardNumber,
    posted: Arc<Posted>,
}

impl PeerSenders {
    /// Puts the letter behind all others from this shard to shard `to`, and wakes that shard if it sleeps.
    ///
    /// # Errors
    /// The mailbox is full, or there is no other shard of that number: the letter comes back.
    pub fn post(&mut self, to: ShardNumber, letter: ShardLetter) -> Result<(), ShardLetter> {
        let Some(Some(PeerSender { letters, from, posted })) = self.0.get_mut(to) else { return Err(letter) };
        letters.push(letter)?;
        posted.insert(*from);
        letters.waker().wake();
        Ok(())
    }
}

/// The reading ends of one shard.
#[derive(Default)]
pub struct PeerReceivers {
    /// By the number of the shard that writes; `None`: this shard itself.
    mailboxes: Vec<Option<Receiver<ShardLetter>>>,
    posted: Arc<Posted>,
    /// Shards whose mailbox may hold letters: taken from `posted`, 64 to a word.
    unread: Box<[u64]>,
    /// Whose letter is next: each shard has one letter taken before any has two.
    next: ShardNumber,
}

impl PeerReceivers {
    fn new(shards: usize) -> PeerReceivers {
        let words = shards.div_ceil(64);
        let posted = Arc::new(Posted((0..words).map(|_| AtomicU64::new(0)).collect()));
        PeerReceivers { mailboxes: Vec::new(), posted, unread: vec![0; words].into(), next: 0 }
    }

    /// Takes a letter, if there is one, and the number of the shard that wrote it. Letters of one shard come in the
    /// order in which they were posted.
    pub fn take(&mut self) -> Option<(ShardNumber, ShardLetter)> {
        self.posted.take_into(&mut self.unread);
        while let Some(from) = self.next_unread() {
            if let Some(letter) = self.mailboxes[from].as_mut().and_then(Receiver::take) {
                self.next = from + 1;
                return Some((from, letter));
            }
            self.unread[from / 64] &= !(1 << (from % 64));
        }
        None
    }

    /// The first shard from `next` on, in a circle, whose mailbox may hold letters.
    fn next_unread(&self) -> Option<ShardNumber> {
        if self.unread.iter().all(|word| *word == 0) {
            return None;
        }
        let is_unread = |from: &usize| self.unread[from / 64] & (1 << (from % 64)) != 0;
        (self.next..self.mailboxes.len()).find(is_unread).or_else(|| (0..self.next).find(is_unread))
    }

    /// Whether no letter waits. `false` may be said for a letter that was taken already.
    pub fn is_empty(&self) -> bool {
        self.unread.iter().all(|word| *word == 0) && self.posted.is_empty()
    }
}

/// Which shards have posted letters since the receiver has looked: a bit for each.
#[derive(Default)]
struct Posted(Box<[AtomicU64]>);

impl Posted {
    /// Release: who takes the bit sees the letter.
    fn insert(&self, shard: ShardNumber) {
        self.0[shard / 64].fetch_or(1 << (shard % 64), Ordering::Release);
    }

    /// Moves the bits into `words`.
    fn take_into(&self, words: &mut [u64]) {
        for (word, bits) in words.iter_mut().zip(&self.0) {
            // Most turns find nothing: they share the line with the senders and do not write it.
            if bits.load(Ordering::Relaxed) != 0 {
                *word |= bits.swap(0, Ordering::Acquire);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| bits.load(Ordering::Relaxed) == 0)
    }
}

/// All letters to one shard: the control thread's and the other shards'.
pub struct ShardLetters {
    control: Receiver<ToShard>,
    peers: PeerReceivers,
    /// The other shards' turn.
    is_peers: bool,
}

impl ShardLetters {
    /// With none from other shards.
    pub fn new(control: Receiver<ToShard>) -> ShardLetters {
        ShardLetters { control, peers: PeerReceivers::default(), is_peers: false }
    }

    /// With those of other shards from now on.
    pub fn set_peers(&mut self, peers: PeerReceivers) {
        self.peers = peers;
    }

    /// Takes a letter, if there is one: in turns from the control thread and from other shards, so that neither waits
    /// for the end of what the other posts.
    pub fn take(&mut self) -> Option<ToShard> {
        self.is_peers = !self.is_peers;
        if self.is_peers {
            self.take_peers().or_else(|| self.control.take())
        } else {
            self.control.take().or_else(|| self.take_peers())
        }
    }

    fn take_peers(&mut self) -> Option<ToShard> {
        self.peers.take().map(|(from, letter)| ToShard::Shard { from, letter })
    }

    /// Whether no letter waits. `false` may be said for a letter that was taken already.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ServiceKind;
    use super::*;

    fn letter(key: u64) -> ShardLetter {
        ShardLetter::new(ServiceKind::Echo, key, Vec::new())
    }

    /// The ends of each shard, and its waker.
    fn house(capacity: usize, shards: usize) -> Vec<(Peers, Arc<Waker>)> {
        let wakers: Vec<_> = (0..shards).map(|_| Arc::new(Waker::new().unwrap())).collect();
        peers(capacity, &wakers).into_iter().zip(wakers).collect()
    }

    #[test]
    fn each_pair_has_its_own_mailbox() {
        for shards in [2, 3, 70] {
            let mut house = house(2, shards);
            for (from, (peers, _)) in house.iter_mut().enumerate() {
                for to in (0..shards).filter(|to| *to != from) {
                    let key = (from * shards + to) as u64;
                    assert!(peers.to.post(to, letter(key)).is_ok() && peers.to.post(to, letter(key)).is_ok());
                    assert_eq!(peers.to.post(to, letter(7)), Err(letter(7)), "the mailbox is full");
                }
            }
            for (to, (peers, _)) in house.iter_mut().enumerate() {
                let others: Vec<usize> = (0..shards).filter(|from| *from != to).collect();
                for from in [&others[..], &others[..]].concat() {
                    let key = (from * shards + to) as u64;
                    assert_eq!(peers.from.take(), Some((from, letter(key))), "one of each before the second of any");
                }
                assert!(peers.from.take().is_none() && peers.from.is_empty());
            }
        }
    }

    #[test]
    fn there_is_no_mailbox_to_itself_nor_beyond_the_last_shard() {
        let mut house = house(2, 2);
        let peers = &mut house[0].0;
        assert_eq!(peers.to.post(0, letter(1)), Err(letter(1)));
        assert_eq!(peers.to.post(2, letter(2)), Err(letter(2)));
        assert_eq!(Peers::default().to.post(0, letter(3)), Err(letter(3)));
    }

    #[test]
    fn only_a_sleeping_shard_is_woken() {
        let mut house = house(8, 2);
        let waker = house[1].1.clone();
        house[0].0.to.post(1, letter(1)).unwrap();
        assert_eq!(waker.clear(), 0);
        let asleep = waker.fall_asleep();
        assert!(!house[1].0.from.is_empty(), "the last look finds what came while it was awake");
        house[0].0.to.post(1, letter(2)).unwrap();
        house[0].0.to.post(1, letter(3)).unwrap();
        drop(asleep);
        assert_eq!(waker.clear(), 1);
    }

    #[test]
    fn neither_side_waits_for_the_end_of_the_others_letters() {
        let mut house = house(8, 2);
        let (mut to, letters) = mailbox(8, house[1].1.clone());
        let (two, _) = house.pop().unwrap();
        let mut letters = ShardLetters::new(letters);
        letters.set_peers(two.from);
        for key in 0..4 {
            to.post(ToShard::Report).unwrap();
            house[0].0.to.post(1, letter(key)).unwrap();
        }
        let is_peers: Vec<bool> =
            std::iter::from_fn(|| letters.take()).map(|it| matches!(it, ToShard::Shard { from: 0, .. })).collect();
        assert_eq!(is_peers, [true, false].repeat(4));
        assert!(letters.is_empty());
    }
}
