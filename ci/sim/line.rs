//! What a far end of a play speaks through: clear text as it is, or TLS by stock rustls.
//!
//! Over TLS what it says becomes records, which go out in pieces of any length. Certificates, versions and suites are
//! such that all lengths follow from the seed, so that a play can be played again. A record that is not what TLS
//! allows, an alert that nothing has called for, and an end without close_notify are faults of the shard.

use crate::tls_client::{Issued, TLS12, TLS13, TlsClient, offers, without_tickets};
use edgehold::engine::script::{Dice, FarEnd, Script};
use edgehold::mesh::{Cause, Counters, ListenerTls};
use rustls::crypto::ring::Ticketer;
use rustls::{AlertDescription, ClientConfig, Error, ServerConfig, SupportedProtocolVersion};
use std::sync::{Arc, LazyLock};

/// Suites that clients may insist on, with their versions.
const SUITES: [(&SupportedProtocolVersion, &str); 6] = [
    (&TLS13, "TLS13_AES_128_GCM_SHA256"),
    (&TLS13, "TLS13_AES_256_GCM_SHA384"),
    (&TLS13, "TLS13_CHACHA20_POLY1305_SHA256"),
    (&TLS12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (&TLS12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (&TLS12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// KeyUpdates of a far end: 32 without data in between are a flood, to the shard (docs/decisions/tls.md) and to rustls,
/// which is sent as many answers.
const UPDATES_MAX: usize = 30;

/// Where the last bytes do not reach a far end, it may not be told that they are all: by nothing but FIN.
const CUT: [Cause; 4] = [Cause::Stalled, Cause::CloseTimeout, Cause::UpstreamLost, Cause::Overload];

/// The server's configuration and what clients offer, made once.
static BOTH: LazyLock<(Arc<ServerConfig>, Vec<ClientConfig>)> = LazyLock::new(|| {
    let issued = Issued::new();
    let server = ServerConfig::builder().with_no_client_auth();
    let chain = vec![issued.certificate.clone()];
    let mut server = server.with_single_cert(chain, issued.private_key()).expect("a configuration");
    server.ticketer = Ticketer::new().expect("random bytes");
    let offers = SUITES.map(|(version, suite)| offers(version, Some(suite), &[&issued]));
    (Arc::new(server), offers.to_vec())
});

/// Whether the far ends of a play speak TLS, and what each of them offers.
pub struct Lines {
    /// By suite; their tickets are those of this play.
    offers: Vec<Arc<ClientConfig>>,
}

impl Lines {
    pub fn clear() -> Lines {
        Lines { offers: Vec::new() }
    }

    pub fn over_tls() -> Lines {
        Lines { offers: BOTH.1.iter().map(without_tickets).collect() }
    }

    /// For the settings of the shard.
    pub fn listeners(&self) -> Vec<Option<ListenerTls>> {
        self.offers.first().map(|_| Some(ListenerTls::new(BOTH.0.clone(), false))).into_iter().collect()
    }

    /// A client that has just come. In clear text no dice are thrown, so that plays without TLS stay what they are.
    pub fn connect(&self, end: FarEnd, dice: &mut Dice) -> Line {
        let offers = &self.offers;
        let tls = if offers.is_empty() { None } else { Some(TlsClient::new(&offers[dice.below(offers.len())])) };
        Line { end, tls, unsent: Vec::new(), updates: 0, turned_away: false, leaves: false, cut: false }
    }

    /// What the shard has left behind of TLS, or counted that cannot be; `cut`: so many far ends were cut
    /// ([`Line::is_cut`]), which is right where something has not reached them.
    pub fn fault(counters: &Counters, cut: usize) -> Option<String> {
        let failures: u64 = counters.tls_failures.iter().sum();
        let handshaking = counters.tls_handshaking.iter().sum();
        let wrong = [handshaking, counters.tls_awake, counters.tls_faults, failures];
        let lost = CUT.map(|cause| counters.closes[cause as usize]).iter().sum::<u64>();
        let told = (wrong != [0; 4]).then(|| format!("handshakes, records awake, faults, failures: {wrong:?}"));
        told.or_else(|| (cut as u64 > lost).then(|| format!("{cut} without close_notify: {:?}", counters.closes)))
    }
}

/// One far end.
pub struct Line {
    end: FarEnd,
    tls: Option<TlsClient>,
    /// Bytes of records that are to be said.
    unsent: Vec<u8>,
    /// KeyUpdates that it has sent.
    updates: usize,
    /// The shard had no room, and has said so by an alert.
    turned_away: bool,
    /// It has ended or broken the connection itself.
    leaves: bool,
    /// See [`Line::is_cut`].
    cut: bool,
}

impl Line {
    /// Reads at most so many bytes of what came. What is in them, in clear text.
    ///
    /// # Panics
    /// It is not what TLS allows.
    pub fn read(&mut self, ring: &mut Script, most: usize) -> Vec<u8> {
        let bytes = ring.read(self.end, most);
        let Some(tls) = &mut self.tls else { return bytes };
        if self.turned_away {
            return Vec::new();
        }
        match tls.open(&bytes) {
            Ok(plain) => plain,
            Err(Error::AlertReceived(AlertDescription::InternalError)) if tls.is_handshaking() => {
                self.turned_away = true;
                Vec::new()
            }
            Err(error) => panic!("client {}: {error}", self.end),
        }
    }

    /// Says it; over TLS as far as [`Line::step`] lets it.
    pub fn say(&mut self, ring: &mut Script, plain: &[u8]) {
        let Some(tls) = &mut self.tls else { return ring.say(self.end, plain) };
        if self.turned_away {
            return;
        }
        tls.seal(plain);
        self.unsent.extend(tls.outgoing());
    }

    /// Over TLS a piece of the records goes out, and keys change now and then.
    pub fn step(&mut self, ring: &mut Script, dice: &mut Dice) {
        let Some(tls) = &mut self.tls else { return };
        if self.leaves || self.turned_away {
            return;
        }
        if self.updates < UPDATES_MAX && tls.is_13() && dice.chance(2) {
            self.updates += 1;
            tls.update_keys();
        }
        self.unsent.extend(tls.outgoing());
        if dice.chance(70) {
            let len = dice.below(self.unsent.len() + 1);
            let piece: Vec<u8> = self.unsent.drain(..len).collect();
            ring.say(self.end, &piece);
        }
    }

    /// All that was said has gone out.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// The shard had no room.
    pub fn is_turned_away(&self) -> bool {
        self.turned_away
    }

    /// Says what is left, mostly close_notify, and FIN.
    pub fn end(&mut self, ring: &mut Script) {
        self.cut |= self.ends_without_a_word(ring);
        if let Some(tls) = self.tls.as_mut().filter(|_| !self.leaves && !self.turned_away) {
            if !tls.is_handshaking() && !self.end.is_multiple_of(3) {
                tls.close();
            }
            self.unsent.extend(tls.outgoing());
            ring.say(self.end, &std::mem::take(&mut self.unsent));
        }
        self.leaves = true;
        ring.end(self.end);
    }

    /// A reset.
    pub fn break_off(&mut self, ring: &mut Script) {
        self.leaves = true;
        ring.break_off(self.end);
    }

    /// It was left without a word: neither close_notify nor an alert, although nothing was broken.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn ends_without_a_word(&self, ring: &Script) -> bool {
        let told = self.tls.as_ref().is_none_or(|tls| tls.is_handshaking() || tls.is_closed());
        !told && !self.leaves && ring.is_ended(self.end) && !ring.is_broken(self.end)
    }
}
