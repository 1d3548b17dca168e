//! An outcome in words, for the terminal.

use crate::result::{Connect, Fanout, Handshakes, Latency, Load, Memory, Outcome, Process, Storm};
use crate::units::{grouped, micros, size};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All that was found.
pub fn outcome(out: &Outcome) -> String {
    let mut text = format!("{} {} against {}\n", out.tool, out.mode, out.label);
    out.connect.iter().for_each(|it| connect(&mut text, it));
    out.memory.iter().for_each(|it| memory(&mut text, it));
    out.load.iter().for_each(|it| load(&mut text, it));
    out.fanout.iter().chain(&out.fanout_slow).for_each(|it| fanout(&mut text, it));
    out.storm.iter().for_each(|it| storm(&mut text, it));
    out.fanout_again.iter().for_each(|it| fanout(&mut text, it));
    out.processes.iter().for_each(|it| process(&mut text, it));
    out.notes.iter().for_each(|note| line(&mut text, "note", note));
    if out.interrupted {
        line(&mut text, "note", "interrupted: these are the figures of the part that ran");
    }
    verdict(&mut text, out);
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<24} {value}");
}

fn connect(text: &mut String, it: &Connect) {
    let words = format!(
        "{} of {} in {:.2} s, {}/s",
        grouped(it.connected),
        grouped(it.asked),
        it.seconds,
        rounded(it.per_second)
    );
    line(text, "connected", &words);
    causes(text, &it.failed);
    if let Some(cpu) = it.server_cpu_ms_per_thousand {
        line(text, "server CPU", &format!("{cpu:.1} ms per thousand handshakes"));
    }
    it.tls.iter().for_each(|it| handshakes(text, it));
    times(text, "handshake", &it.latency);
}

fn handshakes(text: &mut String, it: &Handshakes) {
    let words =
        format!("{}, {}: {} full, {} resumed", it.version, it.cipher_suite, grouped(it.full), grouped(it.resumed));
    line(text, "TLS", &words);
    let rates = [("full", it.full_per_server_cpu_second), ("resumed", it.resumed_per_server_cpu_second)];
    for (kind, rate) in rates.into_iter().filter_map(|(kind, rate)| Some((kind, rate?))) {
        line(text, "", &format!("{} {kind} handshakes per second of the server's CPU", rounded(rate)));
    }
}

fn causes(text: &mut String, failed: &BTreeMap<String, u64>) {
    failed.iter().for_each(|(cause, count)| line(text, "failed", &format!("{} {cause}", grouped(*count))));
}

fn rounded(value: f64) -> String {
    grouped(value.round() as u64)
}

fn memory(text: &mut String, it: &Memory) {
    for reading in &it.counts {
        let user = reading.rss_bytes.map_or("server not watched".into(), |rss| format!("server RSS {}", size(rss)));
        let words = format!("{user}, kernel slab {}", size(reading.slab_bytes));
        line(text, &format!("{} connections", grouped(reading.connections)), &words);
    }
    let each = |text: &mut String, name: &str, value: Option<f64>| {
        if let Some(value) = value {
            line(text, name, &format!("{value:.0} B per connection"));
        }
    };
    each(text, "server, user (RSS)", it.user_rss_bytes);
    each(text, "server, user (PSS)", it.user_pss_bytes);
    each(text, "kernel, both ends", it.kernel_pair_bytes);
    each(text, "kernel, the tool's end", it.kernel_client_bytes);
    each(text, "kernel, a bare end", it.kernel_bare_bytes);
    each(text, "kernel, the server's end", it.kernel_server_bytes);
    each(text, "server, user and kernel", it.server_bytes);
    each(text, "whole machine, both ends", it.machine_pair_bytes);
    if let Some(cpu) = it.idle_cpu_cores_per_thousand {
        line(text, "server CPU, idle", &format!("{:.3} % of a core per 1 000 connections", cpu * 100.0));
    }
}

fn load(text: &mut String, it: &Load) {
    let asked = it.rate.map_or("closed loop".into(), |rate| format!("asked {}/s", rounded(rate)));
    let words =
        format!("{}/s ({asked}), {} connections, {} B", rounded(it.per_second), grouped(it.connections), it.size);
    line(text, &it.name, &words);
    if it.missing + it.changed > 0 {
        line(text, "", &format!("{} missing, {} changed", grouped(it.missing), grouped(it.changed)));
    }
    if let Some(cpu) = it.server_cpu_us_per_message {
        line(text, "server CPU", &format!("{cpu:.2} µs per message"));
    }
    times(text, "latency", &it.latency);
}

fn fanout(text: &mut String, it: &Fanout) {
    let slow = if it.slow > 0 { format!(" ({} more do not read)", grouped(it.slow)) } else { String::new() };
    let words = format!("{} messages to {} subscribers{slow}", grouped(it.published), grouped(it.subscribers));
    line(text, "published", &words);
    let words = format!("{:.1}/s, at most {} behind its times", it.published_per_second, micros(it.publisher_late_us));
    line(text, "", &words);
    let words = format!("{} in {:.2} s, {}/s", grouped(it.delivered), it.seconds, rounded(it.per_second));
    line(text, "delivered", &words);
    line(text, "", &format!("{} missing, {} doubled", grouped(it.missing), grouped(it.doubled)));
    if it.topics > 0 {
        let (topics, late, strange) = (grouped(it.topics), grouped(it.disordered), grouped(it.strange));
        line(text, "", &format!("{topics} topics, {late} out of order, {strange} of another topic or changed"));
    }
    if let Some(cpu) = it.server_cpu_us_per_delivery {
        line(text, "server CPU", &format!("{cpu:.2} µs per delivery"));
    }
    times(text, "each receiver", &it.latency);
    times(text, "the last receiver", &it.last);
}

fn storm(text: &mut String, it: &Storm) {
    let words = format!(
        "{} cut, {} back in {:.2} s, half in {:.2} s",
        grouped(it.cut),
        grouped(it.back),
        it.seconds,
        it.half_seconds
    );
    line(text, "storm", &words);
    line(text, "", &format!("{} attempts, at most {}/s", grouped(it.attempts), rounded(it.peak_per_second)));
    causes(text, &it.failed);
    if let Some(cpu) = it.server_cpu_seconds {
        line(text, "server CPU", &format!("{cpu:.2} s"));
    }
    it.tls.iter().for_each(|it| handshakes(text, it));
    times(text, "cut until back", &it.latency);
}

fn process(text: &mut String, it: &Process) {
    let mut name = format!("{} ({})", it.name, it.pid);
    for part in &it.parts {
        let memory = part.rss_bytes.map_or("gone".into(), |rss| format!("RSS {}", size(rss)));
        line(text, &std::mem::take(&mut name), &format!("{}: {:.2} s of CPU, {memory}", part.name, part.cpu_seconds));
    }
}

fn times(text: &mut String, name: &str, it: &Latency) {
    if it.count == 0 {
        return;
    }
    let named = [
        ("p50", it.p50_us),
        ("p90", it.p90_us),
        ("p99", it.p99_us),
        ("p99.9", it.p999_us),
        ("p99.99", it.p9999_us),
        ("max", it.max_us),
    ];
    let words: Vec<String> = named.iter().map(|(name, value)| format!("{name} {}", micros(*value))).collect();
    line(text, name, &words.join(", "));
}

fn verdict(text: &mut String, out: &Outcome) {
    let share = out.client.cpu_share * 100.0;
    if out.client.bottleneck {
        line(
            text,
            "NO SERVER RESULT",
            &format!("the tool itself was the limit ({share:.0} % of a core): the server does at least this"),
        );
    } else {
        line(
            text,
            "the tool itself",
            &format!("{share:.0} % of a core, at most {} behind its times", micros(out.client.late_us)),
        );
    }
}
