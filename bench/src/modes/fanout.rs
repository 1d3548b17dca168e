//! One message to every subscriber: deliveries, latency from the intended time of publishing, the last receiver.

use crate::cli::Fanout as Flags;
use crate::crowd::Crew;
use crate::crowd::findings::{Findings, histogram, latency, note};
use crate::failure::{Failure, mistaken};
use crate::progress::Progress;
use crate::publisher::{Publisher, unescaped};
use crate::result::{Fanout, Outcome};
use crate::session::Session;
use std::thread;
use std::time::{Duration, Instant};

/// Receipts that have not come for so long will not come.
const PATIENCE: Duration = Duration::from_secs(3);
/// After subscribing, before the first message: a server may answer each subscriber.
const QUIET: Duration = Duration::from_millis(500);

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
    let publisher = Publisher::open(&flags.publish, &flags.publish_as)?;
    let mut crew = session.crew(common.connections, false)?;
    session.assemble(&mut crew, out)?;
    if let Some(text) = &flags.subscribe {
        crew.say(&unescaped(text));
    }
    crew.until(QUIET, |_| false);
    let count = ((rate as f64 * common.duration.as_secs_f64()).ceil() as u32).max(1);
    let (fanout, failure) = publish(&mut crew, publisher, rate as f64, count, common.size);
    out.fanout = Some(fanout);
    let closed = session.close(&mut crew, out);
    failure.map_or(closed, Err)
}

fn publish(crew: &mut Crew, publisher: Publisher, rate: f64, count: u32, size: usize) -> (Fanout, Option<Failure>) {
    crew.tell();
    let subscribers = crew.open();
    let (clock, start) = crew.listen(rate);
    let before = crew.received();
    let voice = thread::spawn(move || publisher.run(clock, start, rate, count, size));
    let ((), took) = crew.measured(|crew| receipts(crew, before, subscribers * u64::from(count), &voice));
    let (published, failure) = voice.join().unwrap_or((0, Some(Failure::Failed("the publisher failed".into()))));
    let found = crew.tell();
    let due = |number: usize| start + (number as f64 / rate * 1e9) as u64;
    let mut fanout = summary(&found, subscribers, published, due);
    fanout.seconds = found.receipts.iter().map(|it| it.1).max().map_or(took.seconds, |end| seconds(start, end));
    fanout.per_second = fanout.delivered as f64 / fanout.seconds;
    fanout.server_cpu_us_per_delivery = took.cpu_us_each(fanout.delivered);
    (fanout.server_cpu_seconds, fanout.client_cpu_share) = (took.server_cpu, took.client_share);
    (fanout, failure)
}

fn seconds(start: u64, end: u64) -> f64 {
    end.saturating_sub(start).max(1) as f64 / 1e9
}

/// Waits for all receipts, as long as they come.
fn receipts<T>(crew: &Crew, before: u64, expected: u64, voice: &thread::JoinHandle<T>) {
    let progress = Progress::new("delivering", expected);
    let (mut last, mut since) = (0, Instant::now());
    crew.until(Duration::MAX, |crew| {
        let now = crew.received() - before;
        progress.at(now);
        if now != last || !voice.is_finished() {
            (last, since) = (now, Instant::now());
        }
        now >= expected || since.elapsed() > PATIENCE || crew.open() == 0
    });
}

/// `due`: when a message was to be published, on the crew's clock.
fn summary(found: &Findings, subscribers: u64, published: u32, due: impl Fn(usize) -> u64) -> Fanout {
    let mut last = histogram();
    for (number, (receivers, time)) in found.receipts.iter().enumerate() {
        if *receivers > 0 {
            note(&mut last, time.saturating_sub(due(number)));
        }
    }
    let delivered: u64 = found.receipts.iter().map(|it| u64::from(it.0)).sum();
    Fanout {
        published: published.into(),
        subscribers,
        delivered,
        missing: (subscribers * u64::from(published)).saturating_sub(delivered),
        doubled: found.doubled,
        latency: latency(&found.latency),
        last: latency(&last),
        ..Fanout::default()
    }
}
