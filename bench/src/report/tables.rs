//! Tables: every figure of every bench, and the machines that the runs were made on.

use super::html::{each, escape};
use super::trials::{Bench, Group, Run, Spread};
use super::units::{Unit, plural, thousands};
use crate::result::Machine;

/// One bench: a row for each figure, a column for each server.
pub(super) fn bench(bench: &Bench<'_>) -> String {
    let heads = each(&bench.groups, head);
    let rows = each(bench.figures(), |(name, unit)| row(bench, name, unit));
    let title = escape(&bench.work.title());
    format!(
        "<h4>{title}</h4>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\"><table>\n\
         <thead><tr><th scope=\"col\">Figure</th>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn head(group: &Group<'_>) -> String {
    let name = escape(&group.who.name());
    let mark = match group.who.mark() {
        "" => String::new(),
        mark => format!("<span class=\"mark\">{mark}</span>"),
    };
    format!("<th scope=\"col\">{name}{mark}<small>{}</small></th>", plural(group.rounds.len(), "round"))
}

fn row(bench: &Bench<'_>, name: &str, unit: Unit) -> String {
    let cells = each(&bench.groups, |group| cell(group, name, unit));
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(name))
}

/// The median; below it the smallest and the largest, where there were several rounds.
fn cell(group: &Group<'_>, name: &str, unit: Unit) -> String {
    let Some(spread) = group.spread(name) else { return "<td class=\"none\">–</td>".to_owned() };
    let fault = if unit == Unit::Faults && spread.max > 0.0 { " class=\"fault\"" } else { "" };
    format!("<td{fault}>{}{}</td>", group.who.show(unit, spread.median), range(group, spread, unit))
}

/// Nothing where all rounds say the same.
fn range(group: &Group<'_>, Spread { min, max, rounds, .. }: Spread, unit: Unit) -> String {
    let (min, max, of) = (unit.show(min), unit.show(max), group.rounds.len());
    let range = if min == max { String::new() } else { format!("<small>{min} … {max}</small>") };
    let partly = if rounds == of { String::new() } else { format!("<small>in {rounds} of {of}</small>") };
    format!("{range}{partly}")
}

/// Each machine once, with the files of the runs that were made on it.
pub(super) fn machines(runs: &[Run]) -> String {
    each(distinct(runs), |(machine, files)| {
        let files = if files.len() == runs.len() { "all runs".to_owned() } else { files.join(", ") };
        let rows = each(facts(machine), |(name, value)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(&name), escape(&value))
        });
        let label = "The machine and its settings";
        format!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table class=\"facts\">\
             <caption>{}</caption>\n<tbody>{rows}</tbody></table></div>\n",
            escape(&files)
        )
    })
}

/// The machines of all runs; two are one if every setting is the same.
pub(super) fn distinct(runs: &[Run]) -> Vec<(&Machine, Vec<&str>)> {
    let mut machines: Vec<(&Machine, Vec<&str>)> = Vec::new();
    for Run { file, outcome } in runs {
        match machines.iter_mut().find(|(machine, _)| facts(machine) == facts(&outcome.machine)) {
            Some((_, files)) => files.push(file),
            None => machines.push((&outcome.machine, vec![file])),
        }
    }
    machines
}

fn facts(machine: &Machine) -> Vec<(String, String)> {
    let fixed = [
        ("Processor", machine.cpu.clone()),
        ("Cores", thousands(machine.cores as f64)),
        ("Memory", Unit::Bytes.show(machine.memory_bytes as f64)),
        ("Kernel", machine.kernel.clone()),
        ("Open files a process (RLIMIT_NOFILE)", thousands(machine.nofile as f64)),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
    fixed.chain(machine.sysctls.clone()).collect()
}
