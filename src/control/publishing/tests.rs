//! The publish queue with credit of 1 MiB, and shards that read as the test says.

use super::backlogs::ShardBacklog;
use super::credit::OVERHEAD;
use super::queue::LETTER;
use super::*;
use crate::mesh::{Missed, NewMessage, PlainFrame};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_millis(20);
const BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(1);
const LIMITS: PublishLimits = PublishLimits { backlog_bytes: BYTES, patience: PATIENCE };

fn message(payload: usize) -> NewMessage {
    NewMessage { channel: "c".into(), payload: PlainFrame::binary(&vec![0; payload]), ..NewMessage::default() }
}

fn sequences(letter: &Letter) -> Vec<u64> {
    match letter {
        Letter::Messages(messages) => messages.iter().map(|it| it.sequence).collect(),
        Letter::Missed(missed) => vec![missed.sequence],
    }
}

async fn publish_quarters(publisher: &Publisher, queue: &mut PublishQueue, count: usize) {
    for _ in 0..count {
        publisher.publish(message(BYTES / 4 - OVERHEAD)).await.unwrap();
        queue.letter().await;
    }
}

#[tokio::test]
async fn letters_hold_what_is_ready_in_order() {
    let (publisher, mut queue) = channel(7, 1, LIMITS);
    for sequence in 1..=300 {
        let message = publisher.publish(message(1)).await.unwrap();
        assert_eq!((message.epoch, message.sequence), (7, sequence));
    }
    publisher.publish_loss(3, Some("c")).await.unwrap();
    publisher.publish(message(1)).await.unwrap();
    let mut all = Vec::new();
    for count in [LETTER, 300 - LETTER, 1, 1] {
        let letter = queue.letter().await;
        assert_eq!(sequences(&letter).len(), count);
        assert_eq!(matches!(letter, Letter::Missed(_)), sequences(&letter) == [301]);
        all.extend(sequences(&letter));
    }
    assert!(all.into_iter().eq(1..=302));
}

#[tokio::test]
async fn publishing_waits_until_letters_are_read() {
    let (publisher, mut queue) = channel(1, 2, LIMITS);
    publish_quarters(&publisher, &mut queue, 4).await;
    assert!(timeout(SOON, publisher.publish(message(1))).await.is_err());
    assert!(queue.update(Instant::now(), [4, 4]).is_empty());
    assert!(queue.is_behind() && publisher.backlogs().unread_bytes() == BYTES as u64);
    assert!(timeout(SOON, publisher.publish(message(1))).await.is_err());
    assert!(queue.update(Instant::now(), [0, 0]).is_empty());
    assert!(!queue.is_behind() && publisher.backlogs().unread_bytes() == 0);
    assert_eq!(publisher.publish(message(1)).await.unwrap().sequence, 5);
}

#[tokio::test]
async fn one_that_does_not_read_is_left_behind_and_told_when_it_is_back() {
    let (publisher, mut queue) = channel(1, 2, LIMITS);
    publish_quarters(&publisher, &mut queue, 4).await;
    let begun = Instant::now();
    assert!(queue.update(begun, [0, 4]).is_empty());
    assert!(timeout(SOON, publisher.publish(message(1))).await.is_err(), "the others wait for a while");
    assert!(queue.update(begun + PATIENCE / 2, [0, 4]).is_empty());
    assert_eq!(queue.update(begun + PATIENCE, [0, 4]), [(1, Action::Discard)]);
    // One of its letters was not in its box.
    queue.discarded(1, 1);
    assert!(queue.is_for(0) && !queue.is_for(1));
    publish_quarters(&publisher, &mut queue, 4).await;
    assert!(queue.update(begun + PATIENCE * 9, [0, 3]).is_empty(), "it is waited for no more");
    let shown: Vec<_> = publisher.backlogs().by_shard().collect();
    let backlog = |bytes, left_behind, times| ShardBacklog { bytes, left_behind, times };
    assert_eq!(shown, [backlog(0, false, 0), backlog(3 * BYTES as u64 / 4, true, 1)]);
    let missed = Missed { feed: None, channel: None, sequence: 8 };
    assert_eq!(queue.update(begun, [0, 0]), [(1, Action::SendMissed(missed))]);
    assert!(queue.is_for(1) && !queue.is_behind());
}

#[tokio::test]
async fn one_that_reads_slowly_is_left_behind_as_well() {
    let (publisher, mut queue) = channel(1, 2, LIMITS);
    publish_quarters(&publisher, &mut queue, 4).await;
    let begun = Instant::now();
    queue.update(begun, [0, 4]);
    let mut actions = Vec::new();
    for step in 1..=4 {
        let waits = tokio::spawn({
            let publisher = publisher.clone();
            async move { publisher.publish(message(BYTES / 4 - OVERHEAD)).await }
        });
        tokio::task::yield_now().await;
        actions.extend(queue.update(begun + PATIENCE * step / 3, [0, 3]));
        assert!(waits.await.unwrap().is_ok());
        queue.letter().await;
    }
    assert_eq!(actions, [(1, Action::Discard)]);
}

#[tokio::test]
async fn where_all_are_behind_nobody_is_left_behind() {
    let (publisher, mut queue) = channel(1, 2, LIMITS);
    publish_quarters(&publisher, &mut queue, 4).await;
    let begun = Instant::now();
    for seconds in 0..100 {
        assert!(queue.update(begun + Duration::from_secs(seconds), [4, 4]).is_empty());
    }
    // They come back one after the other, soon.
    assert!(queue.update(begun + Duration::from_secs(100), [0, 4]).is_empty());
    assert!(queue.update(begun + Duration::from_secs(100), [0, 0]).is_empty());
}

#[tokio::test]
async fn who_missed_nothing_is_told_nothing() {
    let (publisher, mut queue) = channel(1, 2, LIMITS);
    publish_quarters(&publisher, &mut queue, 4).await;
    let begun = Instant::now();
    queue.update(begun, [0, 4]);
    assert_eq!(queue.update(begun + PATIENCE, [0, 4]), [(1, Action::Discard)]);
    queue.discarded(1, 0);
    assert!(queue.update(begun, [0, 0]).is_empty() && queue.is_for(1));
}

#[tokio::test]
async fn a_message_above_the_budget_goes_alone() {
    let (publisher, mut queue) = channel(1, 1, LIMITS);
    publisher.publish(message(BYTES + 1)).await.unwrap();
    assert!(timeout(SOON, publisher.publish(message(1))).await.is_err());
    queue.letter().await;
    queue.update(Instant::now(), [0]);
    assert_eq!(publisher.publish(message(1)).await.unwrap().sequence, 2);
}

#[tokio::test]
async fn many_at_once_keep_their_order() {
    let (publisher, mut queue) = channel(1, 1, LIMITS);
    for _ in 0..50 {
        let publisher = publisher.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                publisher.publish(message(3)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    let mut next = 1;
    while next <= 5000 {
        for sequence in sequences(&queue.letter().await) {
            assert_eq!(sequence, next);
            next += 1;
        }
        queue.update(Instant::now(), [0]);
    }
}

#[tokio::test]
async fn nobody_publishes_to_a_server_that_has_gone() {
    let (publisher, queue) = channel(1, 1, LIMITS);
    drop(queue);
    assert_eq!(publisher.publish(message(1)).await.err(), Some(Stopping));
    assert_eq!(publisher.publish_loss(0, None).await.err(), Some(Stopping));
}
