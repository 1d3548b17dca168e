//! The plan for eyes: parts with aligned columns, then what does not fit, then where the figures come from.

use std::fmt::Write as _;

use super::Plan;
use super::cpu::hundredths;
use super::limits::NOFILE_PAGE;
use super::memory::Kind;
use super::network::{Flow, Side};
use crate::app::findings::{self, bytes};
use crate::engine::finding::Finding;

/// The whole plan.
pub fn write(plan: &Plan) -> String {
    let parts = [
        ("load", load(plan)),
        ("memory", memory(plan)),
        ("cores", cores(plan)),
        ("network", network(plan)),
        ("files", files(plan)),
        ("ports", ports(plan)),
        ("sysctls", sysctls(plan)),
        ("this load on this machine", findings::text(&plan.findings)),
        ("what the figures do not show", plan.notes.iter().fold(String::new(), |text, note| text + note + "\n")),
        ("from", from(plan)),
    ];
    let mut text = String::new();
    for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(text, "{title}\n{}", indented(lines));
    }
    text + &summary(plan)
}

fn indented(lines: &str) -> String {
    lines.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// Rows of cells in aligned columns; the first is a number and stands at the right.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:>width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(line, "  {cell:<width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn load(plan: &Plan) -> String {
    let load = &plan.load;
    let counts = [
        (load.connections as f64, "", "connections".to_string()),
        (load.tls_connections as f64, "", "of them with TLS".into()),
        (load.proxied_connections as f64, "", "of them with an upstream connection each".into()),
        (load.slow_connections as f64, "", "of them do not read".into()),
        (load.message_rate, "/s", format!("messages of {} B, each answered by one of that size", load.message_bytes)),
        (
            load.publish_rate,
            "/s",
            format!("published messages of {} B to {} each", load.publish_bytes, load.subscribers),
        ),
        (load.connect_rate, "/s", "new connections".into()),
        (load.ping_rate, "/s", "pings, at most".into()),
    ];
    let said = counts.into_iter().filter(|(number, ..)| *number > 0.0);
    table(&said.map(|(number, unit, words)| [amount(number) + unit, words]).collect::<Vec<_>>())
}

fn memory(plan: &Plan) -> String {
    let memory = &plan.sums.memory;
    let mut rows = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| memory.sum(*kind) > 0) {
        rows.push([bytes(memory.sum(kind)), kind.word().to_string(), String::new()]);
        let parts = memory.parts.iter().filter(|part| part.kind == kind);
        rows.extend(parts.map(|part| {
            [String::new(), format!("{:>10}", bytes(part.bytes)), format!("{} {}", part.count, part.what)]
        }));
    }
    rows.push([bytes(memory.total_bytes), "in all".into(), String::new()]);
    table(&rows)
}

fn cores(plan: &Plan) -> String {
    let cpu = &plan.sums.cpu;
    let parts = cpu.parts.iter();
    let mut rows: Vec<[String; 2]> =
        parts.map(|part| [hundredths(part.cores), format!("{}/s {}", amount(part.per_second), part.what)]).collect();
    rows.push([hundredths(cpu.cores), "in all".into()]);
    table(&rows) + &publication(plan)
}

/// How long the last receiver waits.
fn publication(plan: &Plan) -> String {
    let (work, cores) = (plan.sums.cpu.publish_seconds, plan.sums.files.shards.min(plan.machine.cores));
    if work == 0.0 {
        return String::new();
    }
    let time = hundredths(work / cores as f64);
    format!("one published message takes {} CPU s: {time} s on {cores} cores that do nothing else\n", hundredths(work))
}

fn network(plan: &Plan) -> String {
    let network = &plan.sums.network;
    let mut rows = Vec::from(side("clients", &network.clients));
    if network.upstreams != Side::default() {
        rows.extend(side("upstreams", &network.upstreams));
        rows.extend(side("in all", &network.total));
    }
    table(&rows)
}

fn side(name: &str, side: &Side) -> [[String; 3]; 2] {
    let row = |flow: &Flow, way: &str| {
        let packets = format!("{} packets/s", amount(flow.packets_per_second));
        [bits(flow.bits_per_second), packets, format!("{way} {name}")]
    };
    let (inward, outward) = if name == "in all" { ("received", "sent") } else { ("from", "to") };
    [row(&side.inward, inward), row(&side.outward, outward)]
}

fn files(plan: &Plan) -> String {
    let files = &plan.sums.files;
    let rows = [
        [files.shards.to_string(), "shards, each with a ring and its table".into()],
        [
            files.slots_per_shard.to_string(),
            "slots per shard (server.slots_per_shard); a proxied client takes two".into(),
        ],
        [files.table_entries.to_string(), "entries of a table; RLIMIT_NOFILE must allow them".into()],
        [files.total_entries.to_string(), "entries of all tables; fs.file-max must allow them".to_string()],
    ];
    format!("{}why, and how to undo it: {NOFILE_PAGE}\n", table(&rows))
}

fn ports(plan: &Plan) -> String {
    let ports = &plan.sums.ports;
    if ports.ports == 0 {
        return String::new();
    }
    let words = format!("local ports, for {} connections to TCP upstreams: {}", ports.connections, ports.upstreams);
    table(&[[ports.ports.to_string(), words]])
}

fn sysctls(plan: &Plan) -> String {
    let rows: Vec<Finding> = plan.sysctls.iter().map(|sysctl| sysctl.row.clone()).collect();
    let page = plan.sysctls.first().map(|sysctl| format!("why, and how to undo it: {}\n", sysctl.page));
    findings::text(&rows) + &page.unwrap_or_default()
}

fn from(plan: &Plan) -> String {
    let width = plan.coefficients.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let rows = plan.coefficients.iter().map(|one| {
        let value = format!("{} {}", one.value, one.unit);
        [format!("{:<width$}", one.name), value, one.source.to_string(), one.meaning.to_string()]
    });
    table(&rows.collect::<Vec<_>>())
}

fn summary(plan: &Plan) -> String {
    let sums = &plan.sums;
    let rows = plan.sysctls.iter().map(|sysctl| &sysctl.row).chain(&plan.findings);
    let bad: Vec<&str> = rows.filter(|row| row.fails()).map(|row| row.what.as_str()).collect();
    let verdict = if bad.is_empty() { "it fits".into() } else { format!("it does not fit: {}", bad.join(", ")) };
    let (memory, cores) = (bytes(sums.memory.total_bytes), hundredths(sums.cpu.cores));
    format!("{} connections, {memory}, {cores} cores: {verdict}\n", plan.load.connections)
}

/// A number for eyes: whole, or with a fraction where it is small.
fn amount(number: f64) -> String {
    if number < 10.0 && number.fract() != 0.0 { hundredths(number) } else { format!("{number:.0}") }
}

fn bits(number: f64) -> String {
    match number {
        1e9.. => format!("{:.2} Gbit/s", number / 1e9),
        1e6.. => format!("{:.1} Mbit/s", number / 1e6),
        _ => format!("{:.1} kbit/s", number / 1e3),
    }
}
