//! The whole way from files to a page.

use super::*;
use crate::result::{Asked, Connect, Fanout, Latency, Load, Machine, Memory, Reading, Storm};
use std::collections::BTreeMap;

/// A folder that goes when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("edgehold-report-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path
    }

    fn outcome(&self, name: &str, outcome: &Outcome) -> PathBuf {
        self.file(name, &serde_json::to_string(outcome).expect("an outcome is JSON"))
    }

    fn report(&self, files: Vec<PathBuf>) -> Result<String, Failure> {
        let output = self.0.join("report.html");
        run(&cli::Report { files, output: output.clone(), title: "Title <&>".into() })?;
        Ok(fs::read_to_string(output).expect("the page was written"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn latency(count: u64) -> Latency {
    let curve = vec![(0.0, 20.0), (0.5, 50.0), (0.99, 900.0), (1.0, 2_000.0)];
    let named = Latency { p50_us: 50.0, p90_us: 80.0, p99_us: 900.0, p999_us: 1_500.0, ..Latency::default() };
    Latency { count, mean_us: 60.0, p9999_us: 2_000.0, max_us: 2_000.0, curve, ..named }
}

fn load(name: &str, rate: Option<f64>) -> Load {
    let (connections, size, per_second) = (1_000, 64, rate.unwrap_or(150_000.0));
    let cost = Some(4.5);
    let base = Load { name: name.into(), connections, size, rate, per_second, ..Load::default() };
    Load { server_cpu_us_per_message: cost, latency: latency(100_000), ..base }
}

fn outcome(mode: &str, label: &str) -> Outcome {
    let asked = Asked { connections: 1_000, ..Asked::default() };
    let command = vec!["edgehold-bench".to_owned(), mode.to_owned()];
    Outcome { schema: SCHEMA, mode: mode.into(), label: label.into(), asked, command, ..Outcome::default() }
}

fn idle(label: &str) -> Outcome {
    let at = |connections| {
        let (rss, pss) = (Some(1_000_000 + 140 * connections), Some(900_000 + 140 * connections));
        Reading { connections, rss_bytes: rss, pss_bytes: pss, slab_bytes: 8_000 * connections, ..Reading::default() }
    };
    let slopes = Memory { user_rss_bytes: Some(140.0), server_bytes: Some(4_300.0), ..Memory::default() };
    let memory = Memory { counts: [0, 500, 1_000].map(at).to_vec(), machine_pair_bytes: Some(9_000.0), ..slopes };
    let connect = Connect { asked: 1_000, connected: 1_000, per_second: 30_000.0, ..Connect::default() };
    Outcome { memory: Some(memory), connect: Some(connect), ..outcome("idle", label) }
}

fn echo(label: &str, rate: Option<f64>) -> Outcome {
    Outcome { load: vec![load("echo", rate)], ..outcome("echo", label) }
}

fn fanout(label: &str) -> Outcome {
    let fanout = Fanout { per_second: 9.0, latency: latency(900), last: latency(90), ..Fanout::default() };
    Outcome { fanout: Some(fanout), ..outcome("fanout", label) }
}

fn storm(label: &str) -> Outcome {
    let timeline = vec![(0.0, 0), (1.0, 700), (2.0, 1_000)];
    let storm = Storm { cut: 1_000, back: 1_000, seconds: 2.0, half_seconds: 0.8, timeline, ..Storm::default() };
    Outcome { storm: Some(storm), ..outcome("storm", label) }
}

fn page(outcomes: &[Outcome]) -> String {
    let run = |(at, outcome): (usize, &Outcome)| Run { file: format!("{at}.json"), outcome: outcome.clone() };
    let runs: Vec<Run> = outcomes.iter().enumerate().map(run).collect();
    page::write("t", &runs).expect("a page")
}

fn titles(page: &str) -> Vec<&str> {
    let figures = page.split("<figure ").skip(1);
    figures.filter_map(|figure| figure.split_once("\">")?.1.split_once("\">")?.1.split("</h3>").next()).collect()
}

/// What matters stands on top, in words.
#[test]
fn a_summary_comes_first() {
    let page = page(&[idle("a"), echo("b", None), fanout("c")]);
    let (summary, rest) =
        page.split_once("id=\"summary\"").expect("a summary").1.split_once("</section>").expect("an end");
    for words in
        ["<b>a</b>: User memory per connection (RSS) 140 B", "Messages per second 150,000", "Last receiver p99"]
    {
        assert!(summary.contains(words), "{words} in {summary}");
    }
    assert!(rest.contains("<figure ") && !summary.contains("<figure "));
}

/// Readings around a fan-out are of one count: no growth, and no two figures of one name.
#[test]
fn memory_around_a_fan_out_is_no_idle_memory() {
    let reading = |rss| Reading { connections: 900, rss_bytes: Some(rss), ..Reading::default() };
    let memory = Memory { counts: vec![reading(1 << 20), reading(3 << 20)], ..Memory::default() };
    let page = page(&[Outcome { memory: Some(memory), ..fanout("a") }]);
    assert!(!page.contains("Memory of idle connections") && !page.contains("in 2 of 1"), "{:?}", titles(&page));
    assert!(page.contains("RSS before") && page.contains("3.00 MiB"));
}

#[test]
fn one_count_has_no_slope() {
    let mut outcome = idle("a");
    outcome.memory.iter_mut().for_each(|memory| memory.counts.truncate(1));
    assert!(titles(&page(&[outcome])).iter().all(|title| !title.contains("Growth")));
}

// ---- files ----

#[test]
fn a_page_is_written_from_files() {
    let folder = Folder::new("page");
    let files = vec![folder.outcome("a.json", &idle("a")), folder.outcome("b.json", &echo("b", None))];
    let page = folder.report(files).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<title>Title &lt;&amp;&gt;</title>"));
    assert!(!page.contains(folder.0.to_str().expect("UTF-8")), "the folder is the reader's own");
    for outside in ["src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "the page needs nothing else, and has {outside}");
    }
}

#[test]
fn no_file_is_no_page() {
    let failure = Folder::new("none").report(Vec::new()).expect_err("nothing to show");
    assert!(matches!(failure, Failure::Empty), "{failure}");
}

#[test]
fn bad_files_are_named_with_what_to_do() {
    let folder = Folder::new("bad");
    let newer = serde_json::to_string(&Outcome { schema: SCHEMA + 1, ..idle("a") }).expect("JSON");
    let cases = [
        (folder.0.join("absent.json"), "name a file that can be read"),
        (folder.file("text.json", "hello"), "no JSON"),
        (folder.file("other.json", "{\"a\": 1}"), "not the JSON of a run"),
        (folder.file("list.json", "[]"), "not the JSON of a run"),
        (folder.file("newer.json", &newer), "use the version that wrote the file"),
        (folder.file("broken.json", &format!("{{\"schema\": {SCHEMA}, \"load\": 5}}")), "not as a run writes it"),
    ];
    for (file, words) in cases {
        let said = folder.report(vec![file.clone()]).expect_err("no page").to_string();
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(said.contains(name) && said.contains(words) && !said.contains('\n'), "{said}");
    }
    assert!(!folder.0.join("report.html").exists(), "nothing is written");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let folder = Folder::new("output");
    let file = folder.outcome("a.json", &idle("a"));
    let output = folder.0.join("absent/report.html");
    let failure = run(&cli::Report { files: vec![file], output, title: String::new() }).expect_err("no such folder");
    let said = failure.to_string();
    assert!(said.contains("report.html") && said.contains("--output"), "{said}");
}

#[test]
fn files_are_named_without_what_they_share() {
    let common = |files: &[&str]| common_folder(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
    assert_eq!(common(&["a/b/c.json", "a/b/d.json"]), Path::new("a/b"));
    assert_eq!(common(&["a/b/c.json", "a/bb/c.json"]), Path::new("a"));
    assert_eq!(common(&["c.json", "a/c.json"]), Path::new(""));
}

// ---- plots ----

#[test]
fn idle_runs_have_slopes_and_bars() {
    let page = page(&[idle("a"), idle("b")]);
    let expected = [
        "Growth of the server&#39;s user memory (RSS)",
        "Growth of the server&#39;s user memory (PSS)",
        "Growth of the kernel&#39;s slab, both ends",
        "User memory per connection (RSS)",
        "Server&#39;s memory per connection, user and kernel",
        "Whole machine&#39;s memory per connection, both ends",
        "Handshakes per second",
    ];
    assert_eq!(titles(&page), expected);
    assert!(page.contains("a: 140 B per connection"), "the slope is in the legend");
}

#[test]
fn one_server_at_several_rates_has_one_plot_over_the_rate() {
    let page = page(&[echo("a", Some(1e3)), echo("a", Some(1e4)), echo("a", None)]);
    let found = titles(&page);
    assert_eq!(found.iter().filter(|title| title.starts_with("Latency over offered")).count(), 1, "{found:?}");
    // The closed loop's messages are a result; those at a rate are what was asked for.
    assert_eq!(found.iter().filter(|title| **title == "Messages per second").count(), 1, "{found:?}");
}

#[test]
fn several_servers_at_several_rates_have_a_plot_for_each_percentile() {
    let page = page(&[echo("a", Some(1e3)), echo("a", Some(1e4)), echo("b", Some(1e3)), echo("b", Some(1e4))]);
    let found = titles(&page);
    for name in ["Latency p50", "Latency p99", "Latency p99.9", "Server CPU per message"] {
        assert!(found.contains(&format!("{name} over offered rate").as_str()), "{found:?}");
    }
}

#[test]
fn one_rate_is_no_plot_over_the_rate() {
    let page = page(&[echo("a", Some(1e3)), echo("b", Some(1e3))]);
    assert_eq!(titles(&page), ["Messages per second", "Server CPU per message", "Latency by percentile"]);
}

#[test]
fn the_other_modes_have_their_plots() {
    let slow = Outcome { load: vec![load("before", Some(9.0)), load("slow", Some(9.0))], ..outcome("slow", "a") };
    let found_page = page(&[fanout("a"), storm("a"), slow]);
    let expected = [
        "Deliveries per second",
        "Latency of each receipt",
        "Latency of the last receiver",
        "Clients connected after the cut",
        "Time until all were back",
        "Most handshakes within one second",
        "Latency p50",
        "Latency p99",
        "Latency p99.9",
        "Latency by percentile",
    ];
    assert_eq!(titles(&found_page), expected);
    assert!(found_page.contains("a, before") && found_page.contains("a, slow"));
}

#[test]
fn a_run_without_figures_has_a_page_without_plots() {
    let page = page(&[outcome("idle", "a")]);
    assert!(titles(&page).is_empty() && page.contains("id=\"runs\""));
}

// ---- marks ----

#[test]
fn a_busy_client_is_marked_everywhere() {
    let mut limited = echo("a", None);
    limited.client.bottleneck = true;
    let page = page(&[limited, echo("b", None)]);
    assert!(page.contains("<b>The client was the limit</b> in 1 of 2 runs"));
    assert!(
        page.contains("a (client was the limit)")
            && page.contains(">\nclient was the limit\n<")
            && page.contains("≥ 150,000")
    );
    assert!(page.contains("opacity=\"0.15\""), "its bar is hollow");
    assert!(page.contains("class=\"mark\">client was the limit: at least<"));
    assert!(!page.contains("b (client"), "the other one is plain");
}

#[test]
fn an_interrupted_run_is_marked() {
    let page = page(&[Outcome { interrupted: true, ..echo("a", None) }]);
    assert!(page.contains("<b>Interrupted:</b> 1 run;") && page.contains("a (interrupted)"));
    assert!(!page.contains("≥ 150,000"), "it is no bound");
}

#[test]
fn what_went_wrong_stands_out() {
    let failed = BTreeMap::from([("refused".to_owned(), 2)]);
    let bad = Outcome { connect: Some(Connect { failed, ..Connect::default() }), ..outcome("idle", "a") };
    assert!(page(&[bad]).contains("<td class=\"fault\">2</td>"));
    assert!(!page(&[idle("a")]).contains("<td class=\"fault\">"));
}

#[test]
fn rounds_are_counted_and_spread() {
    let mut other = idle("a");
    other.memory.as_mut().expect("idle has memory").user_rss_bytes = Some(160.0);
    let page = page(&[idle("a"), other]);
    assert!(page.contains("<small>2 rounds</small>") && page.contains("<td>150 B<small>140 B … 160 B</small></td>"));
    assert!(page.contains("a 150 B (140 B to 160 B)"));
}

#[test]
fn different_machines_are_pointed_out() {
    let machine = Machine { cores: 64, ..Machine::default() };
    let words = "The runs are of different machines";
    assert!(page(&[idle("a"), Outcome { machine, ..idle("a") }]).contains(words));
    assert!(!page(&[idle("a"), idle("b")]).contains(words));
}

#[test]
fn all_that_comes_from_files_is_escaped() {
    let evil = "<img src=x onerror=alert(1)>\"'&";
    let mut bad = echo(evil, None);
    bad.mode = evil.into();
    bad.load[0].name = evil.into();
    bad.notes = vec![evil.into()];
    bad.command = vec![evil.into()];
    bad.started = evil.into();
    bad.tool = evil.into();
    bad.asked.url = evil.into();
    bad.machine.cpu = evil.into();
    bad.machine.sysctls = BTreeMap::from([(evil.to_owned(), evil.to_owned())]);
    bad.connect = Some(Connect { failed: BTreeMap::from([(evil.to_owned(), 1)]), ..Connect::default() });
    let page = page(&[bad]);
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=alert(1)&gt;"));
}
