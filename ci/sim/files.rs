//! Files under a kernel that has some of them in its cache and lets the shard wait for the others: all bytes come, in
//! their order; nothing stays open; a disk that hangs holds back its own downloads only.

use crate::stage::{FILE_QUEUE, FILE_WAIT, KIND, Stage, settings};
use edgehold::engine::script::{FarEnd, Temper};
use edgehold::shard::service::{RouteLimits, ShardSettings};
use std::time::Duration;

/// More than two parts.
const LONG_BYTES: usize = 300_000;
const TURNS: usize = 20_000;

/// A kernel that takes its freedoms, and clients whose windows are small.
fn unkind(window: usize) -> Temper {
    Temper { delay: 40, end_multishot: 10, buffers: (16, 512), buffer_with_error: 20, completions: 20, window, ..KIND }
}

fn long() -> Vec<u8> {
    (0..LONG_BYTES).map(|at| (at % 251) as u8).collect()
}

fn stage(seed: u64, temper: Temper) -> Stage {
    let limits = RouteLimits { max_pending: 64 << 10, ..crate::stage::limits() };
    let mut stage = Stage::new(seed, temper, &ShardSettings { limits: vec![limits], ..settings() });
    stage.shard.ring().put_file("long", &long());
    stage.shard.ring().put_file("short", b"short\n");
    stage
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

/// Status and body of the first response, and what is behind it; `None` while it is not whole.
fn response(heard: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let end = heard.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&heard[..end]).expect("a head is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let length: usize = length.parse().expect("a number");
    let (body, rest) = heard[end..].split_at_checked(length)?;
    Some((head[9..12].parse().expect("a status"), body, rest))
}

fn statuses(mut heard: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some((status, _, rest)) = response(heard) {
        statuses.push(status);
        heard = rest;
    }
    statuses
}

/// A client, and what it has heard.
struct Client {
    end: FarEnd,
    heard: Vec<u8>,
}

impl Client {
    fn asks(stage: &mut Stage, request: &[u8]) -> Client {
        Client { end: stage.asked(request), heard: Vec::new() }
    }

    fn listen(&mut self, stage: &mut Stage, most: usize) {
        let heard = stage.shard.ring().read(self.end, most);
        self.heard.extend(heard);
    }

    /// Listens until so many responses are whole.
    fn hears(&mut self, stage: &mut Stage, count: usize) -> bool {
        stage.until(TURNS, |stage| {
            self.listen(stage, usize::MAX);
            statuses(&self.heard).len() == count
        })
    }
}

fn at_rest(stage: &mut Stage) -> bool {
    stage.until(TURNS, |stage| stage.shard.ring().open_files() == 0)
}

#[test]
fn files_are_whole_whatever_the_kernel_has_in_its_cache() {
    for seed in 0..60 {
        let mut stage = stage(seed, unkind(20_000));
        let requests = |root: &str| ["long", "short", "nothing", "long"].map(|it| get(&format!("{root}{it}"))).concat();
        // What is far is asked of the ring alone.
        let roots = ["/files/", "/far/"].into_iter().cycle().take(6);
        let mut clients: Vec<Client> = roots.map(|root| Client::asks(&mut stage, &requests(root))).collect();
        let done = stage.until(TURNS, |stage| {
            clients.iter_mut().for_each(|client| client.listen(stage, 7_000));
            clients.iter().all(|client| statuses(&client.heard).len() == 4)
        });
        let mut said = |it: &Client| (statuses(&it.heard), it.heard.len(), stage.shard.ring().is_ended(it.end));
        assert!(done, "seed {seed}: {:?}", clients.iter().map(&mut said).collect::<Vec<_>>());
        for client in &clients {
            let (_, first, rest) = response(&client.heard).expect("four responses");
            let (_, second, rest) = response(rest).expect("three more");
            let (_, _, rest) = response(rest).expect("two more");
            let (_, last, rest) = response(rest).expect("one more");
            assert_eq!(statuses(&client.heard), [200, 200, 404, 200], "seed {seed}");
            assert!(first == long() && second == b"short\n" && last == long() && rest.is_empty(), "seed {seed}");
        }
        assert!(at_rest(&mut stage), "seed {seed}: a file is open");
    }
}

#[test]
fn who_leaves_in_the_middle_leaves_no_file_open() {
    for seed in 0..200 {
        let mut stage = stage(seed, unkind(5_000));
        let clients: Vec<Client> = (0..12).map(|_| Client::asks(&mut stage, &get("/files/long"))).collect();
        (0..seed).for_each(|_| stage.turn());
        for client in &clients {
            stage.shard.ring().break_off(client.end);
        }
        assert!(at_rest(&mut stage), "seed {seed}: a file is open");
        let gone = stage.until(TURNS, |stage| stage.counters().used == 0);
        assert!(gone, "seed {seed}: a slot is used");
        assert_eq!(stage.counters().outbox_bytes, 0, "seed {seed}");
    }
}

#[test]
fn a_folder_that_hangs_holds_no_other_and_has_a_queue_with_an_end() {
    let mut stage = stage(1, KIND).at_pace(Duration::from_millis(10));
    stage.shard.ring().hang(Some("/hung"));
    // Four are with the kernel, eight wait, three are too many.
    let mut hung: Vec<Client> = (0..15).map(|_| Client::asks(&mut stage, &get("/hung/short"))).collect();
    let refused = |hung: &[Client]| hung.iter().filter(|it| statuses(&it.heard) == [503]).count();
    let listen = |stage: &mut Stage, hung: &mut [Client]| hung.iter_mut().for_each(|it| it.listen(stage, 9999));
    (0..20).for_each(|_| stage.turn());
    listen(&mut stage, &mut hung);
    let counters = stage.counters();
    assert_eq!((refused(&hung), counters.files_queued, counters.files_refused), (3, FILE_QUEUE as u64, 3));
    let mut well = Client::asks(&mut stage, &get("/files/short"));
    assert!(well.hears(&mut stage, 1) && statuses(&well.heard) == [200]);
    // Those that wait are told when they have waited too long; of those that the kernel has nothing is known.
    let turns = (FILE_WAIT.as_millis() / 10 + 60) as usize;
    (0..turns).for_each(|_| stage.turn());
    listen(&mut stage, &mut hung);
    assert_eq!((refused(&hung), stage.counters().files_queued), (11, 0));
    stage.shard.ring().hang(None);
    let served = stage.until(TURNS, |stage| {
        listen(stage, &mut hung);
        hung.iter().filter(|it| statuses(&it.heard) == [200]).count() == 4
    });
    assert!(served, "what the kernel had is served in the end");
    assert!(at_rest(&mut stage));
}

/// One file may be held open: the other download opens its file anew for each part, and ends if it is another one.
#[test]
fn beyond_the_limit_a_file_is_opened_anew_for_each_part() {
    for exchanged in [false, true] {
        let mut stage = stage(1, Temper { window: 1000, ..KIND });
        let mut clients: Vec<Client> = (0..2).map(|_| Client::asks(&mut stage, &get("/files/long"))).collect();
        (0..50).for_each(|_| stage.turn());
        assert_eq!(stage.shard.ring().open_files(), 1);
        if exchanged {
            stage.shard.ring().put_file("long", &long());
        }
        let done =
            |stage: &mut Stage, it: &Client| stage.shard.ring().is_ended(it.end) || response(&it.heard).is_some();
        let all_done = stage.until(TURNS, |stage| {
            clients.iter_mut().for_each(|it| it.listen(stage, usize::MAX));
            clients.iter().all(|it| done(stage, it))
        });
        let whole = |it: &&Client| response(&it.heard).is_some_and(|it| it.1 == long());
        assert!(all_done);
        assert_eq!(clients.iter().filter(whole).count(), if exchanged { 1 } else { 2 });
        assert!(at_rest(&mut stage));
    }
}
