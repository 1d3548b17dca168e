//! All clients are cut at once (a reset each), and all come back. With `--inside` others stay, and are measured by
//! their echoes: as long before the cut as from it on.

use super::hold;
use crate::cli::Storm as Flags;
use crate::crowd::{Crew, Return, Took, findings};
use crate::failure::{Failure, failed};
use crate::progress::Progress;
use crate::result::{Load, Outcome, Storm};
use crate::session::Session;
use std::thread;
use std::time::{Duration, Instant};

/// A crowd that has not grown for so long, beyond the longest wait, will not come back.
const PATIENCE: Duration = Duration::from_secs(15);
/// Load of those who stay, before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Flags, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let session = Session::open(common, out)?;
    let mut inside = enter(flags, &session)?;
    let mut crew = session.crew(common.connections, true)?;
    let rate = common.rate.unwrap_or(common.connect_rate) as f64;
    out.connect = Some(crew.join(common.connections, Some(rate)));
    hold(&crew, common.hold);
    out.load.extend(inside.as_mut().map(|inside| talk(flags, inside, "quiet")).transpose()?);
    let during = storms(flags, &mut crew, inside.as_mut(), out);
    out.load.extend(during.transpose()?);
    let stayed = inside.map_or(Ok(()), |mut inside| session.close(&mut inside, out));
    session.close(&mut crew, out).and(stayed)
}

/// Those who stay, where there are any: they stand, and their messages come back.
fn enter(flags: &Flags, session: &Session<'_>) -> Result<Option<Crew>, Failure> {
    if flags.inside == 0 {
        return Ok(None);
    }
    session.must_echo()?;
    let mut inside = session.others(flags.inside)?;
    inside.join(flags.inside, None);
    session.echoes(&inside.talk("warming up", flags.inside, flags.common.size, None, WARM_UP)?)?;
    Ok(Some(inside))
}

fn talk(flags: &Flags, inside: &mut Crew, name: &str) -> Result<Load, Failure> {
    let rate = flags.inside_rate as f64;
    inside.talk(name, flags.inside, flags.common.size, Some(rate), flags.common.duration)
}

/// The storm, and what those who stay meet meanwhile.
fn storms(
    flags: &Flags,
    crew: &mut Crew,
    inside: Option<&mut Crew>,
    out: &mut Outcome,
) -> Option<Result<Load, Failure>> {
    let cut = crew.open();
    let back = Return { backoff: flags.backoff, longest: flags.backoff_max, jitter: flags.jitter };
    let (timeline, took, during) = thread::scope(|scope| {
        let voice = inside.map(|inside| scope.spawn(|| talk(flags, inside, "during")));
        let (timeline, took) = crew.measured(|crew| storm(crew, cut, back));
        let broken = |_| failed("the thread of those who stay ended");
        (timeline, took, voice.map(|it| it.join().unwrap_or_else(broken)))
    });
    crew.end_returns();
    let storm = summary(crew, cut, timeline, took);
    out.notes.extend(quiet_part(&storm, during.as_ref().and_then(|it| it.as_ref().ok())));
    out.storm = Some(storm);
    during
}

/// Whether the stretch was longer than the storm.
fn quiet_part(storm: &Storm, during: Option<&Load>) -> Option<String> {
    let (all, stretch) = (storm.seconds, during?.seconds);
    let words = || format!("all were back after {all:.2} s: the rest of the {stretch:.2} s of \"during\" was quiet");
    (all < stretch).then(words)
}

/// Cuts, and watches until all are back: seconds since the cut, and how many stand.
pub(super) fn storm(crew: &mut Crew, cut: u64, back: Return) -> Vec<(f64, u64)> {
    let progress = Progress::new("coming back", cut);
    crew.tell();
    let begun = Instant::now();
    crew.cut(back);
    crew.until(Duration::from_secs(5), |crew| crew.open() < cut);
    let (mut timeline, mut grown) = (vec![(0.0, 0)], Instant::now());
    crew.until(Duration::MAX, |crew| {
        let open = crew.open();
        if timeline.last().is_none_or(|last| last.1 != open) {
            timeline.push((begun.elapsed().as_secs_f64(), open));
            grown = Instant::now();
        }
        progress.at(open);
        open >= cut || grown.elapsed() > back.longest.min(back.backoff * 64) + PATIENCE
    });
    timeline
}

/// What that was.
pub(super) fn summary(crew: &mut Crew, cut: u64, timeline: Vec<(f64, u64)>, took: Took) -> Storm {
    let found = crew.tell();
    let reached = |count: u64| timeline.iter().find(|(_, open)| *open >= count).map_or(0.0, |it| it.0);
    Storm {
        cut,
        tls: found.handshakes(took.server_cpu),
        back: crew.open(),
        seconds: timeline.last().map_or(0.0, |it| it.0),
        half_seconds: reached(cut / 2),
        peak_per_second: peak(&timeline),
        attempts: found.attempts,
        failed: found.failed,
        server_cpu_seconds: took.server_cpu,
        client_cpu_share: took.client_share,
        latency: findings::latency(&found.connects),
        timeline: thinned(timeline),
    }
}

/// The most that came within any second.
fn peak(timeline: &[(f64, u64)]) -> f64 {
    let within = |&(time, open): &(f64, u64)| {
        let before = timeline.iter().rev().find(|it| it.0 <= time - 1.0).map_or(0, |it| it.1);
        open.saturating_sub(before)
    };
    timeline.iter().map(within).max().unwrap_or(0) as f64
}

/// At most some two hundred points, the first and the last among them.
fn thinned(timeline: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    let step = timeline.len().div_ceil(200).max(1);
    let last = timeline.last().copied();
    let mut few: Vec<(f64, u64)> = timeline.into_iter().step_by(step).collect();
    few.extend(last.filter(|last| few.last() != Some(last)));
    few
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_best_second() {
        let timeline = [(0.0, 0), (0.5, 10), (1.2, 50), (1.4, 55), (3.0, 60)];
        assert_eq!(peak(&timeline), 55.0);
        assert_eq!(thinned((0..1000).map(|it| (f64::from(it), 0)).collect()).last(), Some(&(999.0, 0)));
    }
}
