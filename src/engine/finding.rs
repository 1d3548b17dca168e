//! What was found when a limit of the machine was held against what is needed of it: the one form in which the kernel's
//! probe, the derived limits, `doctor` and `plan` say it.

use serde::Serialize;

/// One limit: how it is, how it should be, what follows, and what changes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The limit that was looked at: a sysctl, a resource limit, a key of the configuration, a feature of the kernel.
    pub what: String,
    /// How it is.
    pub is: String,
    /// How it should be.
    pub should: String,
    /// What follows from the two.
    pub verdict: Verdict,
    /// What to type or to write to change it; empty where the verdict is [`Verdict::Ok`].
    pub command: String,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// The server runs, but with less than it could or was asked to.
    Advice,
    /// The server would not run.
    Fails,
}

impl Verdict {
    /// Of a limit without which the server would hold less, or hold it less well.
    pub fn advise(well: bool) -> Verdict {
        if well { Verdict::Ok } else { Verdict::Advice }
    }

    /// Of a limit without which the server would not run.
    pub fn insist(well: bool) -> Verdict {
        if well { Verdict::Ok } else { Verdict::Fails }
    }

    /// As it stands in a table for eyes.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Advice => "advice",
            Verdict::Fails => "FAILS",
        }
    }
}

impl Finding {
    /// A finding; `command` is left out where there is nothing to change.
    pub fn new(what: &str, is: String, should: String, verdict: Verdict, command: String) -> Finding {
        let command = if verdict == Verdict::Ok { String::new() } else { command };
        Finding { what: what.into(), is, should, verdict, command }
    }

    /// A finding with which the server would not run.
    pub fn failure(what: &str, is: String, should: String, command: String) -> Finding {
        Finding::new(what, is, should, Verdict::Fails, command)
    }

    /// Whether the server would not run.
    pub fn fails(&self) -> bool {
        self.verdict == Verdict::Fails
    }
}
