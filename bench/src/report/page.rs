//! The page: headline, what to know first, plots by topic, every figure, machines, runs.

use super::charts::{Palette, Plot, plots};
use super::figures as names;
use super::html::{each, escape, shell};
use super::plots::Look;
use super::tables;
use super::trials::{Bench, Group, Run, Topic, arrange, is_about_connecting, label, trials};
use super::units::{Unit, plural, thousands};
use crate::result::{Asked, Outcome};

const STYLE: &str = include_str!("page.css");

const TOPICS: [(Topic, &str, &str); 7] = [
    (Topic::Memory, "memory", "Memory of idle connections"),
    (Topic::Connect, "connect", "Connecting"),
    (Topic::Messages, "messages", "Messages there and back"),
    (Topic::Fanout, "fanout", "One message to many"),
    (Topic::Storm, "storm", "All cut, all back"),
    (Topic::Slow, "slow", "Readers that stop"),
    (Topic::Proxy, "proxy", "Through an edge and without it"),
];

/// The whole page. The error says which plot could not be drawn.
pub(super) fn write(title: &str, runs: &[Run]) -> Result<String, String> {
    let trials = trials(runs);
    let benches = arrange(&trials);
    let plots = plots(&benches, &Palette::of(&trials))?;
    let title = escape(title);
    let body = [
        header(&title, runs),
        contents(&plots),
        notices(runs),
        summary(&benches),
        sections(&plots),
        figures(&benches),
        origins(runs),
    ];
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n{}</body>\n</html>\n",
        body.concat()
    ))
}

fn header(title: &str, runs: &[Run]) -> String {
    let mut labels: Vec<String> = Vec::new();
    for label in runs.iter().map(|run| label(&run.outcome)) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let servers = if labels.len() > 1 { "servers" } else { "server" };
    let names = escape(&labels.join(", "));
    let runs = plural(runs.len(), "run");
    format!("<header><h1>{title}</h1>\n<p>{runs}; {servers}: {names}</p></header>\n")
}

fn contents(plots: &[Plot]) -> String {
    let topics = TOPICS.iter().filter(|(topic, ..)| plots.iter().any(|plot| plot.topic == *topic));
    let own = topics.map(|(_, id, title)| (*id, *title));
    let own = [("summary", "Summary")].into_iter().chain(own);
    let always = [("figures", "Every figure"), ("machines", "Machines"), ("runs", "Runs")];
    let links = each(own.chain(always), |(id, title)| format!("<a href=\"#{id}\">{title}</a>\n"));
    format!("<nav aria-label=\"Contents\">\n{links}</nav>\n<main>\n")
}

// ---- what to know first ----

fn notices(runs: &[Run]) -> String {
    let limited = files(runs, |outcome| outcome.client.bottleneck);
    let interrupted = files(runs, |outcome| outcome.interrupted);
    let mut notices = Vec::new();
    if !limited.is_empty() {
        notices.push(format!(
            "<b>The client was the limit</b> in {} of {}: its own busiest thread was above 80 % of a core. What such a \
             run counts per second is at least so much (≥) and no result of the server; its bars are hollow, its lines \
             dashed. {}",
            thousands(limited.len() as f64),
            plural(runs.len(), "run"),
            list(&limited)
        ));
    }
    if !interrupted.is_empty() {
        let count = plural(interrupted.len(), "run");
        notices
            .push(format!("<b>Interrupted:</b> {count}; the figures are of the part that ran. {}", list(&interrupted)));
    }
    notices.extend(several_machines(runs));
    each(notices, |notice| format!("<p class=\"notice\" role=\"note\">{notice}</p>\n"))
}

fn files(runs: &[Run], is: fn(&Outcome) -> bool) -> Vec<&str> {
    runs.iter().filter(|run| is(&run.outcome)).map(|run| run.file.as_str()).collect()
}

fn list(files: &[&str]) -> String {
    format!("<span class=\"files\">{}</span>", escape(&files.join(", ")))
}

fn several_machines(runs: &[Run]) -> Option<String> {
    let machines = tables::distinct(runs).len();
    let words = "<b>The runs are of different machines or settings</b>: figures of different ones are no comparison of \
                 servers. <a href=\"#machines\">Machines</a> lists them.";
    (machines > 1).then(|| words.to_owned())
}

// ---- the summary ----

/// What a reader asks of a topic first.
fn headlines(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::Memory => &[names::USER_BYTES, names::SERVER_BYTES],
        Topic::Connect => &[names::HANDSHAKES, names::HANDSHAKE_CPU],
        Topic::Messages | Topic::Proxy => &[names::MESSAGES, names::MESSAGE_CPU, names::P50, names::P99],
        Topic::Fanout => &[names::DELIVERIES, names::DELIVERY_CPU, names::LAST_P99],
        Topic::Storm => &[names::RECOVERY, names::PEAK],
        Topic::Slow => &[names::P50, names::P99],
    }
}

/// The medians of each work and server, in a line each.
fn summary(benches: &[Bench<'_>]) -> String {
    let items = each(benches.iter().filter(|bench| is_result(bench)), |bench| {
        let groups = each(&bench.groups, |group| said_of(bench, group));
        if groups.is_empty() { groups } else { format!("<dt>{}</dt>\n{groups}", escape(&bench.work.title())) }
    });
    let list = format!("<section id=\"summary\">\n<h2>Summary</h2>\n<dl>\n{items}</dl>\n</section>\n");
    if items.is_empty() { items } else { list }
}

/// Connecting is preparation in most modes.
fn is_result(bench: &Bench<'_>) -> bool {
    bench.work.topic != Topic::Connect || is_about_connecting(&bench.work.kind)
}

fn said_of(bench: &Bench<'_>, group: &Group<'_>) -> String {
    let units = bench.figures();
    let words = headlines(bench.work.topic).iter().filter_map(|name| {
        let (_, unit) = units.iter().find(|(figure, _)| figure == name)?;
        Some(format!("{name} {}", group.who.show(*unit, group.spread(name)?.median)))
    });
    let words = words.collect::<Vec<_>>().join("; ");
    let item = format!("<dd><b>{}</b>: {}</dd>\n", escape(&group.who.title()), escape(&words));
    if words.is_empty() { words } else { item }
}

// ---- plots ----

fn sections(plots: &[Plot]) -> String {
    each(TOPICS, |(topic, id, title)| section(topic, id, title, plots))
}

fn section(topic: Topic, id: &str, title: &str, plots: &[Plot]) -> String {
    let numbered = plots.iter().enumerate().filter(|(_, plot)| plot.topic == topic);
    let figures = each(numbered, |(number, plot)| figure(number + 1, plot));
    match figures.as_str() {
        "" => figures,
        _ => format!("<section id=\"{id}\">\n<h2>{title}</h2>\n<div class=\"plots\">\n{figures}</div>\n</section>\n"),
    }
}

fn figure(number: usize, plot: &Plot) -> String {
    let Plot { title, work, summary, .. } = plot;
    let described = if plot.legend.is_empty() { format!("s{number}") } else { format!("l{number} s{number}") };
    let named = format!("<svg role=\"img\" aria-labelledby=\"t{number} w{number}\" aria-describedby=\"{described}\" ");
    format!(
        "<figure class=\"plot\">\n<h3 id=\"t{number}\">{}</h3>\n<p id=\"w{number}\" class=\"work\">{}</p>\n{}{}\
         <figcaption id=\"s{number}\">{}</figcaption>\n</figure>\n",
        escape(title),
        escape(work),
        legend(number, &plot.legend),
        plot.svg.replacen("<svg ", &named, 1),
        escape(summary)
    )
}

fn legend(number: usize, entries: &[(Look, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let items = each(entries, |(look, words)| {
        let (colour, mark) = (look.colour(), look.mark());
        let pale = if look.pale { " pale" } else { "" };
        let words = escape(words);
        format!("<li><span class=\"c{colour}{pale}\" aria-hidden=\"true\">{mark}</span> <span>{words}</span></li>\n")
    });
    format!("<ul id=\"l{number}\" class=\"legend\">\n{items}</ul>\n")
}

// ---- tables ----

fn figures(benches: &[Bench<'_>]) -> String {
    let topics = each(TOPICS, |(topic, _, title)| {
        let tables = each(benches.iter().filter(|bench| bench.work.topic == topic), tables::bench);
        if tables.is_empty() { tables } else { format!("<h3>{title}</h3>\n{tables}") }
    });
    format!(
        "<section id=\"figures\">\n<h2>Every figure</h2>\n<p>Each cell: the median of the rounds, below it the \
         smallest and the largest where they differ. 1 KiB is 1,024 bytes. Latency counts from the time at which a \
         message was meant to be sent.</p>\n{topics}</section>\n"
    )
}

fn origins(runs: &[Run]) -> String {
    format!(
        "<section id=\"machines\">\n<h2>Machines</h2>\n{}</section>\n<section id=\"runs\">\n<h2>Runs</h2>\n{}{}\
         </section>\n</main>\n",
        tables::machines(runs),
        notes(runs),
        each(runs, run)
    )
}

/// What a reader must know before using the figures: each note once, with the runs that say it.
fn notes(runs: &[Run]) -> String {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for (note, file) in runs.iter().flat_map(|run| run.outcome.notes.iter().map(|note| (note, run.file.as_str()))) {
        match notes.iter_mut().find(|(said, _)| said == note) {
            Some((_, files)) => files.push(file),
            None => notes.push((note, vec![file])),
        }
    }
    let items = each(notes, |(note, files)| format!("<li>{} {}</li>\n", escape(note), list(&files)));
    if items.is_empty() { items } else { format!("<h3>Notes</h3>\n<ul class=\"notes\">\n{items}</ul>\n") }
}

/// Folded, as there may be many: what it was in the line, how it was made inside.
fn run(Run { file, outcome }: &Run) -> String {
    let marks = [(outcome.client.bottleneck, "client was the limit: at least"), (outcome.interrupted, "interrupted")];
    let marks = each(marks.iter().filter(|mark| mark.0), |(_, words)| format!(" <span class=\"mark\">{words}</span>"));
    format!(
        "<details>\n<summary>{}: {} <span class=\"files\">{}</span>{marks}</summary>\n<pre><code>{}</code></pre>\n\
         <p>{}</p>\n<p>{}</p>\n</details>\n",
        escape(&label(outcome)),
        escape(&outcome.mode),
        escape(file),
        escape(&shell(&outcome.command)),
        escape(&format!("Begun {} by {}.", outcome.started, outcome.tool)),
        escape(&format!("{}. {}", asked(&outcome.asked), client(outcome)))
    )
}

fn asked(asked: &Asked) -> String {
    let rate = asked.rate.map_or("as fast as it goes".to_owned(), |rate| format!("{} per second", thousands(rate)));
    let pid = asked.server_pid.map_or("server not watched".to_owned(), |pid| format!("server's process {pid}"));
    let parts = [
        asked.url.clone(),
        plural(asked.connections as usize, "connection"),
        rate,
        format!("{} B", thousands(asked.size as f64)),
        format!("{} measured", Unit::Seconds.show(asked.duration_s)),
        format!("{} held", Unit::Seconds.show(asked.hold_s)),
        plural(asked.threads, "thread"),
        pid,
    ];
    format!("Asked: {}", parts.join(", "))
}

fn client(outcome: &Outcome) -> String {
    let (share, late) = (Unit::Share.show(outcome.client.cpu_share), Unit::Micros.show(outcome.client.late_us));
    format!("The client's busiest thread took {share} of a core and was late by {late} at the most.")
}
