//! Counting: the few places where a count needs a decision. The counters themselves travel as letters and
//! stand in the mesh.

use super::conn::{Conn, Flags, State};
use crate::mesh::{Counters, Refused};
use edgehold_wire::status::Status;

/// A request was answered with this status: a refusal, from 400 on.
pub fn refused(counters: &mut Counters, status: Status) {
    if status.code() >= 400 {
        counters.refusals[reason(status) as usize] += 1;
    }
}

/// A client was refused because all slots are taken.
pub fn refused_full(counters: &mut Counters) {
    counters.refusals[Refused::Full as usize] += 1;
}

fn reason(status: Status) -> Refused {
    match status.code() {
        403 | 404 => Refused::NotFound,
        405 => Refused::Method,
        412 | 416 => Refused::Condition,
        408 => Refused::HeadTimeout,
        413 => Refused::BodyTooLarge,
        414 | 431 => Refused::HeadTooLarge,
        426 => Refused::Upgrade,
        501 => Refused::NotImplemented,
        500..=504 => Refused::Unavailable,
        _ => Refused::BadRequest,
    }
}

/// Counts the connection under its present stage and service, and no longer under the former ones.
pub fn gauge_stage(counters: &mut Counters, conn: &mut Conn) {
    let (stage, service) = (conn.stage_now(), conn.service);
    let counts = !matches!(conn.state, State::Free | State::Accept) && !conn.flags.contains(Flags::SPARE);
    let counted = conn.flags.contains(Flags::COUNTED);
    if counted && counts && stage == conn.stage && service == conn.counted_service {
        return;
    }
    let last = counters.stages.len() - 1;
    let origin = if conn.is_upstream() { last } else { usize::from(conn.origin) };
    let row = &mut counters.stages[origin];
    if counted {
        row[conn.counted_service as usize][conn.stage as usize] -= 1;
    }
    if counts {
        row[service as usize][stage as usize] += 1;
    }
    (conn.stage, conn.counted_service) = (stage, service);
    conn.flags.set(Flags::COUNTED, counts);
}
