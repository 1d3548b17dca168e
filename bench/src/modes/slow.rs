//! Some readers stop while they go on sending: what the others feel, and what the server's memory does.

use super::goes_on;
use crate::cli::Slow;
use crate::crowd::Crew;
use crate::failure::{Failure, mistaken};
use crate::result::{Load, Memory, Outcome};
use crate::session::Session;

/// Runs the mode: half of the time all read, then some do not.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Slow, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let Some(rate) = common.rate else {
        return mistaken("slow measures what others feel at a given load: give it with --rate");
    };
    let session = Session::open(common, out)?;
    session.must_echo()?;
    let mut crew = session.crew(common.connections, false)?;
    session.assemble(&mut crew, out)?;
    let half = common.duration / 2;
    let talk = |crew: &mut Crew, name: &str| crew.talk(name, common.connections, common.size, Some(rate as f64), half);
    let warm = talk(&mut crew, "warming up")?;
    session.echoes(&warm)?;
    let mut memory = Memory::default();
    let read = |crew: &Crew| session.reading(crew.open());
    memory.counts.push(read(&crew));
    out.load.push(talk(&mut crew, "before")?);
    memory.counts.push(read(&crew));
    if goes_on() {
        crew.deafen(flags.percent);
        out.load.push(talk(&mut crew, "slow")?);
        memory.counts.push(read(&crew));
    }
    out.memory = Some(memory);
    out.notes.extend(felt(&out.load, flags.percent));
    session.close(&mut crew, out)
}

/// What the others felt, in a sentence.
fn felt(loads: &[Load], percent: u8) -> Option<String> {
    let [before, slow] = loads else { return None };
    let change = slow.latency.p99_us / before.latency.p99_us - 1.0;
    let words =
        format!("with {percent} % that stopped reading the p99 of the others changed by {:+.0} %", change * 100.0);
    change.is_finite().then_some(words)
}
