//! One message to every subscriber: deliveries, latency from the intended time of publishing, the last receiver.
//! With `--slow-percent` once more, while some have stopped reading: what the others feel then.

use super::goes_on;
use crate::cli::Fanout as Flags;
use crate::crowd::Crew;
use crate::crowd::findings::{Findings, histogram, latency, note};
use crate::failure::{Failure, mistaken};
use crate::progress::Progress;
use crate::publisher::{Publisher, Said, Schedule, unescaped};
use crate::result::{Fanout, Memory, Outcome};
use crate::session::Session;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

/// Receipts that have not come for so long will not come.
const PATIENCE: Duration = Duration::from_secs(3);
/// After subscribing, before the first message: a server may answer each subscriber. After readers have been told to
/// stop, before the next message: each takes what it has begun to read.
const QUIET: Duration = Duration::from_millis(500);
/// From the decision to publish to the first message of a stretch; seconds.
const AHEAD: f64 = 0.2;

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Flags, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let Some(rate) = common.rate.filter(|&rate| rate > 0) else {
        return mistaken("fanout publishes at a rate: give messages per second with --rate");
    };
    let session = Session::open(common, out)?;
    let mut publisher = Publisher::open(&flags.publish, &flags.publish_as, &common.tls)?;
    let mut crew = session.crew(common.connections, false)?;
    session.assemble(&mut crew, out)?;
    if let Some(text) = &flags.subscribe {
        crew.say(&unescaped(text));
    }
    crew.until(QUIET, |_| false);
    let failure = stretches(flags, rate as f64, &session, &mut crew, &mut publisher, out);
    let closed = session.close(&mut crew, out);
    failure.map_or(closed, Err)
}

/// With all readers, and then, where it is asked for, with some that have stopped.
fn stretches(
    flags: &Flags,
    rate: f64,
    session: &Session<'_>,
    crew: &mut Crew,
    publisher: &mut Publisher,
    out: &mut Outcome,
) -> Option<Failure> {
    let common = &flags.common;
    let core = common.cores.as_ref().and_then(|it| it.0.last().copied());
    let (clock, start) = crew.listen(rate);
    let schedule = Schedule { clock, start, per_second: rate, size: common.size, core };
    let count = ((rate * common.duration.as_secs_f64()).ceil() as u32).max(1);
    let mut memory = Memory { counts: vec![session.reading(crew.open())], ..Memory::default() };
    let (fanout, mut failure) = publish(crew, publisher, &schedule, 0..count, out);
    out.fanout = Some(fanout);
    memory.counts.push(session.reading(crew.open()));
    if let Some(percent) = flags.slow_percent.filter(|_| failure.is_none() && goes_on()) {
        crew.deafen(percent);
        crew.until(QUIET, |_| false);
        let first = schedule.number_after(AHEAD);
        let (fanout, later) = publish(crew, publisher, &schedule, first..first + count, out);
        (out.fanout_slow, failure) = (Some(fanout), later);
        memory.counts.push(session.reading(crew.open()));
    }
    out.memory = Some(memory);
    failure
}

/// Messages with these numbers, each at its time.
fn publish(
    crew: &mut Crew,
    publisher: &mut Publisher,
    schedule: &Schedule,
    numbers: Range<u32>,
    out: &mut Outcome,
) -> (Fanout, Option<Failure>) {
    crew.tell();
    let (before, readers, slow) = (crew.received(), crew.readers(), crew.open() - crew.readers());
    let expected = readers * numbers.len() as u64;
    let (said, took) = thread::scope(|scope| {
        let voice = scope.spawn(|| publisher.run(schedule, numbers.clone()));
        let ((), took) = crew.measured(|crew| receipts(crew, before, expected, || voice.is_finished()));
        (voice.join().unwrap_or_else(|_| Said::broken()), took)
    });
    let found = crew.tell();
    let mut fanout = summary(&found, readers, &said, schedule, numbers.clone());
    let end = found.receipts.iter().map(|it| it.1).max();
    fanout.slow = slow;
    fanout.seconds = end.map_or(took.seconds, |end| span(schedule, &numbers, end));
    fanout.per_second = fanout.delivered as f64 / fanout.seconds;
    fanout.server_cpu_us_per_delivery = took.cpu_us_each(fanout.delivered);
    (fanout.server_cpu_seconds, fanout.client_cpu_share) = (took.server_cpu, took.client_share);
    out.client.late_us = out.client.late_us.max(fanout.publisher_late_us);
    (fanout, said.failure)
}

/// From the first message's time to the last receipt; and the last message has its share of time too, or n messages
/// would count over n - 1 intervals, and the rate be above the one at which they were published.
pub(super) fn span(schedule: &Schedule, numbers: &Range<u32>, end: u64) -> f64 {
    let end = end.max(schedule.due(numbers.end));
    end.saturating_sub(schedule.due(numbers.start)).max(1) as f64 / 1e9
}

/// Waits for all receipts, as long as they come.
pub(super) fn receipts(crew: &Crew, before: u64, expected: u64, is_over: impl Fn() -> bool) {
    let progress = Progress::new("delivering", expected);
    let (mut last, mut since) = (0, Instant::now());
    crew.until(Duration::MAX, |crew| {
        let now = crew.received() - before;
        progress.at(now);
        if now != last || !is_over() {
            (last, since) = (now, Instant::now());
        }
        now >= expected || since.elapsed() > PATIENCE || crew.open() == 0
    });
}

fn summary(found: &Findings, readers: u64, said: &Said, schedule: &Schedule, numbers: Range<u32>) -> Fanout {
    let (mut last, mut delivered) = (histogram(), 0);
    for number in numbers {
        let (receivers, time) = found.receipts.get(number as usize).copied().unwrap_or_default();
        delivered += u64::from(receivers);
        if receivers > 0 {
            note(&mut last, time.saturating_sub(schedule.due(number)));
        }
    }
    Fanout {
        published: said.published.into(),
        published_per_second: said.per_second,
        publisher_late_us: said.late as f64 / 1e3,
        subscribers: readers,
        delivered,
        missing: (readers * u64::from(said.published)).saturating_sub(delivered),
        doubled: found.doubled,
        latency: latency(&found.latency),
        last: latency(&last),
        ..Fanout::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::pace::Clock;

    #[test]
    fn so_many_messages_span_as_many_intervals() {
        let schedule = Schedule { clock: Clock::start(), start: 0, per_second: 10.0, size: 64, core: None };
        let at = |seconds: f64| (seconds * 1e9) as u64;
        assert_eq!(span(&schedule, &(0..20), at(1.91)), 2.0, "the last is due at 1.9 s");
        assert_eq!(span(&schedule, &(10..20), at(1.91)), 1.0);
        assert_eq!(span(&schedule, &(0..20), at(3.0)), 3.0, "a server that lags is charged for it");
    }
}
