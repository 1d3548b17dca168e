//! Idle connections: how fast they come, what each costs in user memory, kernel memory and CPU.

use super::{goes_on, hold};
use crate::broker::Dialect;
use crate::calibrate::{Ends, calibrate};
use crate::cli::Idle;
use crate::crowd::Crew;
use crate::failure::{Failure, failed, mistaken};
use crate::result::{Connect, Memory, Outcome, Reading};
use crate::session::Session;
use crate::target::Speech;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at memory that may still move.
const LOOK: Duration = Duration::from_millis(500);
/// Memory that moves less than this between looks, for as many looks, stands still.
const STILL_BYTES: u64 = 128 << 10;
const STILL_LOOKS: u32 = 4;
/// Pings of the whole crowd are spread so that so many come in a second.
const PINGS_PER_SECOND: f64 = 50_000.0;

/// User memory of a connection that no server gets by with; bytes.
const LEAST_BYTES: f64 = 48.0;

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Idle, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let dialect = Dialect::of(&flags.speaking, false, common.size)?.map(Arc::new);
    let session = Session::at_broker(common, dialect, out)?;
    may_speak(flags, &session)?;
    let local = session.target.is_loopback();
    let ends = local.then(|| calibrate(&session)).transpose()?.flatten();
    if !goes_on() {
        return Ok(());
    }
    let mut crew = session.crew(common.connections, true)?;
    let counted = climb(flags, &session, &mut crew, out);
    let memory = out.memory.get_or_insert_default();
    slopes(memory, ends);
    out.notes.extend(used_before(memory));
    counted?;
    let memory = out.memory.get_or_insert_default();
    if goes_on() {
        idle_cpu(flags, &mut crew, memory);
        after(flags, &mut crew, out)?;
    }
    session.close(&mut crew, out)
}

/// A ping wants a WebSocket, a talk a server that echoes.
fn may_speak(flags: &Idle, session: &Session<'_>) -> Result<(), Failure> {
    if flags.ping && session.target.speech != Speech::WebSocket {
        return mistaken("--ping wants a WebSocket: give --url ws://…");
    }
    if flags.talk > 0 { session.must_echo() } else { Ok(()) }
}

/// Connects count by count, and reads memory at each.
fn climb(flags: &Idle, session: &Session<'_>, crew: &mut Crew, out: &mut Outcome) -> Result<(), Failure> {
    let rate = flags.common.rate.map(|it| it as f64);
    for count in counts(flags.common.connections, flags.counts) {
        let more = count.saturating_sub(out.connect.as_ref().map_or(0, |it| it.asked));
        let part = crew.join(more, rate);
        out.connect = Some(joined(out.connect.take(), part));
        let reading = settled(flags, session, crew);
        out.memory.get_or_insert_default().counts.push(reading);
        if !goes_on() {
            return Ok(());
        }
        if crew.open() == 0 {
            let refused = out.connect.iter().flat_map(|it| &it.failed).map(|(cause, count)| format!("{count} {cause}"));
            return failed([vec![crew.loss("no client stands")], refused.collect()].concat().join(", "));
        }
    }
    Ok(())
}

/// Even steps up to all; the first is for what grows once.
fn counts(all: u64, steps: u64) -> impl Iterator<Item = u64> {
    let steps = steps.clamp(1, all.max(1));
    (1..=steps).map(move |step| all * step / steps)
}

fn joined(before: Option<Connect>, part: Connect) -> Connect {
    let Some(before) = before else { return part };
    let mut all = Connect { asked: before.asked + part.asked, connected: before.connected + part.connected, ..part };
    before.failed.iter().for_each(|(cause, count)| *all.failed.entry(cause.clone()).or_default() += count);
    all.seconds += before.seconds;
    all.per_second = all.connected as f64 / all.seconds;
    all.server_cpu_seconds = all.server_cpu_seconds.zip(before.server_cpu_seconds).map(|(one, other)| one + other);
    all.server_cpu_ms_per_thousand = all.server_cpu_seconds.map(|it| it * 1e6 / all.connected.max(1) as f64);
    all.tls = all.tls.zip(before.tls).map(|(one, other)| one.and(&other, all.server_cpu_seconds));
    all.client_cpu_share = all.client_cpu_share.max(before.client_cpu_share);
    all
}

/// Waits until the server has parked all, where it tells, and until memory stands still; then reads.
fn settled(flags: &Idle, session: &Session<'_>, crew: &Crew) -> Reading {
    let read = || session.reading(crew.open());
    let begun = Instant::now();
    let unparked = || session.admin.as_ref().and_then(|it| it.metrics().ok()?.unparked()).unwrap_or(0.0);
    crew.until(flags.settle, |_| unparked() < 1.0);
    let (mut last, mut still) = (read(), 0);
    while still < STILL_LOOKS && begun.elapsed() < flags.settle && goes_on() && crew.open() > 0 {
        hold(crew, LOOK);
        let now = read();
        still = if moved(&last, &now) { 0 } else { still + 1 };
        last = now;
    }
    last
}

fn moved(last: &Reading, now: &Reading) -> bool {
    let user = last.rss_bytes.unwrap_or(0).abs_diff(now.rss_bytes.unwrap_or(0));
    user > STILL_BYTES || last.slab_bytes.abs_diff(now.slab_bytes) > STILL_BYTES
}

/// The slopes through the readings.
fn slopes(memory: &mut Memory, ends: Option<Ends>) {
    let counts = &memory.counts;
    let line = |value: &dyn Fn(&Reading) -> Option<u64>| {
        let points: Option<Vec<(f64, f64)>> =
            counts.iter().map(|it| Some((it.connections as f64, value(it)? as f64))).collect();
        slope(&points?)
    };
    let (rss, pss) = (line(&|it| it.rss_bytes), line(&|it| it.pss_bytes));
    let (slab, available) = (line(&|it| Some(it.slab_bytes)), line(&|it| Some(it.available_bytes)));
    (memory.user_rss_bytes, memory.user_pss_bytes, memory.kernel_pair_bytes) = (rss, pss, slab);
    memory.machine_pair_bytes = available.map(|it| -it);
    memory.kernel_client_bytes = ends.map(|it| it.own);
    memory.kernel_bare_bytes = ends.map(|it| it.bare);
    memory.kernel_server_bytes = slab.zip(ends).map(|(pair, ends)| pair - ends.own);
    memory.server_bytes = memory.kernel_server_bytes.zip(rss).map(|(kernel, user)| kernel + user);
}

/// A server that has held as many clients before has their memory still, and takes little more of it.
fn used_before(memory: &Memory) -> Option<String> {
    let rss = memory.user_rss_bytes.filter(|&rss| rss < LEAST_BYTES)?;
    let words = "no connection costs so little: the server has held as many before and uses their memory again";
    Some(format!("user memory grew by {rss:.0} B per connection; {words}. Start it anew for this figure"))
}

/// Least squares; `None` below two different counts.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let spread: f64 = points.iter().map(|it| (it.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    (spread > 0.0).then(|| common / spread)
}

/// CPU of the server while nobody says anything.
fn idle_cpu(flags: &Idle, crew: &mut Crew, memory: &mut Memory) {
    let ((), took) = crew.measured(|crew| hold(crew, flags.common.hold));
    let thousands = crew.open() as f64 / 1e3;
    let enough = took.seconds > 0.5 && thousands > 0.0;
    memory.idle_cpu_cores_per_thousand = took.server_cpu.filter(|_| enough).map(|it| it / took.seconds / thousands);
}

/// The ping of each, and the talk of some.
fn after(flags: &Idle, crew: &mut Crew, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    if flags.ping {
        out.load.push(crew.ping(common.rate.map_or(PINGS_PER_SECOND, |it| it as f64)));
    }
    if flags.talk > 0 && goes_on() {
        let rate = Some(flags.talk_rate as f64);
        out.load.push(crew.talk("echo", flags.talk, common.size, rate, common.duration)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        let found = slope(&[(1.0, 105.0), (2.0, 110.0), (4.0, 120.0)]).expect("a slope");
        assert!((found - 5.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 105.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn a_server_that_was_used_before_is_noticed() {
        let of = |rss| used_before(&Memory { user_rss_bytes: rss, ..Memory::default() });
        assert!(of(Some(3.0)).is_some_and(|words| words.contains("Start it anew")));
        assert_eq!((of(Some(134.0)), of(None)), (None, None));
    }

    #[test]
    fn counts_end_with_all() {
        assert_eq!(counts(15_000, 3).collect::<Vec<_>>(), [5_000, 10_000, 15_000]);
        assert_eq!(counts(2, 9).collect::<Vec<_>>(), [1, 2]);
    }
}
