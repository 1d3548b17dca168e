//! The modes: each says what a crew does, and fills its part of the outcome as it goes, so that what was measured is
//! there whenever it ends.

pub mod echo;
pub mod fanout;
pub mod idle;
pub mod offload;
pub mod proxy;
pub mod slow;
pub mod storm;

use crate::crowd::Crew;
use crate::interrupt;
use std::time::Duration;

/// Holds what stands, until the time is over, nothing stands, or it is interrupted.
fn hold(crew: &Crew, span: Duration) {
    crew.until(span, |crew| crew.open() == 0);
}

/// Whether to go on.
fn goes_on() -> bool {
    !interrupt::asked()
}
