//! TLS as it is at this moment: made by the control thread from the files of an operator, taken by shards at each
//! handshake.
//!
//! It is shared memory and not a letter: a certificate that was replaced must not be shown any more, however full the
//! mailbox of a shard is. To take it is one atomic load and a count, without a lock; a connection that has begun its
//! handshake keeps what it took.

use super::tls_errors::{UPSTREAM, words};
use arc_swap::ArcSwap;
use edgehold_wire::tls::{Alert, ClientHandshake, Failure, Reason};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, ServerConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The configuration of a listener's TLS, which may be replaced at any time. A clone is the same one.
#[derive(Clone, Debug)]
pub struct ListenerTls(Arc<Listener>);

#[derive(Debug)]
struct Listener {
    config: ArcSwap<ServerConfig>,
    signs_slowly: AtomicBool,
}

impl ListenerTls {
    /// With this configuration to begin with. `signs_slowly`: one of its keys takes long for a signature, as RSA does.
    pub fn new(config: Arc<ServerConfig>, signs_slowly: bool) -> ListenerTls {
        let signs_slowly = AtomicBool::new(signs_slowly);
        ListenerTls(Arc::new(Listener { config: ArcSwap::new(config), signs_slowly }))
    }

    /// What a handshake that begins now is to use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.config.load_full()
    }

    /// A signature may take long now.
    pub fn signs_slowly(&self) -> bool {
        self.0.signs_slowly.load(Ordering::Relaxed)
    }

    /// Replaces it for handshakes that begin from now on.
    pub fn replace(&self, config: Arc<ServerConfig>, signs_slowly: bool) {
        self.0.config.store(config);
        self.0.signs_slowly.store(signs_slowly, Ordering::Relaxed);
    }
}

/// TLS towards an upstream: its configuration, which may be replaced at any time, and what became of the last
/// handshake. A clone is the same one.
#[derive(Clone, Debug)]
pub struct UpstreamTls(Arc<Upstream>);

#[derive(Debug)]
struct Upstream {
    /// What the log calls it.
    label: String,
    /// For which its certificate must be.
    name: ServerName<'static>,
    config: ArcSwap<ClientConfig>,
    /// [`WELL`], [`GONE`], or the number of the reason for which the last handshake failed.
    last: AtomicUsize,
    /// Its files are others than those in use.
    refused: AtomicBool,
    /// When the log last said that it has ended a connection by an alert, in minutes since 1970.
    told: AtomicU64,
}

/// No handshake has failed since one was good.
const WELL: usize = usize::MAX;

/// The upstream has gone in the midst of the last handshake: no [`Reason`], but a number behind those of reasons.
const GONE: usize = Reason::WORDS.len();

/// Its word.
const GONE_WORD: &str = "gone";

impl UpstreamTls {
    /// Towards the upstream that the configuration calls `label`, whose certificate must be for `name`.
    pub fn new(label: String, name: ServerName<'static>, config: Arc<ClientConfig>) -> UpstreamTls {
        let (config, last) = (ArcSwap::new(config), AtomicUsize::new(WELL));
        let (refused, told) = (AtomicBool::new(false), AtomicU64::new(0));
        UpstreamTls(Arc::new(Upstream { label, name, config, last, refused, told }))
    }

    /// For a handshake that another library makes: whom it is with, and how.
    pub fn parts(&self) -> (ServerName<'static>, Arc<ClientConfig>) {
        (self.0.name.clone(), self.0.config.load_full())
    }

    /// A handshake that begins now.
    ///
    /// # Errors
    /// The configuration is not one that rustls accepts.
    pub fn begin(&self) -> Result<ClientHandshake, Failure> {
        let handshake = ClientHandshake::new(&self.0.config.load(), self.0.name.clone());
        handshake.map_err(|error| Failure { reason: Reason::Internal, alert: None, detail: Some(error) })
    }

    /// Replaces the configuration for handshakes that begin from now on.
    pub fn replace(&self, config: Arc<ClientConfig>) {
        self.0.config.store(config);
    }

    /// The files have changed, and cannot be used or can again.
    pub fn refuse(&self, refused: bool) {
        self.0.refused.store(refused, Ordering::Relaxed);
    }

    /// Whether the files are others than those in use, since they cannot be used.
    pub fn is_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// A handshake has failed, in any shard. The log says so once for as long as the reason is the same.
    pub fn failed(&self, failure: &Failure) {
        let reason = failure.reason.word();
        let why = || failure.detail.as_ref().map_or_else(|| reason.into(), |error| words(error, &UPSTREAM));
        self.tell(failure.reason.number(), why);
    }

    /// The upstream has ended the connection, or said nothing for too long, in the midst of a handshake.
    pub fn gone(&self) {
        let why = "TLS: the upstream has gone in the midst of the handshake — see whether it speaks TLS there; its log \
                   may say why";
        self.tell(GONE, || why.into());
    }

    fn tell(&self, number: usize, why: impl Fn() -> String) {
        if self.0.last.swap(number, Ordering::Relaxed) != number {
            tracing::warn!(upstream = self.0.label, reason = self.failure(), "{}", why());
        }
    }

    /// It has ended a connection by this alert, behind the handshake: so a server of TLS 1.3 refuses a certificate. The
    /// log says so once a minute.
    pub fn refused(&self, alert: Alert) {
        let minute = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
        if self.0.told.swap(minute, Ordering::Relaxed) != minute {
            let why = words(&Error::AlertReceived(alert.0.into()), &UPSTREAM);
            tracing::warn!(upstream = self.0.label, "{why}");
        }
    }

    /// A handshake was good.
    pub fn succeeded(&self) {
        if self.0.last.load(Ordering::Relaxed) != WELL {
            self.0.last.store(WELL, Ordering::Relaxed);
            tracing::info!(upstream = self.0.label, "TLS: handshakes with the upstream succeed again");
        }
    }

    /// The reason for which the last handshake failed, as one word; `None` where it was good, or there was none.
    pub fn failure(&self) -> Option<&'static str> {
        match self.0.last.load(Ordering::Relaxed) {
            GONE => Some(GONE_WORD),
            number => Reason::WORDS.get(number).copied(),
        }
    }
}
