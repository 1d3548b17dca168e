//! Messages there and back: an open loop at a rate, or each client's next message when its last is back.

use super::goes_on;
use crate::cli::Echo;
use crate::failure::Failure;
use crate::result::Outcome;
use crate::session::Session;

/// Runs the mode.
///
/// # Errors
/// What stopped it; what was measured until then is in `out`.
pub fn run(flags: &Echo, out: &mut Outcome) -> Result<(), Failure> {
    let common = &flags.common;
    let session = Session::open(common, out)?;
    session.must_echo()?;
    let mut crew = session.crew(common.connections, false)?;
    session.assemble(&mut crew, out)?;
    let rate = common.rate.map(|it| it as f64);
    if !flags.warm_up.is_zero() {
        session.echoes(&crew.talk("warming up", common.connections, common.size, rate, flags.warm_up)?)?;
    }
    let measured = goes_on().then(|| crew.talk("echo", common.connections, common.size, rate, common.duration));
    out.load.extend(measured.transpose()?);
    session.close(&mut crew, out)
}
