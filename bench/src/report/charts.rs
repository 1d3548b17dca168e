//! Which plots there are: for each bench those that its topic calls for and its figures allow.
//!
//! Rounds of a server share its colour; lines show every round, bars the median with a whisker from the smallest to
//! the largest. What is no plain result is dashed or hollow and says why.

use super::axis::Axis;
use super::figures::{self, P50, P99, P999};
use super::plots::{Bar, Bars, Lines, Look, Series};
use super::trials::{Bench, Group, Part, Spread, Topic, Trial, Who, Work, is_about_connecting};
use super::units::{Unit, thousands};
use crate::result::{Latency, Memory, Reading, Storm};

/// A plot with its words.
pub(super) struct Plot {
    /// The section it belongs to.
    pub(super) topic: Topic,
    /// What it shows.
    pub(super) title: String,
    /// At which work.
    pub(super) work: String,
    /// The drawing.
    pub(super) svg: String,
    /// The lines' looks and names; bars carry their names.
    pub(super) legend: Vec<(Look, String)>,
    /// The same in words, for those who do not see the drawing.
    pub(super) summary: String,
}

/// The servers in the order in which they first occur in the files: it decides colours and marks.
pub(super) struct Palette(Vec<String>);

impl Palette {
    /// Of all trials.
    pub(super) fn of(trials: &[Trial<'_>]) -> Palette {
        let mut labels: Vec<String> = Vec::new();
        for label in trials.iter().map(|trial| &trial.who.label) {
            if !labels.contains(label) {
                labels.push(label.clone());
            }
        }
        Palette(labels)
    }

    fn look(&self, who: &Who) -> Look {
        let number = self.0.iter().position(|label| *label == who.label).unwrap_or(0);
        Look { number, plain: who.is_plain(), pale: who.is_reference() }
    }
}

type Plots = Result<Vec<Plot>, String>;

/// Every plot of the page, in its order.
pub(super) fn plots(benches: &[Bench<'_>], palette: &Palette) -> Plots {
    let mut plots = Vec::new();
    for (at, bench) in benches.iter().enumerate() {
        let first_of_family = !benches[..at].iter().any(|other| other.work.family() == bench.work.family());
        if bench.work.topic == Topic::Messages && first_of_family {
            plots.extend(sweep(&Sweep::of(benches, &bench.work.family()), palette)?);
        }
        plots.extend(of_bench(bench, &Sweep::of(benches, &bench.work.family()), palette)?);
    }
    Ok(plots)
}

fn of_bench(bench: &Bench<'_>, sweep: &Sweep<'_, '_>, palette: &Palette) -> Plots {
    let chart = Charts { bench, palette };
    let kind = bench.work.kind.as_str();
    let plots = match bench.work.topic {
        Topic::Memory => chart.memory(),
        Topic::Connect if !is_about_connecting(kind) => Vec::new(),
        Topic::Connect => chart.bars(&[figures::HANDSHAKES, figures::HANDSHAKE_CPU]),
        Topic::Messages if kind == "ping" => vec![chart.percentiles("Latency by percentile", P99, loads)],
        // The bars of a sweep are its lines over the rate.
        Topic::Messages if sweep.is_one() && bench.work.rate.is_some() => chart.with_curve(&[]),
        Topic::Messages => chart.with_curve(&[figures::MESSAGES, figures::MESSAGE_CPU]),
        Topic::Fanout => chart.fanout(),
        Topic::Storm => chart.storm(),
        Topic::Slow => chart.with_curve(&[P50, P99, P999]),
        Topic::Proxy => chart.with_curve(&[P50, P99, figures::MESSAGES, figures::MESSAGE_CPU, figures::BACK_END_CPU]),
    };
    plots.into_iter().filter_map(Result::transpose).collect()
}

/// A plot, nothing where there is no data for it, or why it could not be drawn.
type Perhaps = Result<Option<Plot>, String>;

struct Charts<'b, 'a> {
    bench: &'b Bench<'a>,
    palette: &'b Palette,
}

impl Charts<'_, '_> {
    fn memory(&self) -> Vec<Perhaps> {
        let rss = |reading: &Reading| reading.rss_bytes;
        let pss = |reading: &Reading| reading.pss_bytes;
        let slab = |reading: &Reading| Some(reading.slab_bytes);
        let lines = [
            self.slope("Growth of the server's user memory (RSS)", "RSS", figures::USER_BYTES, &rss),
            self.slope("Growth of the server's user memory (PSS)", "PSS", figures::USER_BYTES_PSS, &pss),
            self.slope("Growth of the kernel's slab, both ends", "Slab", figures::PAIR_BYTES, &slab),
        ];
        let bars = self.bars(&[figures::USER_BYTES, figures::SERVER_BYTES, figures::MACHINE_BYTES]);
        lines.into_iter().chain(bars).collect()
    }

    fn fanout(&self) -> Vec<Perhaps> {
        let mut plots = self.bars(&[figures::DELIVERIES, figures::DELIVERY_CPU]);
        plots.push(self.percentiles("Latency of each receipt", P99, |part| match part {
            Part::Fanout(fanout) => Some(&fanout.latency),
            _ => None,
        }));
        plots.push(self.percentiles("Latency of the last receiver", figures::LAST_P99, |part| match part {
            Part::Fanout(fanout) => Some(&fanout.last),
            _ => None,
        }));
        plots
    }

    fn storm(&self) -> Vec<Perhaps> {
        let mut plots = vec![self.timeline()];
        plots.extend(self.bars(&[figures::RECOVERY, figures::PEAK]));
        plots
    }

    fn with_curve(&self, names: &[&str]) -> Vec<Perhaps> {
        let mut plots = self.bars(names);
        plots.push(self.percentiles("Latency by percentile", P99, loads));
        plots
    }

    fn plot(&self, title: &str, svg: String, legend: Vec<(Look, String)>, summary: String) -> Plot {
        let (topic, work) = (self.bench.work.topic, self.bench.work.title());
        Plot { topic, title: title.to_owned(), work, svg, legend, summary }
    }

    /// One line for each round; nothing where no line has points. The summary is about `figure`.
    fn lines(&self, title: &str, figure: &str, Line { points, axes, words }: Line<'_>) -> Perhaps {
        let mut series = Vec::new();
        let mut legend = Vec::new();
        for group in &self.bench.groups {
            let look = self.palette.look(&group.who);
            let rounds = group.rounds.iter().map(|trial| Series { look, points: points(trial) });
            let rounds: Vec<Series> = rounds.filter(|round| !round.points.is_empty()).collect();
            if !rounds.is_empty() {
                legend.push((look, said(&group.who, &words(group))));
            }
            series.extend(rounds);
        }
        drawn(series, axes)?.map_or(Ok(None), |svg| Ok(Some(self.plot(title, svg, legend, self.ends(figure)))))
    }

    /// Who has the least of a figure, and who the most; among plain results, if there are any.
    fn ends(&self, figure: &str) -> String {
        let Some(unit) = self.unit(figure) else { return String::new() };
        let mut rows: Vec<Row<'_>> = self.bench.groups.iter().filter_map(|group| Row::of(group, figure)).collect();
        let plain = rows.iter().any(|row| row.who.is_plain());
        rows.retain(|row| row.who.is_plain() == plain);
        rows.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
        let said = |row: &Row<'_>| format!("{} {}", row.who.title(), row.who.show(unit, row.spread.median));
        match rows.as_slice() {
            [] => String::new(),
            [only] => format!("{figure}: {}.", said(only)),
            [least, .., most] => format!("{figure}: least {}, most {}.", said(least), said(most)),
        }
    }

    fn unit(&self, figure: &str) -> Option<Unit> {
        self.bench.figures().into_iter().find(|(name, _)| *name == figure).map(|(_, unit)| unit)
    }

    fn most_connections(&self) -> u64 {
        let trials = self.bench.groups.iter().flat_map(|group| &group.rounds);
        let memories =
            trials.filter_map(|trial| if let Part::Memory(memory) = trial.part { Some(memory) } else { None });
        memories.flat_map(|memory| &memory.counts).map(|reading| reading.connections).max().unwrap_or(0)
    }

    fn slope(&self, title: &str, what: &str, figure: &str, bytes: &dyn Fn(&Reading) -> Option<u64>) -> Perhaps {
        let axes = |xs: &[f64], ys: &[f64]| {
            let x = Axis::linear("connections", Unit::Count, xs);
            (x, Axis::linear("bytes more than at the first count", Unit::Bytes, ys))
        };
        let words = |group: &Group<'_>| match group.spread(figure) {
            Some(spread) => format!("{} per connection", Unit::BytesEach.show(spread.median)),
            None => String::new(),
        };
        let largest = figures::reading_at(what, self.most_connections());
        self.lines(title, &largest, Line { points: &|trial| growth(trial.part, bytes), axes: &axes, words: &words })
    }

    fn timeline(&self) -> Perhaps {
        let axes = |xs: &[f64], ys: &[f64]| {
            let x = Axis::linear("seconds since the cut", Unit::Seconds, xs);
            (x, Axis::linear("clients connected", Unit::Count, ys))
        };
        let points = |trial: &Trial<'_>| match trial.part {
            Part::Storm(storm) => storm.timeline.iter().map(|&(seconds, clients)| (seconds, clients as f64)).collect(),
            _ => Vec::new(),
        };
        let line = Line { points: &points, axes: &axes, words: &storm_words };
        self.lines("Clients connected after the cut", figures::RECOVERY, line)
    }

    /// `latency` picks the distribution.
    fn percentiles(&self, title: &str, figure: &str, latency: fn(Part<'_>) -> Option<&Latency>) -> Perhaps {
        let all = self.bench.groups.iter().flat_map(|group| &group.rounds);
        let count = all.filter_map(|trial| latency(trial.part)).map(|latency| latency.count).max().unwrap_or(0);
        let axes = |_: &[f64], ys: &[f64]| {
            let x = Axis::nines("percentile: share of the values at or below", count);
            (x, Axis::log("latency", Unit::Micros, ys))
        };
        let points = |trial: &Trial<'_>| latency(trial.part).map(curve).unwrap_or_default();
        let words = |group: &Group<'_>| latency_words(group, latency);
        self.lines(title, figure, Line { points: &points, axes: &axes, words: &words })
    }

    fn bars(&self, names: &[&str]) -> Vec<Perhaps> {
        names.iter().map(|name| self.comparison(name)).collect()
    }

    fn comparison(&self, name: &str) -> Perhaps {
        let Some(unit) = self.unit(name) else { return Ok(None) };
        let mut rows: Vec<Row<'_>> = self.bench.groups.iter().filter_map(|group| Row::of(group, name)).collect();
        if self.bench.work.topic != Topic::Slow {
            best_first(&mut rows, unit);
        }
        let bars = rows.iter().map(|row| row.bar(unit, self.palette)).collect();
        let svg = Bars { title: axis_title(name, unit), unit, rows: bars }.svg()?;
        Ok(Some(self.plot(name, svg, Vec::new(), bars_summary(&rows, unit))))
    }
}

/// What makes a plot of lines: the points of a round, the axes over all of them, a group's words in the legend.
struct Line<'f> {
    points: &'f dyn Fn(&Trial<'_>) -> Vec<(f64, f64)>,
    axes: &'f AxesOf<'f>,
    words: &'f dyn Fn(&Group<'_>) -> String,
}

type AxesOf<'f> = dyn Fn(&[f64], &[f64]) -> (Axis, Axis) + 'f;

fn drawn(series: Vec<Series>, axes: &AxesOf<'_>) -> Result<Option<String>, String> {
    if series.is_empty() {
        return Ok(None);
    }
    let all = || series.iter().flat_map(|series| &series.points);
    let xs: Vec<f64> = all().map(|point| point.0).collect();
    let ys: Vec<f64> = all().map(|point| point.1).collect();
    let (x, y) = axes(&xs, &ys);
    Lines { x, y, series }.svg().map(Some)
}

/// A name with what is to be said of it.
fn said(who: &Who, words: &str) -> String {
    if words.is_empty() { who.title() } else { format!("{}: {words}", who.title()) }
}

fn sentence<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    format!("{}.", parts.collect::<Vec<_>>().join("; "))
}

// ---- memory ----

/// From the first reading on: what stood before has nothing to do with the connections, and would hide the slope. Where
/// all readings are of one count there is none.
fn growth(part: Part<'_>, bytes: &dyn Fn(&Reading) -> Option<u64>) -> Vec<(f64, f64)> {
    let Part::Memory(Memory { counts, .. }) = part else { return Vec::new() };
    let read = counts.iter().filter_map(|reading| Some((reading.connections as f64, bytes(reading)? as f64)));
    let read: Vec<(f64, f64)> = read.collect();
    let Some(&(least, first)) = read.first() else { return Vec::new() };
    if read.iter().all(|&(connections, _)| connections == least) {
        return Vec::new();
    }
    read.into_iter().map(|(connections, bytes)| (connections, bytes - first)).collect()
}

// ---- latency ----

fn loads(part: Part<'_>) -> Option<&Latency> {
    if let Part::Load(load) = part { Some(&load.latency) } else { None }
}

/// The curve, as far as so many values can tell; where a file has none, the percentiles it names.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    if latency.count == 0 {
        return Vec::new();
    }
    let last = 1.0 - 1.0 / latency.count as f64;
    let named = || {
        let named = [(0.5, latency.p50_us), (0.9, latency.p90_us), (0.99, latency.p99_us)];
        named.into_iter().chain([(0.999, latency.p999_us), (0.9999, latency.p9999_us), (1.0, latency.max_us)])
    };
    let points = if latency.curve.is_empty() { named().collect() } else { latency.curve.clone() };
    points.into_iter().map(|(quantile, micros)| (quantile.min(last), micros)).collect()
}

fn latency_words(group: &Group<'_>, latency: fn(Part<'_>) -> Option<&Latency>) -> String {
    let median = |pick: fn(&Latency) -> f64| {
        let values = group.rounds.iter().filter_map(|trial| latency(trial.part)).filter(|latency| latency.count > 0);
        Spread::of(values.map(pick)).map_or(String::new(), |spread| Unit::Micros.show(spread.median))
    };
    format!("p50 {}, p99 {}, p99.9 {}", median(|l| l.p50_us), median(|l| l.p99_us), median(|l| l.p999_us))
}

// ---- storms ----

fn storm_words(group: &Group<'_>) -> String {
    let storms =
        || group.rounds.iter().filter_map(|trial| if let Part::Storm(storm) = trial.part { Some(storm) } else { None });
    let lost: u64 = storms().map(|storm| storm.cut.saturating_sub(storm.back)).sum();
    let seconds = |pick: fn(&Storm) -> f64| {
        Spread::of(storms().map(pick)).map_or(String::new(), |spread| Unit::Seconds.show(spread.median))
    };
    match lost {
        0 => format!("half back after {}, all after {}", seconds(|s| s.half_seconds), seconds(|s| s.seconds)),
        lost => format!("half back after {}, {} never", seconds(|s| s.half_seconds), thousands(lost as f64)),
    }
}

// ---- bars ----

struct Row<'a> {
    who: &'a Who,
    spread: Spread,
}

impl<'a> Row<'a> {
    fn of(group: &'a Group<'_>, name: &str) -> Option<Row<'a>> {
        Some(Row { who: &group.who, spread: group.spread(name)? })
    }

    fn bar(&self, unit: Unit, palette: &Palette) -> Bar {
        let Spread { median, min, max, rounds } = self.spread;
        let whisker = (rounds > 1).then_some((min, max));
        let value = self.who.show(unit, median);
        let (name, mark) = (self.who.name(), self.who.mark());
        Bar { look: palette.look(self.who), name, mark, value, length: median, whisker }
    }

    fn words(&self, unit: Unit) -> String {
        let Spread { median, min, max, rounds } = self.spread;
        let value = format!("{} {}", self.who.title(), self.who.show(unit, median));
        let (min, max) = (unit.show(min), unit.show(max));
        if rounds > 1 && min != max { format!("{value} ({min} to {max})") } else { value }
    }
}

/// Much is good where things per second are counted, and little where costs are. What is no plain result has no rank
/// and comes last.
fn best_first(rows: &mut [Row<'_>], unit: Unit) {
    rows.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
    if unit == Unit::PerSecond {
        rows.reverse();
    }
    rows.sort_by_key(|row| !row.who.is_plain());
}

fn bars_summary(rows: &[Row<'_>], unit: Unit) -> String {
    let words: Vec<String> = rows.iter().map(|row| row.words(unit)).collect();
    let several = rows.iter().any(|row| row.spread.rounds > 1);
    let spread = " The median of the rounds; in brackets, and as whiskers, the smallest and the largest.";
    format!("{}{}", sentence(words.iter().map(String::as_str)), if several { spread } else { "" })
}

fn axis_title(name: &str, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format!("{} (more is better)", lower_first(name)),
        Unit::BytesEach => "bytes per connection (less is better)".to_owned(),
        _ => format!("{} (less is better)", lower_first(name)),
    }
}

/// As within a sentence.
fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    format!("{first}{}", chars.as_str())
}

// ---- over the rate ----

/// The same work at several rates.
struct Sweep<'b, 'a> {
    family: Work,
    benches: Vec<&'b Bench<'a>>,
}

impl<'b, 'a> Sweep<'b, 'a> {
    fn of(benches: &'b [Bench<'a>], family: &Work) -> Sweep<'b, 'a> {
        let at_a_rate = |bench: &&Bench<'_>| bench.work.rate.is_some() && bench.work.family() == *family;
        Sweep { family: family.clone(), benches: benches.iter().filter(at_a_rate).collect() }
    }

    /// Two rates at least.
    fn is_one(&self) -> bool {
        self.benches.len() > 1
    }

    fn whos(&self) -> Vec<&'b Who> {
        let mut whos: Vec<&Who> = Vec::new();
        for who in self.benches.iter().flat_map(|bench| &bench.groups).map(|group| &group.who) {
            if !whos.contains(&who) {
                whos.push(who);
            }
        }
        whos
    }

    /// A figure of one server by rate, the median of its rounds.
    fn points(&self, who: &Who, figure: &str) -> Vec<(f64, f64)> {
        let point = |bench: &&Bench<'_>| {
            let group = bench.groups.iter().find(|group| group.who == *who)?;
            Some((bench.work.rate? as f64, group.spread(figure)?.median))
        };
        self.benches.iter().filter_map(point).collect()
    }
}

const PERCENTILES: [(&str, &str); 3] = [("p50", P50), ("p99", P99), ("p99.9", P999)];

/// One server: all percentiles in one plot. Several: a plot for each percentile, to compare the servers in.
fn sweep(sweep: &Sweep<'_, '_>, palette: &Palette) -> Plots {
    if !sweep.is_one() {
        return Ok(Vec::new());
    }
    let whos = sweep.whos();
    let one_name = whos.iter().all(|who| who.name() == whos[0].name());
    let line = |who: &Who, figure: &str| (palette.look(who), who.title(), sweep.points(who, figure));
    let lines = |figure: &str| whos.iter().map(|who| line(who, figure)).collect();
    let over_rate = |(name, figure): (&str, &str)| {
        sweep_plot(sweep, &format!("Latency {name} over offered rate"), Axis::log, lines(figure))
    };
    let mut plots: Vec<Perhaps> =
        if one_name { vec![sweep_of_one(sweep, &whos)] } else { PERCENTILES.into_iter().map(over_rate).collect() };
    let title = "Server CPU per message over offered rate";
    plots.push(sweep_plot(sweep, title, Axis::linear, lines(figures::MESSAGE_CPU)));
    plots.into_iter().filter_map(Result::transpose).collect()
}

fn sweep_of_one(sweep: &Sweep<'_, '_>, whos: &[&Who]) -> Perhaps {
    let mut lines = Vec::new();
    for (number, (name, figure)) in PERCENTILES.into_iter().enumerate() {
        let look = |who: &Who| Look { number, plain: who.is_plain(), pale: false };
        lines.extend(whos.iter().map(|who| (look(who), format!("{}, {name}", who.title()), sweep.points(who, figure))));
    }
    sweep_plot(sweep, "Latency over offered rate", Axis::log, lines)
}

type Upwards = fn(&str, Unit, &[f64]) -> Axis;

/// A line of a sweep: its looks, its name, its points.
type Swept = (Look, String, Vec<(f64, f64)>);

/// `upwards` makes the axis of the values, which are times.
fn sweep_plot(sweep: &Sweep<'_, '_>, title: &str, upwards: Upwards, lines: Vec<Swept>) -> Perhaps {
    let lines: Vec<Swept> = lines.into_iter().filter(|line| !line.2.is_empty()).collect();
    let axes = |xs: &[f64], ys: &[f64]| {
        let x = Axis::fitting("messages per second offered", Unit::PerSecond, xs);
        (x, upwards("time", Unit::Micros, ys))
    };
    let summary: Vec<String> = lines.iter().map(|(_, name, points)| sweep_words(name, points)).collect();
    let legend = lines.iter().map(|(look, name, _)| (*look, name.clone())).collect();
    let series = lines.into_iter().map(|(look, _, points)| Series { look, points }).collect();
    let summary = sentence(summary.iter().map(String::as_str));
    let (topic, work) = (sweep.family.topic, sweep.family.title_without_rate());
    let plot = |svg| Plot { topic, title: title.to_owned(), work, svg, legend, summary };
    Ok(drawn(series, &axes)?.map(plot))
}

fn sweep_words(name: &str, points: &[(f64, f64)]) -> String {
    let at = |&(rate, micros): &(f64, f64)| format!("{} at {}", Unit::Micros.show(micros), Unit::PerSecond.tick(rate));
    let ends = [points.first(), points.last().filter(|_| points.len() > 1)];
    let words: Vec<String> = ends.into_iter().flatten().map(at).collect();
    format!("{name}: {} messages per second", words.join(", "))
}
