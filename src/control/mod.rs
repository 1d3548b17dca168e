//! The few slow things, on one thread with a tokio current-thread runtime: the admin address, feeds, names,
//! signals. It meets the shards by letters only.
//!
//! From top to bottom, each importing only what stands below it:
//!
//! | room | what |
//! |---|---|
//! | `mod` | what the thread is built with; starts all tasks |
//! | `admin` | the admin address: metrics, health, channels, publishing over HTTP |
//! | `dispatcher` | the task that holds the links to the shards |
//! | `feeds` | the tasks that bring messages, and what they share |
//! | `brokers` | sessions with brokers whose topics are shared |
//! | `certificates` | the TLS of listeners: files, and what becomes of them when they change |
//! | `auth` | whose credentials these are: users, tokens, other servers that are asked |
//! | `lists` | lists of networks that may come in or may not: files, read again at SIGHUP |
//! | `names`, `signals` | tasks that send the dispatcher commands |
//! | `publishing` | from feeds to shards: one queue, credit, shards that are left behind |
//! | `commands`, `reports`, `subscriber_queries` | what other tasks ask of the dispatcher, and the shards' answers |
//! | `backoff` | waits between attempts |
//! | `shard_link`, `shutdown`, `resolver`, `stats` | mailboxes; the way to the end; DNS; counters of this thread |

mod admin;
pub mod auth;
mod backoff;
pub mod brokers;
pub mod certificates;
mod commands;
mod dispatcher;
pub mod feeds;
pub mod lists;
mod names;
mod publishing;
mod reports;
mod resolver;
mod shard_link;
mod shutdown;
mod signals;
pub mod stats;
mod subscriber_queries;

pub use admin::{AdminRules, metrics};
pub use publishing::PublishLimits;
pub use shard_link::Line;
pub use shutdown::Ending;

use crate::mesh::{ListenerTls, Waker};
use auth::{AuthLimits, AuthSettings, Upkeep, Verifiers};
use brokers::Brokers;
use certificates::{Kept, TlsListener};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Threads for feeds whose libraries resolve names by themselves or whose files of TLS are read, at most.
const LIBRARY_THREADS: usize = 8;

/// How long threads that wait for a disk or a resolver may delay the end of the process.
const LINGER: Duration = Duration::from_millis(500);

/// What the control thread is built with.
pub struct ControlSettings {
    /// The admin address; `None`: there is none.
    pub admin: Option<Admin>,
    /// Counters that others count in too.
    pub counts: stats::Counts,
    /// Upstreams that have a name: number, host, port.
    pub names: Vec<(u32, String, u16)>,
    /// How long the addresses of a name are used before it is resolved again.
    pub resolve_ttl: Duration,
    /// How long clients may take to leave when the server stops.
    pub grace: Duration,
    /// Names for the labels of metrics.
    pub labels: metrics::Labels,
    /// Where messages come from, in the order of the configuration.
    pub feeds: Vec<feeds::SourceSettings>,
    /// Brokers of which the edge shares topics.
    pub brokers: Vec<brokers::BrokerSettings>,
    /// How far shards may be behind what feeds publish.
    pub publish_limits: PublishLimits,
    /// TLS whose files are watched; the numbers of its listeners do not matter here.
    pub tls: Kept,
    /// The `auth` of routes, by the numbers of their limits; `None`: of one that has none.
    pub auth: Vec<Option<AuthSettings>>,
    /// How much of it is asked at one time.
    pub auth_limits: AuthLimits,
    /// The run of the server that counts the messages: the shards have the same.
    pub epoch: u32,
}

/// The admin address.
pub struct Admin {
    /// A listener that is bound and non-blocking.
    pub listener: TcpListener,
    /// TLS for all who connect; `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// Who may ask for what.
    pub rules: AdminRules,
}

/// Runs until the server has stopped. `lines` are the mailboxes of the shards, by their numbers; `waker` is that of the
/// mailboxes from them. Call it on a thread of its own, with the shards running.
///
/// # Errors
/// The kernel refuses the runtime (epoll), a signal handler, or to poll the waker: nothing that an operator could have
/// written differently.
pub fn run(settings: ControlSettings, lines: Vec<Line>, waker: &Waker) -> io::Result<Ending> {
    let resolving = settings.feeds.iter().filter(|it| it.blocks()).count().min(LIBRARY_THREADS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One each for the files of TLS, for those of `auth`, for lists of networks.
        .max_blocking_threads(resolver::AT_ONCE + resolving + 3)
        .build()?;
    let ending = runtime.block_on(serve(settings, lines, waker));
    runtime.shutdown_timeout(LINGER);
    ending
}

async fn serve(settings: ControlSettings, lines: Vec<Line>, waker: &Waker) -> io::Result<Ending> {
    let (commands, queue) = mpsc::channel(commands::QUEUE);
    let shards = lines.len();
    let (publisher, publish_queue) = publishing::channel(settings.epoch, shards, settings.publish_limits);
    let feeds = feeds::start(settings.feeds, &publisher);
    let (verdicts, answers) = mpsc::unbounded_channel();
    let asked = (&settings.auth[..], &settings.brokers[..]);
    let (verifiers, upkeep) = Verifiers::start(asked, settings.auth_limits, verdicts)?;
    let (brokers, news) = Brokers::start(settings.brokers, &publisher);
    let states = settings.tls.listeners.iter().map(TlsListener::state).collect();
    let readers = keep_files(settings.tls, upkeep, settings.counts.lists.clone());
    if let Some(Admin { listener, tls, rules }) = settings.admin {
        let seen = (
            settings.labels,
            stats::Counts { tls: states, auth: verifiers.stats(), brokers: brokers.stats(), ..settings.counts },
        );
        let state = admin::AdminState::new(commands.clone(), seen, rules, (feeds, publisher));
        tokio::spawn(admin::serve(listener, tls, state));
    }
    for name in settings.names {
        tokio::spawn(names::keep(name, settings.resolve_ttl, commands.clone()));
    }
    tokio::spawn(signals::Signals::new()?.forward(commands, readers));
    let dispatcher = dispatcher::Dispatcher::new(lines, publish_queue).with_verifiers(verifiers, answers);
    let mut dispatcher = dispatcher.with_brokers(brokers, news);
    let ending = dispatcher.run(waker, queue, settings.grace).await?;
    tracing::info!(shards, ending = ?ending, "stopped");
    Ok(ending)
}

/// Starts the tasks that read files again: who they are, for SIGHUP.
fn keep_files(tls: Kept, upkeep: Upkeep, lists: Arc<[Arc<lists::KeptLists>]>) -> Vec<signals::Reader> {
    let mut readers: Vec<signals::Reader> = Vec::new();
    let mut reader = |files| {
        let orders = Arc::<Notify>::default();
        readers.push((files, orders.clone()));
        orders
    };
    if !tls.is_empty() {
        tokio::spawn(certificates::keep(tls, reader("TLS")));
    }
    if !upkeep.is_empty() {
        tokio::spawn(upkeep.keep(reader("auth")));
    }
    if lists::have_files(&lists) {
        tokio::spawn(lists::keep(lists, reader("lists of networks")));
    }
    readers
}

#[cfg(test)]
mod tests;
