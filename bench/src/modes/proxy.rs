//! Echo through an edge against the same back end without it, in turns: the added latency and CPU.

use super::goes_on;
use crate::cli::Proxy;
use crate::crowd::Crew;
use crate::failure::Failure;
use crate::result::{Load, Outcome};
use crate::session::{Session, target};
use crate::watch::Server;
use std::time::Duration;

/// Before each round, so that both find caches and connections as they will be.
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Proxy, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let session = Session::open(common, out)?;
    session.must_echo()?;
    let direct = target(common, &flags.direct)?;
    let back_end = flags.direct_pid.map(|pid| Server::find(pid, direct.port())).transpose()?;
    let mut edge = session.crew(common.connections, false)?;
    session.assemble(&mut edge, out)?;
    let mut without = session.crew_for(&direct, common.connections, false, back_end)?;
    without.join(common.connections, Some(common.connect_rate as f64));
    for _ in 0..flags.rounds {
        if goes_on() {
            out.load.push(round(flags, &mut without, "direct")?);
            out.load.push(passed_on(flags, &mut edge, back_end)?);
        }
    }
    out.notes.extend(added(&out.load));
    session.close(&mut edge, out).and(session.close(&mut without, out))
}

/// A round through the edge; what it takes of the back end's CPU is noted with it.
fn passed_on(flags: &Proxy, edge: &mut Crew, back_end: Option<Server>) -> Result<Load, Failure> {
    warm_up(flags, edge)?;
    let before = back_end.map(Server::cpu);
    let mut load = talk(flags, edge, "edge")?;
    let spent = back_end.map(Server::cpu).zip(before).map(|(now, then)| now - then);
    load.back_end_cpu_us_per_message = spent.filter(|_| load.received > 0).map(|it| it * 1e6 / load.received as f64);
    Ok(load)
}

fn round(flags: &Proxy, crew: &mut Crew, name: &str) -> Result<Load, Failure> {
    warm_up(flags, crew)?;
    talk(flags, crew, name)
}

fn warm_up(flags: &Proxy, crew: &mut Crew) -> Result<(), Failure> {
    let common = &flags.common;
    let rate = common.rate.map(|it| it as f64);
    crew.talk("warming up", common.connections, common.size, rate, WARM_UP).map(drop)
}

fn talk(flags: &Proxy, crew: &mut Crew, name: &str) -> Result<Load, Failure> {
    let common = &flags.common;
    crew.talk(name, common.connections, common.size, common.rate.map(|it| it as f64), common.duration)
}

/// The medians over the rounds, and what lies between them.
fn added(loads: &[Load]) -> Option<String> {
    let median = |name: &str, of: fn(&Load) -> f64| {
        let mut all: Vec<f64> = loads.iter().filter(|it| it.name == name).map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    let between = |of| Some(median("edge", of)? - median("direct", of)?);
    let (p50, p99) = (between(|it| it.latency.p50_us)?, between(|it| it.latency.p99_us)?);
    Some(format!("the edge adds {p50:.0} µs at p50 and {p99:.0} µs at p99 (medians of the rounds)"))
}
