//! Ctrl-C: what was measured until then is printed and written; a second one ends the tool at once.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that a second Ctrl-C ends: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Listens for the signal from now on.
///
/// # Errors
/// There is a listener already.
pub fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    })
}

/// Whether the run is to end.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
