//! A line on the terminal that tells how far a run is; nothing where standard error is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

const FORM: &str = "{msg:>12} {wide_bar} {human_pos}/{human_len}  {per_sec}  ETA {eta}";

/// One stretch of work; its line goes when it ends.
pub struct Progress(ProgressBar);

impl Progress {
    /// Work of `len` steps.
    pub fn new(what: &str, len: u64) -> Progress {
        let style = ProgressStyle::with_template(FORM).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress(ProgressBar::new(len).with_style(style).with_message(what.to_owned()))
    }

    /// So many steps are done.
    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
