//! Subscribers of a broker, straight or through an edge: messages with numbers on each topic at even times, and each
//! client holds what comes against what must come. With `--storm` all are cut then, and are back when they are
//! subscribed again; what is published after that must reach all of them as before.

use super::{fanout, goes_on, storm};
use crate::broker::Dialect;
use crate::broker::voice::Voice;
use crate::cli::Offload as Flags;
use crate::crowd::findings::{Findings, histogram, latency, note};
use crate::crowd::{Crew, Return, Took};
use crate::failure::{Failure, mistaken};
use crate::publisher::{Said, Schedule};
use crate::result::{Fanout, Outcome, Part, Process};
use crate::session::{Session, target};
use crate::target::Speech;
use crate::watch::Server;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

/// From the decision to publish to the first message after a storm; seconds.
const AHEAD: f64 = 0.5;

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Flags, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let Some(rate) = common.rate.filter(|&rate| rate > 0) else {
        return mistaken("offload publishes at a rate: give messages per second on each topic with --rate");
    };
    let Some(dialect) = Dialect::of(&flags.speaking, flags.acknowledged, common.size)?.map(Arc::new) else {
        return mistaken("offload's clients are a broker's: say which, with --protocol stomp or --protocol mqtt");
    };
    if target(common, &common.url)?.speech == Speech::Stream {
        return mistaken(format!("{}: a broker's clients speak, too; give ws:// or tcp://", common.url));
    }
    let session = Session::at_broker(common, Some(dialect.clone()), out)?;
    let mut voices = voices(flags, &dialect)?;
    let mut watched = Watched::begin(flags)?;
    let mut crew = session.crew(common.connections, false)?;
    let assembled = session.assemble(&mut crew, out);
    watched.note("joined");
    let rate = (rate * u64::from(flags.speaking.topics)) as f64;
    let failure = assembled.err().or_else(|| stretches(flags, rate, &mut crew, &mut voices, &mut watched, out));
    out.processes = watched.told();
    let closed = session.close(&mut crew, out);
    failure.map_or(closed, Err)
}

fn voices(flags: &Flags, dialect: &Arc<Dialect>) -> Result<Vec<Voice>, Failure> {
    let url = flags.publish.as_ref().unwrap_or(&flags.common.url);
    let target = target(&flags.common, url)?;
    (0..flags.publishers).map(|number| Voice::open(&target, dialect, number)).collect()
}

/// Messages to all; and where it is asked for, a storm, and messages once more.
fn stretches(
    flags: &Flags,
    rate: f64,
    crew: &mut Crew,
    voices: &mut [Voice],
    watched: &mut Watched,
    out: &mut Outcome,
) -> Option<Failure> {
    let common = &flags.common;
    let core = common.cores.as_ref().and_then(|it| it.0.last().copied());
    let (clock, start) = crew.listen(rate);
    let schedule = Schedule { clock, start, per_second: rate, size: common.size, core };
    let count = ((rate * common.duration.as_secs_f64()).ceil() as u32).max(1);
    let (told, mut failure) = publish(flags, crew, voices, &schedule, 0..count, out);
    out.fanout = Some(told);
    watched.note("fanout");
    if flags.storm && failure.is_none() && goes_on() {
        return_all(flags, crew, out);
        watched.note("storm");
        let first = schedule.number_after(AHEAD).next_multiple_of(flags.speaking.topics);
        let (told, later) = publish(flags, crew, voices, &schedule, first..first + count, out);
        (out.fanout_again, failure) = (Some(told), later);
        watched.note("again");
    }
    failure
}

fn return_all(flags: &Flags, crew: &mut Crew, out: &mut Outcome) {
    let cut = crew.open();
    let back = Return { backoff: flags.backoff, longest: flags.backoff_max, jitter: flags.jitter };
    let (timeline, took) = crew.measured(|crew| storm::storm(crew, cut, back));
    crew.end_returns();
    out.storm = Some(storm::summary(crew, cut, timeline, took));
}

/// Messages with these numbers, and what came of them.
fn publish(
    flags: &Flags,
    crew: &mut Crew,
    voices: &mut [Voice],
    schedule: &Schedule,
    numbers: Range<u32>,
    out: &mut Outcome,
) -> (Fanout, Option<Failure>) {
    crew.tell();
    let subscribers = crew.open();
    let (said, took) = speak(flags, crew, voices, schedule, &numbers);
    let found = crew.tell();
    let mut told = summary(flags, &found, &said, schedule, numbers.clone());
    let end = found.receipts.iter().map(|it| it.1).max().filter(|end| *end > 0);
    told.subscribers = subscribers;
    told.seconds = end.map_or(took.seconds, |end| fanout::span(schedule, &numbers, end));
    told.per_second = told.delivered as f64 / told.seconds;
    told.published_per_second = told.published as f64 / told.seconds;
    told.server_cpu_us_per_delivery = took.cpu_us_each(told.delivered);
    (told.server_cpu_seconds, told.client_cpu_share) = (took.server_cpu, took.client_share);
    out.client.late_us = out.client.late_us.max(told.publisher_late_us);
    (told, said.into_iter().find_map(|it| it.failure))
}

/// Each message goes out at its time, from the one who has its topic; waits for all receipts, as long as they come.
fn speak(
    flags: &Flags,
    crew: &mut Crew,
    voices: &mut [Voice],
    schedule: &Schedule,
    numbers: &Range<u32>,
) -> (Vec<Said>, Took) {
    let (before, publishers) = (crew.received(), voices.len() as u32);
    let expected = numbers.clone().map(|number| of_topic(flags, number)).sum();
    let is_of = |place: u32| move |number: u32| number % flags.speaking.topics % publishers == place;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (place, voice) in (0..).zip(voices) {
            threads.push(scope.spawn(move || voice.run(schedule, numbers.clone(), is_of(place))));
        }
        let are_over = || threads.iter().all(thread::ScopedJoinHandle::is_finished);
        let ((), took) = crew.measured(|crew| fanout::receipts(crew, before, expected, are_over));
        let said = threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Said::broken())).collect();
        (said, took)
    })
}

/// How many clients wait for this message.
fn of_topic(flags: &Flags, number: u32) -> u64 {
    let (clients, topics) = (flags.common.connections, u64::from(flags.speaking.topics));
    clients / topics + u64::from(u64::from(number) % topics < clients % topics)
}

/// Where a publisher failed, what it did not say is missing, too: the failure is told beside it.
fn summary(flags: &Flags, found: &Findings, said: &[Said], schedule: &Schedule, numbers: Range<u32>) -> Fanout {
    let (mut last, mut delivered, mut expected) = (histogram(), 0, 0);
    for number in numbers {
        let (receivers, time) = found.receipts.get(number as usize).copied().unwrap_or_default();
        delivered += u64::from(receivers);
        expected += of_topic(flags, number);
        if receivers > 0 {
            note(&mut last, time.saturating_sub(schedule.due(number)));
        }
    }
    Fanout {
        published: said.iter().map(|it| u64::from(it.published)).sum(),
        publisher_late_us: said.iter().map(|it| it.late).max().unwrap_or(0) as f64 / 1e3,
        delivered,
        missing: expected.saturating_sub(delivered),
        doubled: found.doubled,
        topics: flags.speaking.topics.into(),
        disordered: found.disordered,
        strange: found.changed,
        latency: latency(&found.latency),
        last: latency(&last),
        ..Fanout::default()
    }
}

/// The processes of `--pid`, and the CPU that they had when they were last looked at.
struct Watched(Vec<(Server, f64, Process)>);

impl Watched {
    fn begin(flags: &Flags) -> Result<Watched, Failure> {
        let begun = |(name, pid): &(String, u32)| {
            let server = Server::of(&format!("--pid {name}="), *pid)?;
            Ok((server, server.cpu(), Process { name: name.clone(), pid: *pid, parts: Vec::new() }))
        };
        let mut watched = Watched(flags.pid.iter().map(begun).collect::<Result<_, _>>()?);
        watched.note("before");
        Ok(watched)
    }

    /// A part has ended.
    fn note(&mut self, part: &str) {
        for (server, before, process) in &mut self.0 {
            let now = server.cpu();
            let (cpu_seconds, rss_bytes) = ((now - *before).max(0.0), server.memory().map(|it| it.0));
            process.parts.push(Part { name: part.into(), cpu_seconds, rss_bytes });
            *before = now;
        }
    }

    fn told(self) -> Vec<Process> {
        self.0.into_iter().map(|it| it.2).collect()
    }
}
