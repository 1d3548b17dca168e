//! Which figures may stand side by side: the parts of all runs, grouped by the same work, then by server.
//!
//! A run that the client limited, or that was interrupted, is never a round among plain ones: it makes a group of its
//! own, with its mark.

use super::figures::{self, Figure};
use super::units::{Unit, plural, thousands};
use crate::result::{Connect, Fanout, Load, Memory, Outcome, Storm};

/// A file that was read.
pub(super) struct Run {
    /// Its name, as short as it is unique.
    pub(super) file: String,
    /// What is in it.
    pub(super) outcome: Outcome,
}

/// The sections of the page, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// What connections cost at rest.
    Memory,
    /// How they came about.
    Connect,
    /// Messages there and back.
    Messages,
    /// One message to many.
    Fanout,
    /// All cut, all back.
    Storm,
    /// Some readers stop.
    Slow,
    /// Through an edge, and without it.
    Proxy,
}

/// What a server had to do. Only figures of the same work are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work {
    /// The section.
    pub(super) topic: Topic,
    /// What divides the section: the stretch (echo, ping) or the mode that connected.
    pub(super) kind: String,
    /// Connections that took part.
    pub(super) connections: u64,
    /// Connections in all.
    pub(super) of: u64,
    /// Bytes of a message; 0 where there is none.
    pub(super) size: usize,
    /// Flags that only this mode has, as they were given.
    pub(super) flags: String,
    /// Per second, rounded; absent: as fast as it goes.
    pub(super) rate: Option<u64>,
}

impl Work {
    /// The work in words.
    pub(super) fn title(&self) -> String {
        joined(&[self.subject(), self.size_words(), self.rate_words(), self.flags.clone()])
    }

    /// The same for a family of works.
    pub(super) fn title_without_rate(&self) -> String {
        joined(&[self.subject(), self.size_words(), self.flags.clone()])
    }

    /// The work without its rate: what a sweep over rates has in common.
    pub(super) fn family(&self) -> Work {
        Work { rate: None, ..self.clone() }
    }

    fn subject(&self) -> String {
        let crowd = self.crowd();
        match (self.topic, self.kind.as_str()) {
            (Topic::Messages, "echo") => format!("Echo, {crowd}"),
            (Topic::Messages, "ping") => format!("Ping, {crowd}"),
            (Topic::Connect, mode) if mode != "idle" => format!("{crowd} for {mode}"),
            _ => crowd,
        }
    }

    fn crowd(&self) -> String {
        let all = thousands(self.of as f64);
        match (self.topic, self.connections == self.of) {
            (Topic::Fanout, _) => plural(self.connections as usize, "subscriber"),
            (_, true) => plural(self.connections as usize, "connection"),
            (_, false) => format!("{} of {all} connections", thousands(self.connections as f64)),
        }
    }

    fn size_words(&self) -> String {
        match self.size {
            0 => String::new(),
            size if size >= 1024 && size.is_multiple_of(1024) => format!("{} KiB", thousands((size / 1024) as f64)),
            size => format!("{} B", thousands(size as f64)),
        }
    }

    fn rate_words(&self) -> String {
        let what = if matches!(self.topic, Topic::Connect | Topic::Storm) { "connects" } else { "messages" };
        match self.rate {
            Some(rate) => format!("{} {what} per second", thousands(rate as f64)),
            None if matches!(self.topic, Topic::Messages | Topic::Proxy) => "as fast as it goes".to_owned(),
            None => String::new(),
        }
    }
}

fn joined(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Whose figures they are, and what stands against taking them as plain results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The server.
    pub(super) label: String,
    /// The stretch, where one run has several to compare; otherwise empty.
    pub(super) stretch: String,
    /// The client was the limit.
    pub(super) limited: bool,
    /// The run was ended early.
    pub(super) interrupted: bool,
}

impl Who {
    /// Whether it is what the other stretch of the same run is held against.
    pub(super) fn is_reference(&self) -> bool {
        matches!(self.stretch.as_str(), "before" | "direct")
    }

    /// Server and stretch.
    pub(super) fn name(&self) -> String {
        if self.stretch.is_empty() { self.label.clone() } else { format!("{}, {}", self.label, self.stretch) }
    }

    /// Nothing stands against the figures.
    pub(super) fn is_plain(&self) -> bool {
        !self.limited && !self.interrupted
    }

    /// What stands against the figures; empty if nothing does.
    pub(super) fn mark(&self) -> &'static str {
        match (self.limited, self.interrupted) {
            (true, true) => "client was the limit, interrupted",
            (true, false) => "client was the limit",
            (false, true) => "interrupted",
            (false, false) => "",
        }
    }

    /// Name and mark.
    pub(super) fn title(&self) -> String {
        if self.is_plain() { self.name() } else { format!("{} ({})", self.name(), self.mark()) }
    }

    /// A figure in words: what a busy client has slowed down is at least so much.
    pub(super) fn show(&self, unit: Unit, value: f64) -> String {
        let bound = if self.limited && unit == Unit::PerSecond { "≥ " } else { "" };
        format!("{bound}{}", unit.show(value))
    }
}

/// The part of an outcome that a trial is about.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// Readings of memory.
    Memory(&'a Memory),
    /// The connects.
    Connect(&'a Connect),
    /// A stretch of messages.
    Load(&'a Load),
    /// The publications.
    Fanout(&'a Fanout),
    /// The storm.
    Storm(&'a Storm),
}

/// One part of one run.
pub(super) struct Trial<'a> {
    /// What was to be done.
    pub(super) work: Work,
    /// By whom.
    pub(super) who: Who,
    /// What came of it.
    pub(super) part: Part<'a>,
    /// The same as figures.
    pub(super) figures: Vec<Figure>,
}

/// All trials of all runs.
pub(super) fn trials(runs: &[Run]) -> Vec<Trial<'_>> {
    runs.iter().flat_map(|run| parts(&run.outcome).into_iter().map(|part| trial(&run.outcome, part))).collect()
}

fn parts(outcome: &Outcome) -> Vec<Part<'_>> {
    let loads = outcome.load.iter().map(Part::Load);
    let memory = outcome.memory.iter().map(Part::Memory);
    let connect = outcome.connect.iter().map(Part::Connect);
    let fanout = outcome.fanout.iter().map(Part::Fanout);
    memory.chain(connect).chain(loads).chain(fanout).chain(outcome.storm.iter().map(Part::Storm)).collect()
}

fn trial<'a>(outcome: &'a Outcome, part: Part<'a>) -> Trial<'a> {
    let work = work(outcome, part);
    Trial { who: who(outcome, part, work.topic), figures: list(part, work.topic), work, part }
}

fn list(part: Part<'_>, topic: Topic) -> Vec<Figure> {
    match part {
        Part::Memory(memory) if topic != Topic::Memory => figures::memory_around(memory),
        Part::Memory(memory) => figures::memory(memory),
        Part::Connect(connect) => figures::connect(connect),
        Part::Load(load) => figures::load(load),
        Part::Fanout(fanout) => figures::fanout(fanout),
        Part::Storm(storm) => figures::storm(storm),
    }
}

fn topic(outcome: &Outcome, part: Part<'_>) -> Topic {
    match (part, outcome.mode.as_str()) {
        (Part::Connect(_), _) => Topic::Connect,
        (Part::Fanout(_), _) | (Part::Memory(_), "fanout") => Topic::Fanout,
        (Part::Storm(_), _) => Topic::Storm,
        (Part::Load(_) | Part::Memory(_), "slow") => Topic::Slow,
        (Part::Load(_), "proxy") => Topic::Proxy,
        (Part::Load(_), _) => Topic::Messages,
        (Part::Memory(_), _) => Topic::Memory,
    }
}

fn work(outcome: &Outcome, part: Part<'_>) -> Work {
    let topic = topic(outcome, part);
    let asked = &outcome.asked;
    let base = Work {
        topic,
        kind: String::new(),
        connections: asked.connections,
        of: asked.connections,
        size: 0,
        flags: flags(outcome, topic),
        rate: None,
    };
    match part {
        Part::Memory(_) => base,
        Part::Connect(_) => Work { kind: outcome.mode.clone(), rate: connect_rate(outcome), ..base },
        Part::Load(load) => load_work(load, base),
        Part::Fanout(_) => Work { size: asked.size, rate: asked.rate.and_then(whole), ..base },
        Part::Storm(_) => Work { rate: asked.rate.and_then(whole), ..base },
    }
}

/// Stretches that are compared with each other are the same work.
fn load_work(load: &Load, base: Work) -> Work {
    let kind = if base.topic == Topic::Messages { load.name.clone() } else { String::new() };
    let connections = if base.topic == Topic::Messages { load.connections } else { base.connections };
    Work { kind, connections, size: load.size, rate: load.rate.and_then(whole), ..base }
}

/// Only this mode connects at `--rate` from the start.
fn connect_rate(outcome: &Outcome) -> Option<u64> {
    outcome.asked.rate.filter(|_| is_about_connecting(&outcome.mode)).and_then(whole)
}

/// Whether the speed of connecting is a result of this mode. In the others it is preparation, at a pace of its own.
pub(super) fn is_about_connecting(mode: &str) -> bool {
    mode == "idle"
}

fn whole(rate: f64) -> Option<u64> {
    rate.is_finite().then(|| rate.round() as u64)
}

/// Flags that change the work and stand nowhere else in the file.
fn flags(outcome: &Outcome, topic: Topic) -> String {
    let names: &[&str] = match topic {
        Topic::Storm => &["--backoff", "--backoff-max", "--jitter"],
        Topic::Slow => &["--percent"],
        Topic::Fanout => &["--protocol", "--topics", "--acknowledged"],
        _ => &[],
    };
    names.iter().filter_map(|name| flag(&outcome.command, name)).collect::<Vec<_>>().join(" ")
}

/// A flag with its value, as it was given.
fn flag(command: &[String], name: &str) -> Option<String> {
    let at = command.iter().position(|word| word.split('=').next() == Some(name))?;
    let value = command.get(at + 1).filter(|next| command[at] == name && !next.starts_with('-'));
    Some(value.map_or(command[at].clone(), |value| format!("{name} {value}")))
}

fn who(outcome: &Outcome, part: Part<'_>, topic: Topic) -> Who {
    let stretch = match part {
        Part::Load(load) if topic != Topic::Messages => load.name.clone(),
        _ => String::new(),
    };
    Who { label: label(outcome), stretch, limited: outcome.client.bottleneck, interrupted: outcome.interrupted }
}

/// What the server is called; without a label its address.
pub(super) fn label(outcome: &Outcome) -> String {
    let names = [outcome.label.as_str(), outcome.asked.url.as_str()];
    names.into_iter().find(|name| !name.trim().is_empty()).unwrap_or("no label").to_owned()
}

/// Trials of the same work, by server.
pub(super) struct Bench<'a> {
    /// The work.
    pub(super) work: Work,
    /// Those who did it, in the order of the files.
    pub(super) groups: Vec<Group<'a>>,
}

/// Rounds of one server at the same work.
pub(super) struct Group<'a> {
    /// Whose.
    pub(super) who: Who,
    /// The rounds.
    pub(super) rounds: Vec<&'a Trial<'a>>,
}

/// All trials in the order of the page.
pub(super) fn arrange<'a>(trials: &'a [Trial<'a>]) -> Vec<Bench<'a>> {
    let mut benches: Vec<Bench<'a>> = Vec::new();
    for trial in trials {
        place(&mut benches, trial);
    }
    benches.sort_by(|a, b| a.work.cmp(&b.work));
    benches
}

fn place<'a>(benches: &mut Vec<Bench<'a>>, trial: &'a Trial<'a>) {
    match benches.iter_mut().find(|bench| bench.work == trial.work) {
        Some(bench) => bench.take(trial),
        None => benches.push(Bench { work: trial.work.clone(), groups: vec![Group::of(trial)] }),
    }
}

impl<'a> Bench<'a> {
    fn take(&mut self, trial: &'a Trial<'a>) {
        match self.groups.iter_mut().find(|group| group.who == trial.who) {
            Some(group) => group.rounds.push(trial),
            None => self.groups.push(Group::of(trial)),
        }
    }

    /// The names of all figures, in the order of the first that has them.
    pub(super) fn figures(&self) -> Vec<(&str, Unit)> {
        let mut names: Vec<(&str, Unit)> = Vec::new();
        let all = self.groups.iter().flat_map(|group| &group.rounds).flat_map(|trial| &trial.figures);
        for figure in all {
            if !names.iter().any(|(name, _)| *name == figure.name) {
                names.push((&figure.name, figure.unit));
            }
        }
        names
    }
}

impl<'a> Group<'a> {
    fn of(trial: &'a Trial<'a>) -> Group<'a> {
        Group { who: trial.who.clone(), rounds: vec![trial] }
    }

    /// A figure over the rounds that have it.
    pub(super) fn spread(&self, name: &str) -> Option<Spread> {
        let figures = self.rounds.iter().flat_map(|trial| &trial.figures);
        Spread::of(figures.filter(|figure| figure.name == name).map(|figure| figure.value))
    }
}

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The one in the middle; of two in the middle their mean.
    pub(super) median: f64,
    /// The smallest.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
    /// How many.
    pub(super) rounds: usize,
}

impl Spread {
    /// `None` without values.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = f64::midpoint(values[middle], values[(values.len() - 1) / 2]);
        Some(Spread { median, min, max, rounds: values.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Asked;

    fn echo(label: &str, rate: Option<f64>, per_second: f64) -> Run {
        let load = Load { name: "echo".into(), connections: 10, size: 64, rate, per_second, ..Load::default() };
        let asked = Asked { connections: 10, ..Asked::default() };
        let outcome =
            Outcome { mode: "echo".into(), label: label.into(), asked, load: vec![load], ..Outcome::default() };
        Run { file: String::new(), outcome }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).expect("values");
        assert_eq!((spread.median, spread.min, spread.max, spread.rounds), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of([1.0, 4.0].into_iter()).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn rounds_of_one_server_meet_and_other_work_does_not() {
        let runs = [echo("a", None, 1.0), echo("b", None, 5.0), echo("a", None, 3.0), echo("a", Some(9.0), 9.0)];
        let trials = trials(&runs);
        let benches = arrange(&trials);
        assert_eq!(benches.len(), 2);
        let names: Vec<String> = benches[0].groups.iter().map(|group| group.who.name()).collect();
        assert_eq!(names, ["a", "b"]);
        let spread = benches[0].groups[0].spread(figures::MESSAGES).expect("both rounds have it");
        assert_eq!((spread.median, spread.rounds), (2.0, 2));
        assert_eq!(benches[0].work.family(), benches[1].work.family());
    }

    #[test]
    fn what_the_client_limited_is_no_round_among_plain_ones() {
        let mut runs = [echo("a", None, 1.0), echo("a", None, 3.0), echo("a", None, 5.0)];
        runs[1].outcome.client.bottleneck = true;
        runs[2].outcome.interrupted = true;
        let trials = trials(&runs);
        let benches = arrange(&trials);
        let marks: Vec<&str> = benches[0].groups.iter().map(|group| group.who.mark()).collect();
        assert_eq!(marks, ["", "client was the limit", "interrupted"]);
        assert_eq!(benches[0].groups[1].who.show(Unit::PerSecond, 3.0), "≥ 3.00");
        assert_eq!(benches[0].groups[0].spread(figures::MESSAGES).map(|spread| spread.rounds), Some(1));
    }

    #[test]
    fn stretches_that_are_compared_are_one_work() {
        let mut run = echo("a", None, 1.0);
        run.outcome.mode = "proxy".into();
        run.outcome.load[0].name = "direct".into();
        run.outcome.load.push(Load { name: "edge".into(), ..run.outcome.load[0].clone() });
        let runs = [run];
        let trials = trials(&runs);
        let benches = arrange(&trials);
        let names: Vec<String> = benches[0].groups.iter().map(|group| group.who.name()).collect();
        assert_eq!((benches.len(), names), (1, vec!["a, direct".to_owned(), "a, edge".to_owned()]));
    }

    #[test]
    fn a_work_says_what_it_is() {
        let runs = [echo("a", Some(20_000.0), 1.0)];
        assert_eq!(trials(&runs)[0].work.title(), "Echo, 10 connections, 64 B, 20,000 messages per second");
    }

    #[test]
    fn flags_are_found_in_both_forms() {
        let command = ["slow", "--percent=20", "--jitter", "--backoff", "1s"].map(str::to_owned);
        let found = ["--percent", "--jitter", "--backoff", "--other"].map(|name| flag(&command, name));
        assert_eq!(found, [Some("--percent=20".into()), Some("--jitter".into()), Some("--backoff 1s".into()), None]);
    }

    #[test]
    fn a_server_without_a_label_has_its_address() {
        let mut run = echo(" ", None, 1.0);
        run.outcome.asked.url = "ws://127.0.0.1:1/".into();
        assert_eq!(label(&run.outcome), "ws://127.0.0.1:1/");
    }
}
