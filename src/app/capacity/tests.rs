//! The sums of a plan: some that can be checked by hand, and laws that hold for any load.

use std::path::Path;

use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::app::coefficients::{self as costs, CONNECTION_BYTES};
use crate::app::config::{self, Config};
use crate::app::derive::{TABLE_ENTRIES_MAX, derive};

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    asked: Arguments,
}

fn asked(words: &str) -> Arguments {
    Words::try_parse_from(["plan"].into_iter().chain(words.split_whitespace())).expect("arguments").asked
}

/// A machine with plenty of everything but what is asked for.
fn machine(cores: usize, memory: u64, nofile: u64) -> Machine {
    Machine {
        cores,
        nofile_soft: 1024,
        nofile_hard: nofile,
        memlock_soft: 8 << 20,
        memlock_exempt: false,
        file_max: Some(1 << 40),
        file_used: 1000,
        nr_open: Some(TABLE_ENTRIES_MAX),
        somaxconn: Some(4096),
        tcp_mem: Some([1 << 40, 1 << 40, 1 << 40]),
        port_range: (1024, 65535),
        memory_available: memory,
        memory_total: memory,
        page_bytes: 4096,
        kernel: (6, 18),
        io_uring_disabled: Some(0),
        io_uring_exempt: false,
    }
}

fn plenty() -> Machine {
    machine(64, 1 << 40, TABLE_ENTRIES_MAX)
}

fn planned(words: &str) -> Plan {
    plan(&asked(words), &config::demo(), &plenty()).expect(words)
}

fn load(words: &str) -> Load {
    Load::of(&asked(words), &config::demo()).expect(words)
}

fn read(text: &str) -> Config {
    config::read(text, "x", Path::new("")).expect("a configuration")
}

/// An echo route, with `[server]` keys of its own.
fn serving(keys: &str) -> Config {
    let rest = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\nservice = \"echo\"\n";
    read(&format!("[server]\n{keys}\n{rest}"))
}

fn failing(plan: &Plan) -> Vec<&str> {
    let rows = plan.sysctls.iter().map(|one| &one.row).chain(&plan.findings);
    rows.filter(|row| row.fails()).map(|row| row.what.as_str()).collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// The kernel's part of an idle, parked connection.
fn kernel_bytes() -> u64 {
    costs::KERNEL_CONNECTION.whole() + costs::PARKED_POLL.whole()
}

// By hand.

#[test]
fn idle_connections_cost_what_the_table_says() {
    let memory = planned("--connections 1000 --cores 1").sums.memory;
    assert_eq!(memory.kernel_bytes, 1000 * kernel_bytes());
    // A shard and its 128 buffers of 20 KiB are there without any client, and so is the program.
    let program = 128 * (20 << 10) + costs::PROGRAM.whole() + costs::SHARD.whole();
    assert_eq!(memory.user_bytes, 1000 * costs::USER_CONNECTION.whole() + program);
    assert_eq!(memory.tls_bytes, 0);
    assert_eq!(memory.user_bytes + memory.kernel_bytes, 1000 * CONNECTION_BYTES + program);
}

/// Beside the states: what handshakes under way may hold, and keys of those who are not parked.
#[test]
fn sessions_of_tls_cost_what_the_table_says() {
    let memory = planned("--connections 1000 --cores 1 --tls-share 50%").sums.memory;
    let keys = memory.parts.iter().find(|part| part.what.starts_with("TLS keys")).map_or(0, |part| part.bytes);
    assert!(keys > 0);
    assert_eq!(memory.tls_bytes, 500 * costs::TLS_CONNECTION.whole() + (64 << 20) + keys);
}

#[test]
fn a_proxied_client_is_two_connections() {
    let (plain, proxied) = (planned("--connections 1000"), planned("--connections 1000 --proxied-share 50%"));
    let more = 500 * kernel_bytes();
    assert_eq!(proxied.sums.memory.kernel_bytes, plain.sums.memory.kernel_bytes + more);
    assert_eq!(proxied.load.slots(), 1500);
    assert_eq!((proxied.sums.ports.connections, proxied.sums.ports.ports), (500, 500));
    assert_eq!(planned("--connections 1000 --proxied-share 0.5 --upstreams 3").sums.ports.ports, 167);
}

#[test]
fn shares_are_counts() {
    let load = load("--connections 1M --tls-share 35% --proxied-share 0.1 --slow-share 0.1%");
    let Load { tls_connections, proxied_connections, slow_connections, .. } = load;
    assert_eq!((tls_connections, proxied_connections, slow_connections), (350_000, 100_000, 1000));
    assert_eq!(
        super::load::Load::of(&asked("--connections 3 --tls-share 1%"), &config::demo()).unwrap().tls_connections,
        1
    );
}

/// An idle_timeout of 120 s: a ping each minute. All who answered in the last 5 s are not parked.
#[test]
fn idle_clients_are_pinged() {
    let load = load("--connections 60k");
    assert!(close(load.ping_rate, 1000.0));
    assert_eq!(load.awake(), 5000);
    assert_eq!(load.pings_in_flight(), 100);
    let memory = planned("--connections 60k").sums.memory;
    let more = costs::ARMED_RECEIVE.whole() - costs::PARKED_POLL.whole();
    assert_eq!(memory.transient_bytes, 5000 * more + 100 * costs::UNACKNOWLEDGED_MESSAGE.whole());
}

#[test]
fn slow_clients_hold_their_pending_bytes() {
    let parts = planned("--connections 1000 --slow-share 10%").sums.memory.parts;
    let slow = parts.iter().find(|part| part.what == "clients that do not read").unwrap();
    assert_eq!((slow.count, slow.bytes), (100, 100 * ((64 << 10) + (16 << 10))));
}

#[test]
fn without_unsent_bytes_the_kernel_takes_its_most() {
    let unsent = |keys: &str| Load::of(&asked(""), &serving(keys)).unwrap().unsent_bytes;
    assert_eq!((unsent("unsent_bytes = \"0\""), unsent("unsent_bytes = \"8KiB\"")), (4 << 20, 8 << 10));
}

/// Each subscriber has one message under way, however rarely one is published.
#[test]
fn a_message_to_all_is_under_way_to_all() {
    let rare = load("--connections 1M --fanout-rate 0.01");
    assert_eq!((rare.subscribers, rare.deliveries_in_flight()), (1_000_000, 1_000_000));
    let often = load("--connections 100 --fanout-rate 50 --round-trip 200ms");
    assert_eq!(often.deliveries_in_flight(), 1000);
    assert_eq!(load("--connections 1M").deliveries_in_flight(), 0);
    let one = costs::whole(costs::UNACKNOWLEDGED_PAGES.value.ceil());
    assert_eq!(crate::app::memory::message_pages(10, 64, 4096), 10 * one);
    assert_eq!(crate::app::memory::message_pages(10, 16 << 10, 4096), 10 * (one + 4));
}

/// Cores of one kind of work on one shard.
fn cores(words: &str, what: &str) -> Option<f64> {
    let parts = planned(&format!("{words} --cores 1 --connections 1")).sums.cpu.parts;
    parts.into_iter().find(|part| part.what == what).map(|part| part.cores)
}

#[test]
fn cores_are_rates_times_costs() {
    let answered = "messages answered here";
    let [small, .., most] = costs::ECHO;
    // A ping a minute makes a little less of it.
    let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-4 * b);
    assert!(near(cores("--rate 500", answered), 500.0 * small.cost.value / 1e6));
    assert!(near(cores("--rate 1M", answered), most.cost.value));
    assert!(near(cores("--rate 1M --size 0", answered), most.cost.value));
    let bytes = costs::ECHO_LARGE.value - most.cost.value;
    assert!(near(cores("--rate 10k --size 16KiB", answered), (costs::ECHO[2].cost.value + bytes) / 100.0));
    assert!(near(cores("--rate 1k --proxied-share 50%", answered), 500.0 * small.cost.value / 1e6));
    let through = cores("--rate 4k --proxied-share 25%", "messages to upstreams and back");
    assert!(near(through, costs::PROXY[0].cost.value / 1e3));
    assert!(near(cores("--connect-rate 1k", "new connections"), costs::HANDSHAKE.value / 1000.0));
    let storm = "--reconnect-time 1ms --tls-share 1";
    assert!(near(cores(storm, "TLS handshakes"), costs::TLS_HANDSHAKE.value / 1000.0));
    assert!(near(cores("--rate 1M --tls-share 1", "TLS records"), costs::TLS_SMALL.value));
    assert_eq!(cores("--rate 1M", "TLS records"), None);
}

/// What was measured at a rate is what is said at that rate, and between two rates it lies between them; what shards
/// share, each has a part of.
#[test]
fn a_message_costs_what_it_does_at_its_rate() {
    for two in costs::ECHO.windows(2) {
        let at = |rate: f64| cores(&format!("--rate {rate}"), "messages answered here").unwrap();
        let (low, high) = (two[0].cores(), two[1].cores());
        assert!((at(two[1].per_second) / high - 1.0).abs() < 1e-3);
        let middle = at(f64::midpoint(two[0].per_second, two[1].per_second));
        assert!((middle / f64::midpoint(low, high) - 1.0).abs() < 1e-3, "{two:?}");
    }
    let on = |shards: u64| planned(&format!("--rate 40k --connections 1 --cores {shards}")).sums.cpu.cores;
    assert!((on(4) / on(1) - costs::ECHO[2].cost.value / costs::ECHO[4].cost.value).abs() < 1e-3);
}

#[test]
fn deliveries_cost_what_they_do_at_their_rate() {
    let deliveries = |words: &str| {
        let sums = planned(&format!("{words} --cores 1")).sums;
        let part = sums.cpu.parts.iter().find(|part| part.what == "deliveries of published messages").unwrap();
        (part.cores, sums.cpu.publish_seconds)
    };
    let [.., single, gathered] = costs::DELIVERY;
    assert!(close(deliveries("--connections 9000 --fanout-rate 20").0, single.cores()));
    let gathers = deliveries("--connections 710k --fanout-rate 1");
    assert!(close(gathers.0, gathered.cores()));
    assert!(close(gathers.1, 0.71 * single.cost.value));
}

/// The demo's feeds keep 1 000 messages a channel, for ten minutes, in a MiB.
#[test]
fn kept_messages_are_those_that_replay_allows() {
    let kept = |words: &str| {
        let load = load(words);
        (load.kept_messages, load.kept_bytes)
    };
    assert_eq!(kept("--connections 10"), (0, 0));
    assert_eq!(kept("--fanout-rate 1"), (600, 600 * 64));
    assert_eq!(kept("--fanout-rate 10"), (1000, 64_000));
    assert_eq!(kept("--fanout-rate 10 --channels 2"), (2000, 128_000));
    assert_eq!(kept("--fanout-rate 10 --fanout-size 16KiB"), (64, 64 << 14));
    let bytes = |words: &str| {
        let parts = planned(words).sums.memory.parts;
        parts.iter().find(|part| part.what == "kept messages of all channels").unwrap().bytes
    };
    let form = 1000 * (64 + costs::KEPT_FORM.whole());
    assert_eq!(bytes("--fanout-rate 10 --forms 3") - bytes("--fanout-rate 10"), 2 * form);
}

/// In: 70 bytes and 90 around them, and 90 for an acknowledgement; out: 66, 90, and 90. A ping a minute beside.
#[test]
fn network_counts_headers_and_acknowledgements() {
    let clients = planned("--connections 1 --rate 1000").sums.network.clients;
    let ping = 1.0 / 60.0;
    assert!(close(clients.inward.packets_per_second, 2.0 * (1000.0 + ping)));
    assert!(close(clients.inward.bits_per_second, 8.0 * (250.0 * 1000.0 + 186.0 * ping)));
    assert!(close(clients.outward.bits_per_second, 8.0 * (246.0 * 1000.0 + 182.0 * ping)));
}

/// One shard gets all; with two, four deviations of 50 more than the half.
#[test]
fn shards_have_room_for_chance() {
    let slots = |shards: u64| {
        let sums = planned(&format!("--connections 10000 --cores {shards}")).sums;
        (sums.files.slots_per_shard, sums.files.table_entries, sums.files.total_entries)
    };
    assert_eq!(slots(1), (10_000, 10_080, 10_080));
    assert_eq!(slots(2), (5200, 5280, 10_560));
    assert_eq!(planned("--connections 4 --cores 2").sums.files.slots_per_shard, 4);
}

// What does not fit.

#[test]
fn plenty_fits() {
    let plan = planned("--connections 1M --rate 100k --tls-share 1 --fanout-rate 1 --slow-share 1%");
    assert!(plan.fits && failing(&plan).is_empty(), "{:#?}", plan.findings);
}

#[test]
fn what_is_scarce_fails_by_its_name() {
    let with = |change: fn(&mut Machine)| {
        let mut machine = plenty();
        change(&mut machine);
        machine
    };
    let cases: [(&str, &str, Machine); 7] = [
        ("memory", "--connections 1M", with(|m| m.memory_available = 5 << 30)),
        ("cores", "--rate 1M", with(|m| m.cores = 2)),
        ("RLIMIT_NOFILE", "--connections 10k", with(|m| (m.cores, m.nofile_hard) = (1, 10_079))),
        ("fs.file-max", "--connections 10k", with(|m| (m.cores, m.file_max) = (1, Some(11_079)))),
        ("net.ipv4.tcp_mem", "--connections 10k --fanout-rate 1", with(|m| m.tcp_mem = Some([1, 2, 3]))),
        ("net.ipv4.ip_local_port_range", "--connections 65k --proxied-share 1", plenty()),
        ("server.outbox_bytes", "--connections 1M --slow-share 1", with(|m| m.cores = 4)),
    ];
    for (what, words, machine) in cases {
        let plan = plan(&asked(words), &config::demo(), &machine).unwrap();
        assert_eq!(failing(&plan), [what], "{words}");
        assert!(!plan.fits);
    }
}

#[test]
fn one_more_file_is_enough() {
    let mut machine = plenty();
    (machine.cores, machine.nofile_hard, machine.file_max) = (1, 10_080, Some(11_080));
    assert!(plan(&asked("--connections 10k"), &config::demo(), &machine).unwrap().fits);
}

#[test]
fn limits_of_the_configuration_fail_by_their_keys() {
    let cases = [
        ("server.slots_per_shard", "shards = 1\nslots_per_shard = 999", "--connections 1000"),
        ("server.outbox_bytes", "shards = 1\noutbox_bytes = \"1MiB\"", "--connections 1000 --slow-share 2%"),
        ("cores", "shards = 1", "--connections 1000 --rate 1M"),
        ("limits.message_bytes", "", "--connections 1000 --rate 1 --size 2MiB"),
        ("server.slots_per_shard", "slots_per_shard = 1048576", "--connections 1000"),
    ];
    for (what, keys, words) in cases {
        let plan = plan(&asked(words), &serving(keys), &plenty()).unwrap();
        assert_eq!(failing(&plan), [what], "{keys} {words}");
    }
}

#[test]
fn proxied_clients_need_a_route_and_ports_where_a_file_is_named() {
    let mut words = asked("--connections 130k --proxied-share 1");
    words.config = Some("x".into());
    let head = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\n";
    let found = |service: &str| {
        let plan = plan(&words, &read(&format!("{head}{service}")), &plenty()).unwrap();
        failing(&plan).join(" ")
    };
    let ports = "net.ipv4.ip_local_port_range";
    assert_eq!(found("service = \"echo\""), "route");
    assert_eq!(found("service = \"proxy\"\nupstream = \"tcp://127.0.0.1:1\""), ports);
    assert_eq!(found("service = \"proxy\"\nupstream = [\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:2\"]"), ports);
    let three = "[\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:2\", \"tcp://127.0.0.1:3\"]";
    assert_eq!(found(&format!("service = \"proxy\"\nupstream = {three}")), "");
    assert_eq!(found("service = \"proxy\"\nupstream = \"unix:///run/x\""), "");
}

/// The number of shards that a row names is then enough, and one less is not.
#[test]
fn the_shards_that_are_advised_fit() {
    let few = machine(2, 64 << 30, 20_000);
    let plan_of = |keys: &str| plan(&asked("--connections 1M"), &serving(keys), &few).unwrap();
    let first = plan_of("");
    let row = first.findings.iter().find(|row| row.what == "RLIMIT_NOFILE").unwrap();
    let shards: u64 = row.command.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(failing(&plan_of(&format!("shards = {shards}"))), [""; 0]);
    assert_eq!(failing(&plan_of(&format!("shards = {}", shards - 1))), ["RLIMIT_NOFILE"]);
}

/// With 1024 files there are too few for the shards' own.
#[test]
fn more_shards_are_not_advised_where_they_do_not_help() {
    let advice = |nofile| {
        let plan = plan(&asked("--connections 100k"), &serving(""), &machine(2, 64 << 30, nofile)).unwrap();
        plan.findings.into_iter().find(|row| row.what == "RLIMIT_NOFILE").unwrap().command
    };
    assert!(advice(20_000).contains("server.shards = 6"), "{}", advice(20_000));
    assert!(!advice(1024).contains("server.shards"), "{}", advice(1024));
}

#[test]
fn pages_of_tuning_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = [limits::SYSCTL_PAGE, limits::NOFILE_PAGE, NIC_PAGE, TRACKING_PAGE];
    let missing: Vec<&str> = pages.into_iter().filter(|page| !root.join(page).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn only_coefficients_that_were_used_are_named() {
    let names = |words: &str| planned(words).coefficients.iter().map(|one| one.name).collect::<Vec<_>>();
    let idle = [
        "program",
        "shard",
        "user_connection",
        "kernel_connection",
        "parked_poll",
        "armed_receive",
        "unacknowledged_message",
        "echo_1k",
    ];
    assert_eq!(names("--connections 1000"), idle);
    assert!(names("--tls-share 1 --connect-rate 1").contains(&"tls_handshake"));
    assert!(names("--rate 1 --size 65").contains(&"echo_large"));
}

// Laws.

fn loads() -> impl Strategy<Value = Arguments> {
    let shares = (0.0..=1.0, 0.0..=1.0, 0.0..=1.0f64);
    let rates = (0.0..1e6, 0.0..1e3, 0.0..1e5f64);
    let sizes = (0..1u64 << 20, 0..1u64 << 20);
    let rest = (1..2_000_000u64, 0.001..10.0f64, prop::option::of(1.0..1000.0f64));
    (shares, rates, sizes, rest).prop_map(|(shares, rates, sizes, rest)| Arguments {
        connections: rest.0,
        tls_share: shares.0,
        proxied_share: shares.1,
        slow_share: shares.2,
        rate: rates.0,
        fanout_rate: rates.1,
        connect_rate: rates.2,
        size: sizes.0,
        fanout_size: sizes.1,
        round_trip: rest.1,
        reconnect_time: rest.2,
        ..asked("")
    })
}

/// Makes one thing more.
fn grown(asked: &Arguments, which: usize) -> Arguments {
    let mut more = asked.clone();
    match which {
        0 => more.connections += 1 + more.connections / 3,
        1 => more.tls_share = (more.tls_share + 0.1).min(1.0),
        2 => more.proxied_share = (more.proxied_share + 0.1).min(1.0),
        3 => more.slow_share = (more.slow_share + 0.1).min(1.0),
        4 => more.rate *= 1.5,
        5 => more.fanout_rate *= 1.5,
        6 => more.connect_rate += 10.0,
        7 => more.size += 100,
        8 => more.fanout_size += 100,
        9 => more.reconnect_time = more.reconnect_time.map(|time| time * 0.9),
        _ => more.round_trip *= 1.5,
    }
    more
}

/// All figures that may only grow with the load.
fn figures(plan: &Plan) -> Vec<f64> {
    let Sums { memory, cpu, network, files, ports } = &plan.sums;
    let kinds = memory::Kind::ALL.map(|kind| memory.sum(kind) as f64);
    let sides = [network.total.inward, network.total.outward, network.clients.inward, network.clients.outward];
    let flows = sides.into_iter().flat_map(|flow| [flow.packets_per_second, flow.bits_per_second]);
    let counts = [files.slots_per_shard, files.table_entries, files.total_entries, ports.ports, memory.total_bytes];
    kinds.into_iter().chain(flows).chain(counts.map(|count| count as f64)).chain([cpu.cores]).collect()
}

/// What goes from one kind of message to another may join those that are many, and cheap: cores are the last figure. Of
/// larger messages fewer are kept, and each has something beside its payload: user memory and the sum.
fn exempt(which: usize, figure: usize, last: usize) -> bool {
    which == 2 && figure == last || which == 8 && (figure == 0 || figure == last - 1)
}

proptest! {
    #[test]
    fn more_load_never_takes_less(asked in loads(), which in 0..11usize) {
        let config = config::demo();
        let less = plan(&asked, &config, &plenty()).unwrap();
        let more = plan(&grown(&asked, which), &config, &plenty()).unwrap();
        let last = figures(&less).len() - 1;
        for (at, (less, more)) in figures(&less).into_iter().zip(figures(&more)).enumerate() {
            prop_assert!(exempt(which, at, last) || more >= less * (1.0 - 1e-12), "figure {at}: {less} then {more}");
        }
    }

    #[test]
    fn totals_are_the_sums_of_their_parts(asked in loads()) {
        let Sums { memory, cpu, network, files, .. } = plan(&asked, &config::demo(), &plenty()).unwrap().sums;
        prop_assert_eq!(memory.parts.iter().map(|part| part.bytes).sum::<u64>(), memory.total_bytes);
        prop_assert_eq!(memory::Kind::ALL.map(|kind| memory.sum(kind)).iter().sum::<u64>(), memory.total_bytes);
        prop_assert!(close(cpu.parts.iter().map(|part| part.cores).sum(), cpu.cores));
        prop_assert_eq!(network.total, network.clients + network.upstreams);
        prop_assert_eq!(files.total_entries, files.shards * files.table_entries);
    }

    /// Where the plan says that a load fits, a server that derives its slots has as many.
    #[test]
    fn a_load_that_fits_has_its_slots(
        connections in 1000..2_000_000u64, proxied in 0.0..=1.0f64,
        cores in 1..64usize, memory in 1u64 << 28..1 << 36, nofile in 2000..TABLE_ENTRIES_MAX,
    ) {
        let asked = Arguments { connections, proxied_share: proxied, upstreams: Some(1000), ..asked("") };
        let machine = machine(cores, memory, nofile);
        let plan = plan(&asked, &serving(""), &machine).unwrap();
        let derived = derive(&serving(""), &machine);
        let enough = derived.is_ok_and(|sizes| u64::from(sizes.slots_per_shard) >= plan.sums.files.slots_per_shard);
        prop_assert!(!plan.fits || enough, "{:#?}", plan.findings);
        let slots = plan.sums.files.slots_per_shard;
        if plan.fits {
            let written = serving(&format!("slots_per_shard = {slots}"));
            prop_assert!(derive(&written, &machine).is_ok());
        }
    }
}
