//! What is derived from the machine, and what doctor says of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use edgehold::app::config::{self, *};
use edgehold::app::derive::{CONNECTION_BYTES, Machine, TABLE_ENTRIES_MAX, derive};
use edgehold::app::{doctor, findings};
use edgehold::engine::finding::{Finding, Verdict};

use super::{lines, scratch};

// Derived limits.

/// A machine with plenty of everything: what a test wants scarce it says.
fn plenty() -> Machine {
    Machine {
        cores: 4,
        nofile_soft: 1024,
        nofile_hard: TABLE_ENTRIES_MAX,
        memlock_soft: 8 << 20,
        memlock_exempt: false,
        file_max: Some(1 << 40),
        file_used: 1000,
        nr_open: Some(TABLE_ENTRIES_MAX),
        somaxconn: Some(4096),
        tcp_mem: Some([8 << 20, 16 << 20, 32 << 20]),
        port_range: (1024, 65535),
        memory_available: 64 << 30,
        memory_total: 64 << 30,
        page_bytes: 4096,
        kernel: (6, 18),
        io_uring_disabled: Some(0),
        io_uring_exempt: false,
    }
}

fn with(change: impl FnOnce(&mut Machine)) -> Machine {
    let mut machine = plenty();
    change(&mut machine);
    machine
}

/// The demo with a `[server]` of its own.
fn serving(keys: &str) -> Config {
    let rest = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[[route]]\npath = \"/\"\nservice = \"echo\"\n";
    let text = format!("[server]\n{keys}\n{rest}");
    config::read(&text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

/// The entries of a table are slots, spare ones and accepts, whatever bounds it.
#[test]
fn tables_fill_what_descriptors_allow() {
    for nofile in [80, 160, 1024, 20_000, 524_288, TABLE_ENTRIES_MAX, u64::MAX] {
        let machine = with(|m| (m.cores, m.nofile_soft, m.nofile_hard) = (1, 64, nofile));
        let Ok(derived) = derive(&serving("accepts_in_flight = 8"), &machine) else {
            assert_eq!(nofile, 80, "fewer than 64 + 64 + 25 plain descriptors");
            continue;
        };
        let sum = derived.slots_per_shard + derived.spare_slots + 8;
        assert_eq!(derived.table_entries, sum);
        assert_eq!(u64::from(sum), nofile.min(TABLE_ENTRIES_MAX));
    }
}

/// Before Linux 6.13 connections are the process's own descriptors: with the files and all that is opened besides, they
/// stay within RLIMIT_NOFILE, and what is asked for is enough.
#[test]
fn on_old_kernels_all_tables_share_what_descriptors_allow() {
    let old = |nofile: u64| with(|m| (m.kernel, m.cores, m.nofile_soft, m.nofile_hard) = ((6, 12), 4, 64, nofile));
    for nofile in [1024, 20_000, 524_288] {
        let derived = derive(&serving(""), &old(nofile)).unwrap();
        let direct = derive(&serving(""), &with(|m| m.nofile_hard = nofile)).unwrap();
        let all = derived.shards as u64 * u64::from(derived.table_entries);
        assert!(all < nofile && all > nofile / 4, "{all} of {nofile}");
        assert_eq!(u64::from(direct.table_entries), nofile);
    }
    let configured = serving("slots_per_shard = 30000");
    let Err(shortfalls) = derive(&configured, &old(100_000)) else { panic!("four times 30080 are more") };
    let found = &shortfalls[0];
    assert!(found.should.contains("30080 for each of 4 shards") && found.is.starts_with("100000"), "{found:?}");
    let enough: u64 = found.should.trim_start_matches("at least ").split(',').next().unwrap().parse().unwrap();
    assert!(derive(&configured, &old(enough)).is_ok() && derive(&configured, &old(enough - 1)).is_err(), "{enough}");
}

#[test]
fn memory_bounds_the_slots_of_all_shards_together() {
    let machine = with(|m| m.memory_available = 1 << 30);
    let derived = derive(&serving(""), &machine).unwrap();
    let bytes = derived.shards as u64 * u64::from(derived.slots_per_shard) * CONNECTION_BYTES;
    assert_eq!(derived.shards, 4);
    assert!(bytes <= (1 << 30) / 4 * 3);
    assert!(bytes > (1 << 30) / 4 * 3 - 4 * CONNECTION_BYTES);
}

#[test]
fn configured_slots_are_kept_with_spare_ones_in_proportion() {
    for (slots, spare) in [(1, 1), (4, 1), (40, 10), (256, 64), (100_000, 64)] {
        let derived = derive(&serving(&format!("slots_per_shard = {slots}")), &plenty()).unwrap();
        assert_eq!((derived.slots_per_shard, derived.spare_slots), (slots, spare));
        assert_eq!(derived.table_entries, slots + spare + 16);
    }
}

#[test]
fn outboxes_share_an_eighth_within_bounds() {
    let outbox =
        |memory: u64, keys: &str| derive(&serving(keys), &with(|m| m.memory_available = memory)).unwrap().outbox_bytes;
    assert_eq!(outbox(8 << 30, ""), 256 << 20);
    assert_eq!(outbox(128 << 20, ""), 8 << 20);
    assert_eq!(outbox(1 << 40, ""), 4 << 30);
    assert_eq!(outbox(8 << 30, "outbox_bytes = \"1MiB\""), 1 << 20);
}

/// A feed that is connected to may hold many descriptors, another a few.
#[test]
fn feeds_take_descriptors() {
    let with_feed = |source: &str| {
        let feed = format!("[[feed]]\nname = \"f\"\nsource = \"{source}\"\nchannel = \"c\"\n");
        let rest = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n\
                    [[route]]\npath = \"/\"\nservice = \"broadcast\"\nfeeds = \"f\"\n";
        config::read(&[feed.as_str(), rest].concat(), "x", Path::new("")).unwrap()
    };
    let scarce = with(|m| (m.cores, m.nofile_soft, m.nofile_hard) = (1, 64, 80));
    for (source, wanted) in [("demo", 157), ("tcp://a:1", 157), ("tcp-listen://127.0.0.1:1", 221), ("unix:/run/f", 221)]
    {
        let found = shortfall(&with_feed(source), &scarce);
        assert!(found.starts_with(&format!("RLIMIT_NOFILE: at least {wanted} for the shards' own")), "{found}");
    }
}

/// The one shortfall of a configuration on a machine, as `what: should; command`.
fn shortfall(config: &Config, machine: &Machine) -> String {
    let shortfalls = derive(config, machine).unwrap_err();
    assert_eq!(shortfalls.len(), 1, "{shortfalls:?}");
    format!("{}: {}; {}", shortfalls[0].what, shortfalls[0].should, shortfalls[0].command)
}

#[test]
fn what_does_not_fit_names_the_command() {
    let scarce = with(|m| m.nofile_hard = 20_000);
    let found = shortfall(&serving("slots_per_shard = 30000"), &scarce);
    let expected = "RLIMIT_NOFILE: at least 30080, the entries of a shard's table; \
                    as root: ulimit -n 30080 (under systemd: LimitNOFILE=30080), \
                    or write server.slots_per_shard = 19920";
    assert_eq!(found, expected);
    let found = shortfall(&serving("slots_per_shard = 1048576"), &plenty());
    assert!(found.starts_with("server.slots_per_shard: 1048576 entries at most"), "{found}");
    let found = shortfall(&serving("slots_per_shard = 100000"), &with(|m| m.memory_available = 1 << 30));
    let slots = (1u64 << 30) / 4 * 3 / 4 / CONNECTION_BYTES;
    let advice = format!("write server.slots_per_shard = {slots}");
    assert!(found.starts_with("memory: ") && found.contains(&advice), "{found}");
    let found = shortfall(&serving("shards = 100"), &with(|m| m.nofile_hard = 1024));
    assert!(found.starts_with("RLIMIT_NOFILE: at least 2628 for the shards' own"), "{found}");
    let mut large = serving("");
    large.routes[0].limits.max_pending = 64 << 20;
    let found = shortfall(&large, &with(|m| m.memory_available = 1 << 30));
    assert!(found.starts_with("server.outbox_bytes: at least 67108864 B"), "{found}");
}

/// What a shortfall tells to write is then enough.
#[test]
fn the_slots_that_are_advised_fit() {
    for nofile in [200, 1024, 20_000, 100_000] {
        let machine = with(|m| (m.cores, m.nofile_soft, m.nofile_hard) = (1, 64, nofile));
        let found = shortfall(&serving("slots_per_shard = 1000000"), &machine);
        let slots = found.rsplit(' ').next().unwrap();
        derive(&serving(&format!("slots_per_shard = {slots}")), &machine).unwrap();
    }
}

// The machine.

fn write(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

#[test]
fn a_machine_is_read_from_its_files() {
    let root = scratch("machine");
    write(&root, "proc/sys/fs/file-max", "9223372036854775807\n");
    write(&root, "proc/sys/fs/file-nr", "1504\t0\t9223372036854775807\n");
    write(&root, "proc/sys/fs/nr_open", "1048576\n");
    write(&root, "proc/sys/net/core/somaxconn", "128\n");
    write(&root, "proc/sys/net/ipv4/tcp_mem", "10\t20\t30\n");
    write(&root, "proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    write(&root, "proc/sys/kernel/osrelease", "6.1.0-28-amd64\n");
    write(&root, "proc/sys/kernel/io_uring_disabled", "1\n");
    write(&root, "proc/self/status", "Name:\tx\nCapEff:\t0000000000200000\n");
    write(&root, "proc/meminfo", "MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n");
    let machine = Machine::read_below(&root);
    assert_eq!((machine.file_max, machine.file_used, machine.nr_open), (Some(i64::MAX as u64), 1504, Some(1 << 20)));
    assert_eq!(
        (machine.somaxconn, machine.tcp_mem, machine.port_range),
        (Some(128), Some([10, 20, 30]), (32768, 60999))
    );
    assert_eq!((machine.memory_total, machine.memory_available), (2 << 20, 1 << 20));
    assert_eq!((machine.kernel, machine.io_uring_disabled, machine.io_uring_exempt), ((6, 1), Some(1), true));
    assert!(!machine.memlock_exempt);
}

/// Each capability is a bit of its own, and only the first user namespace's count.
#[test]
fn capabilities_are_read_where_they_count() {
    let root = scratch("capable");
    let exempt = |capabilities: &str, users: &str| {
        write(&root, "proc/self/status", &format!("Name:\tx\nCapEff:\t{capabilities}\n"));
        write(&root, "proc/self/uid_map", users);
        let machine = Machine::read_below(&root);
        (machine.memlock_exempt, machine.io_uring_exempt)
    };
    let all = "         0          0 4294967295\n";
    assert_eq!(exempt("0000000000004000", all), (true, false));
    assert_eq!(exempt("0000000000200000", all), (false, true));
    assert_eq!(exempt("000001ffffffffff", all), (true, true));
    assert_eq!(exempt("000001ffffffffff", "         0       1000          1\n"), (false, false));
    assert_eq!(exempt("0000000000000000", all), (false, false));
}

/// The least that a group or one above it leaves counts; "max" does not.
#[test]
fn a_control_group_bounds_the_memory() {
    let root = scratch("group");
    write(&root, "proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 1048576 kB\n");
    write(&root, "proc/self/cgroup", "0::/system.slice/edgehold.service\n");
    write(&root, "sys/fs/cgroup/system.slice/edgehold.service/memory.max", "max\n");
    assert_eq!(Machine::read_below(&root).memory_available, 1 << 30);
    write(&root, "sys/fs/cgroup/system.slice/memory.max", "1000000\n");
    write(&root, "sys/fs/cgroup/system.slice/memory.current", "400000\n");
    assert_eq!(Machine::read_below(&root).memory_available, 600_000);
    write(&root, "sys/fs/cgroup/memory.max", "100000\n");
    assert_eq!(Machine::read_below(&root).memory_available, 100_000);
}

#[test]
fn a_machine_that_tells_nothing_is_read_all_the_same() {
    let machine = Machine::read_below(&scratch("silent"));
    assert_eq!((machine.file_max, machine.nr_open, machine.somaxconn), (None, None, None));
    assert_eq!((machine.tcp_mem, machine.io_uring_disabled, machine.kernel), (None, None, (0, 0)));
    assert_eq!((machine.port_range, machine.memory_available), ((32768, 60999), 256 << 20));
}

/// The machine the tests run on, asked for real.
#[test]
fn this_machine_is_read() {
    let machine = Machine::read();
    assert!(machine.cores >= 1 && machine.nofile() >= machine.nofile_soft);
    assert!(machine.kernel >= (2, 6) && machine.file_max.is_some() && machine.nr_open.is_some());
    assert!(machine.memory_available > 0 && machine.memory_available <= machine.memory_total);
}

// The doctor.

fn verdicts(rows: &[Finding]) -> BTreeMap<&str, Verdict> {
    rows.iter().map(|row| (row.what.as_str(), row.verdict)).collect()
}

fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    doctor::rows(config, machine, &[])
}

#[test]
fn a_good_machine_is_well() {
    let rows = examine(&serving("slots_per_shard = 100000"), &plenty());
    assert!(rows.iter().all(|row| row.verdict == Verdict::Ok && row.command.is_empty()), "{rows:#?}");
    assert!(!findings::fails(&rows));
    let names: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    let expected = [
        "kernel",
        "kernel.io_uring_disabled",
        "RLIMIT_MEMLOCK",
        "slots",
        "RLIMIT_NOFILE",
        "fs.nr_open",
        "fs.file-max",
        "memory available",
        "net.ipv4.tcp_mem",
        "net.core.somaxconn",
    ];
    assert_eq!(names, expected);
}

/// One scarce thing, one row that is not well, and its command.
fn one_complaint(config: &Config, machine: &Machine) -> Finding {
    let rows = examine(config, machine);
    let bad: Vec<Finding> = rows.into_iter().filter(|row| row.verdict != Verdict::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    assert!(!bad[0].command.is_empty());
    bad[0].clone()
}

#[test]
fn what_keeps_the_server_from_running_fails() {
    let config = serving("slots_per_shard = 1000");
    let scarce: [(&str, Machine); 5] = [
        ("kernel", with(|m| m.kernel = (5, 15))),
        ("kernel.io_uring_disabled", with(|m| m.io_uring_disabled = Some(1))),
        ("kernel.io_uring_disabled", with(|m| (m.io_uring_disabled, m.io_uring_exempt) = (Some(2), true))),
        ("RLIMIT_MEMLOCK", with(|m| m.memlock_soft = 1444 << 10)),
        ("RLIMIT_NOFILE", with(|m| m.nofile_hard = 1024)),
    ];
    for (what, machine) in scarce {
        let row = one_complaint(&config, &machine);
        assert_eq!((row.what.as_str(), row.verdict), (what, Verdict::Fails));
        assert!(findings::fails(&examine(&config, &machine)));
    }
}

/// The row about locked memory, word by word.
fn memlock_row(keys: &str, machine: &Machine) -> (String, String, Verdict, String) {
    let rows = examine(&serving(keys), machine);
    let row = rows.into_iter().find(|row| row.what == "RLIMIT_MEMLOCK").expect("a row about RLIMIT_MEMLOCK");
    (row.is, row.should, row.verdict, row.command)
}

/// The sums are the least limits with which servers were seen to start on Linux 6.18.
#[test]
fn locked_memory_follows_the_shards_and_their_buffers() {
    let tight = with(|m| m.memlock_soft = 508 << 10);
    for (shards, buffers, least) in [
        (1, 256, 512),
        (2, 256, 736),
        (3, 256, 1092),
        (4, 256, 1448),
        (8, 256, 2872),
        (2, 1024, 760),
        (2, 32768, 1752),
        (1, 32768, 888),
    ] {
        let keys = format!("shards = {shards}\nrecv_buffers = {buffers}");
        let should = format!("at least {least} KiB for {shards} shards");
        let command = format!("as root: ulimit -l {least} (under systemd: LimitMEMLOCK={least}K)");
        assert_eq!(memlock_row(&keys, &tight), ("508 KiB".into(), should.clone(), Verdict::Fails, command));
        let enough = with(|m| m.memlock_soft = least << 10);
        assert_eq!(memlock_row(&keys, &enough), (format!("{least} KiB"), should, Verdict::Ok, String::new()));
    }
}

/// The executor's own look at the limit is there for root, too, and on kernels that do not charge for rings.
#[test]
fn locked_memory_is_free_where_nobody_counts_it() {
    let exempt = |soft: u64| with(|m| (m.memlock_soft, m.memlock_exempt) = (soft, true));
    let should = "at least 512 KiB; CAP_IPC_LOCK lifts the rest".to_string();
    assert_eq!(memlock_row("", &exempt(512 << 10)), ("512 KiB".into(), should.clone(), Verdict::Ok, String::new()));
    let command = "as root: ulimit -l 512 (under systemd: LimitMEMLOCK=512K)".to_string();
    assert_eq!(memlock_row("", &exempt(511 << 10)), ("511 KiB".into(), should, Verdict::Fails, command));
    for kernel in [(6, 1), (6, 13)] {
        let machine = with(|m| (m.memlock_soft, m.kernel) = (512 << 10, kernel));
        assert_eq!(memlock_row("", &machine).2, Verdict::Ok);
    }
    let none = with(|m| m.memlock_soft = u64::MAX);
    assert_eq!(memlock_row("", &none).0, "unlimited");
}

#[test]
fn what_merely_holds_less_is_advice() {
    let config = serving("slots_per_shard = 100000");
    let scarce: [(&str, &str, Machine); 6] = [
        ("kernel", "boot", with(|m| m.kernel = (0, 0))),
        ("fs.nr_open", "fs.nr_open=100080", with(|m| m.nr_open = Some(65536))),
        ("fs.file-max", "fs.file-max=401320", with(|m| m.file_max = Some(100_000))),
        ("net.ipv4.tcp_mem", "\"400000 500000 600000\"", with(|m| m.tcp_mem = Some([1, 2, 3]))),
        ("net.core.somaxconn", "somaxconn=4096", with(|m| m.somaxconn = Some(128))),
        ("memory available", "smaller", with(|m| m.memory_available = 2400 << 20)),
    ];
    for (what, command, machine) in scarce {
        // The outbox is large, so that memory can be short without a shortfall of slots.
        let config = if what == "memory available" {
            serving("slots_per_shard = 100000\noutbox_bytes = \"1GiB\"")
        } else {
            config.clone()
        };
        let row = one_complaint(&config, &machine);
        assert_eq!((row.what.as_str(), row.verdict), (what, Verdict::Advice));
        assert!(row.command.contains(command), "{row:?}");
    }
}

/// Windows count where a route asks for them, what is kept where something is kept.
#[test]
fn windows_and_replay_are_in_the_sum_of_memory() {
    let full = |feed: &str, route: &str| {
        let text = format!(
            "[server]\nshards = 4\nslots_per_shard = 1000\noutbox_bytes = \"16MiB\"\ndeflate_window_bytes = \"1GiB\"\n\
             [[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n\
             [[feed]]\nname = \"f\"\nsource = \"demo\"\nchannel = \"c\"\n{feed}\n\
             [[route]]\npath = \"/\"\nservice = \"broadcast\"\nfeeds = \"f\"\n{route}\n"
        );
        let config = config::read(&text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let rows = examine(&config, &plenty());
        rows.into_iter().find(|row| row.what == "memory available").expect("a row about memory").should
    };
    let least = full("", "");
    assert!(least.contains("MiB"), "{least}");
    assert_eq!(full("replay = { bytes = \"8GiB\", messages = 0 }", "deflate_takeover = false"), least);
    assert!(full("", "deflate_takeover = true").starts_with("4.1 GiB"));
    assert_eq!(full("", "deflate_takeover = true\ndeflate = false"), least);
    assert!(full("replay = { bytes = \"8GiB\", messages = 1 }", "").starts_with("8.1 GiB"));
}

/// What handshakes may hold counts where a listener has TLS.
#[test]
fn handshakes_are_in_the_sum_of_memory() {
    let full = |tls: &str| {
        let text = format!(
            "[server]\nshards = 4\nslots_per_shard = 1000\noutbox_bytes = \"16MiB\"\ntls_handshake_bytes = \"1GiB\"\n\
             [[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n{tls}\n\
             [[route]]\npath = \"/\"\nservice = \"echo\"\n"
        );
        let config = config::read(&text, "x", Path::new("")).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let rows = examine(&config, &plenty());
        rows.into_iter().find(|row| row.what == "memory available").expect("a row about memory").should
    };
    assert!(full("").contains("MiB"), "{}", full(""));
    let with = full("tls = { certificate = \"ci/config/good/tls/edge.pem\", key = \"ci/config/good/tls/edge.key\" }");
    assert!(with.starts_with("4.1 GiB"), "{with}");
}

#[test]
fn derived_slots_that_descriptors_keep_few_are_advice() {
    let row = one_complaint(&serving(""), &with(|m| (m.nofile_hard, m.nr_open) = (20_000, Some(65_536))));
    assert_eq!((row.what.as_str(), row.verdict), ("RLIMIT_NOFILE", Verdict::Advice));
    assert!(row.command.starts_with("as root: sysctl -w fs.nr_open=1048576; ulimit -n 1048576 "), "{row:?}");
}

#[test]
fn what_is_unknown_is_not_judged() {
    let machine =
        with(|m| (m.file_max, m.nr_open, m.somaxconn, m.tcp_mem, m.io_uring_disabled) = (None, None, None, None, None));
    let rows = examine(&serving("slots_per_shard = 1000"), &machine);
    assert!(rows.iter().all(|row| row.verdict == Verdict::Ok));
    assert!(!verdicts(&rows).contains_key("fs.file-max"));
}

/// Ports are counted per upstream, each upstream once; Unix sockets need none.
#[test]
fn local_ports_are_counted_for_tcp_upstreams() {
    let proxy = |upstreams: &str| {
        let text = "[server]\nslots_per_shard = 40000\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n";
        let route = |path: &str| format!("[[route]]\npath = \"{path}\"\nservice = \"proxy\"\nupstream = {upstreams}\n");
        config::read(&[text, &route("/a"), &route("/b")].concat(), "x", Path::new("")).unwrap()
    };
    let row = one_complaint(&proxy("\"tcp://a:1\""), &plenty());
    assert_eq!((row.what.as_str(), row.verdict), ("net.ipv4.ip_local_port_range", Verdict::Advice));
    assert_eq!(
        (row.is.as_str(), row.should.as_str()),
        ("1024 65535, 64512 connections", "80000 connections to 1 TCP upstreams")
    );
    let two = examine(&proxy("[\"tcp://a:1\", \"tcp://a:2\"]"), &plenty());
    assert_eq!(verdicts(&two)["net.ipv4.ip_local_port_range"], Verdict::Ok);
    let unix = examine(&proxy("\"unix:///run/a\""), &plenty());
    assert!(!verdicts(&unix).contains_key("net.ipv4.ip_local_port_range"));
}

/// What the probe found stands in the table as it is, and counts.
#[test]
fn findings_of_the_probe_are_carried_over() {
    for verdict in [Verdict::Fails, Verdict::Advice, Verdict::Ok] {
        let found = Finding::new("multishot", "a".into(), "b".into(), verdict, "boot".into());
        assert_eq!(found.command.is_empty(), verdict == Verdict::Ok);
        let rows = doctor::rows(&serving(""), &plenty(), std::slice::from_ref(&found));
        assert!(rows.contains(&found));
        assert_eq!(findings::fails(&rows), verdict == Verdict::Fails);
    }
}

#[test]
fn the_table_is_aligned_and_names_remedies() {
    let row = |what: &str, is: &str, verdict, command: &str| {
        Finding::new(what, is.into(), "enough".into(), verdict, command.into())
    };
    let rows = [row("a", "10", Verdict::Ok, ""), row("long name", "1", Verdict::Fails, "do this")];
    let expected = "ok      a          10  enough\nFAILS   long name  1   enough\n        → do this\n";
    assert_eq!(findings::text(&rows), expected);
}
