//! Stateless session tickets (RFC 8446 section 4.6.1, RFC 5077): sealed under keys that all shards share.
//!
//! A ticket is `name (16) | nonce (12) | sealed session | tag (16)`, AES-256-GCM; the name tells the key. What is
//! authenticated beside it are the rules for clients of the listener that made it, so that a session that was begun
//! where nobody asks for a certificate is not resumed where somebody does, nor one after its certificate was revoked.
//!
//! Time is cut into periods of `rotate`, counted from 1970. A key seals in one period and opens in the next as well,
//! and then it is gone: rustls itself looks at no age. Random keys are made anew for each period. From a secret in a
//! file keys are derived by HKDF for the period before, the present one and the next, so that machines whose clocks
//! differ by less than a period take each other's tickets.

use super::contents::{Contents, Fingerprint};
use super::fault::{Fault, Place};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NAME_LEN: usize = 16;

const SECRET_LEN: usize = 32;

/// Secrets that a file may have: each costs three keys.
const SECRETS_MAX: usize = 16;

/// What separates these keys from all others that may be derived of the same secret.
const SALT: &[u8] = b"edgehold session tickets 1";

/// A secret that keys are derived from.
pub(super) type Secret = [u8; SECRET_LEN];

/// Reads the secrets of a file, the one that seals first.
///
/// # Errors
/// A line is none, or there are none or too many.
pub(super) fn secrets(file: &Path, contents: &Contents) -> Result<Vec<Secret>, Fault> {
    let fault = |words: String| Fault { place: Place::TicketKeys, file: file.to_owned(), words };
    let text = std::str::from_utf8(contents.of(Place::TicketKeys, file)?).unwrap_or("not UTF-8");
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let secrets: Result<Vec<_>, _> = lines.map(|(number, line)| secret(line).ok_or(number)).collect();
    let make = "write what `openssl rand -base64 32` prints, a line for each secret";
    match secrets {
        Ok(secrets) if secrets.is_empty() => Err(fault(format!("has no secret — {make}"))),
        Ok(secrets) if secrets.len() > SECRETS_MAX => {
            Err(fault(format!("has {} secrets, {SECRETS_MAX} at most — leave the oldest out", secrets.len())))
        }
        Ok(secrets) => Ok(secrets),
        Err(number) => Err(fault(format!("has no 32 bytes in base64 in line {number} — {make}"))),
    }
}

fn secret(line: &str) -> Option<Secret> {
    BASE64.decode(line).ok()?.try_into().ok()
}

/// A key of one period.
struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

/// How much is derived: a name and a key.
struct Derived;

impl KeyType for Derived {
    fn len(&self) -> usize {
        NAME_LEN + SECRET_LEN
    }
}

impl Key {
    fn derive(secret: &Secret, period: u64) -> Key {
        let mut bytes = [0; NAME_LEN + SECRET_LEN];
        let extracted = Salt::new(HKDF_SHA256, SALT).extract(secret);
        let period = period.to_be_bytes();
        let expanded = extracted.expand(&[&period], Derived).and_then(|it| it.fill(&mut bytes));
        expanded.expect("HKDF-SHA256 gives up to 8160 bytes");
        let (name, key) = bytes.split_at(NAME_LEN);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 has keys of 32 bytes");
        Key { name: name.try_into().expect("it was cut there"), key: LessSafeKey::new(key) }
    }
}

/// The keys of one moment.
struct KeyRing {
    period: u64,
    /// What they are derived from; `None`: they are random.
    secrets: Option<Arc<[Secret]>>,
    /// The first seals, all open.
    keys: Vec<Arc<Key>>,
}

impl KeyRing {
    fn new(secrets: Option<Arc<[Secret]>>, period: u64) -> KeyRing {
        let keys = secrets.as_deref().map_or_else(|| vec![random(period)], |secrets| derived(secrets, period));
        KeyRing { period, secrets, keys }
    }

    /// The ring of another period. A random key stays for the one that follows its own.
    fn followed_by(&self, period: u64) -> KeyRing {
        let mut ring = KeyRing::new(self.secrets.clone(), period);
        let follows = period == self.period + 1;
        ring.keys.extend(self.keys.first().filter(|_| follows && self.secrets.is_none()).cloned());
        ring
    }
}

/// The keys of a listener. They outlive each reading of its files. One thread changes them, all read them.
pub(super) struct TicketKeys {
    rotate: Duration,
    ring: ArcSwap<KeyRing>,
}

impl TicketKeys {
    /// With keys for the moment `now`, in seconds since 1970; from `secrets`, or random ones where there are none.
    pub(super) fn new(rotate: Duration, secrets: Option<&[Secret]>, now: i64) -> Arc<TicketKeys> {
        let ring = KeyRing::new(secrets.map(Arc::from), period(rotate, now));
        Arc::new(TicketKeys { rotate, ring: ArcSwap::from_pointee(ring) })
    }

    /// The file was read again: from now on the keys are those of these secrets.
    pub(super) fn replace(&self, secrets: &[Secret], now: i64) {
        self.ring.store(Arc::new(KeyRing::new(Some(secrets.into()), period(self.rotate, now))));
    }

    /// Goes on to the keys of the period of `now`; says whether it is another than before.
    pub(super) fn rotate(&self, now: i64) -> bool {
        let (before, period) = (self.ring.load_full(), period(self.rotate, now));
        let another = before.period != period;
        if another {
            self.ring.store(Arc::new(before.followed_by(period)));
        }
        another
    }

    /// How long the present period lasts from `now` on.
    pub(super) fn until_next(&self, now: i64) -> Duration {
        let length = self.rotate.as_secs().max(1);
        Duration::from_secs(length - seconds(now) % length)
    }
}

fn seconds(now: i64) -> u64 {
    u64::try_from(now).unwrap_or(0)
}

fn period(rotate: Duration, now: i64) -> u64 {
    seconds(now) / rotate.as_secs().max(1)
}

/// The one that seals first.
fn derived(secrets: &[Secret], period: u64) -> Vec<Arc<Key>> {
    let periods = [period, period.saturating_sub(1), period + 1];
    periods.iter().flat_map(|period| secrets.iter().map(|it| Arc::new(Key::derive(it, *period)))).collect()
}

/// # Panics
/// The kernel gives no random bytes: nothing that has to do with TLS could work.
fn random(period: u64) -> Arc<Key> {
    let mut secret = [0; SECRET_LEN];
    SystemRandom::new().fill(&mut secret).expect("random bytes of the kernel");
    Arc::new(Key::derive(&secret, period))
}

/// What seals and opens the tickets of one configuration.
pub(super) struct Ticketer {
    keys: Arc<TicketKeys>,
    /// [`Clients::rules`](super::clients::Clients::rules).
    rules: Fingerprint,
}

impl Ticketer {
    pub(super) fn new(keys: Arc<TicketKeys>, rules: Fingerprint) -> Ticketer {
        Ticketer { keys, rules }
    }

    fn aad(&self, name: &[u8; NAME_LEN]) -> Aad<Vec<u8>> {
        Aad::from([name.as_slice(), &self.rules].concat())
    }

    /// `None`: it was not made by us, or not under these rules, or too long ago.
    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ring = self.keys.ring.load();
        // A name is no secret: it stands in each ticket.
        let key = ring.keys.iter().find(|key| key.name == *name)?;
        let mut session = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.key.open_in_place(nonce, self.aad(name), &mut session).ok()?.len();
        session.truncate(len);
        Some(session)
    }

    /// A nonce is random: fewer than 2^32 tickets are made under a key (NIST SP 800-38D section 8.3), since that would
    /// take 100 000 handshakes a second for twelve hours.
    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let ring = self.keys.ring.load();
        let key = ring.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = session.to_vec();
        let once = Nonce::assume_unique_for_key(nonce);
        key.key.seal_in_place_append_tag(once, self.aad(&key.name), &mut sealed).ok()?;
        Some([key.name.as_slice(), &nonce, &sealed].concat())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    /// Seconds: a ticket is taken for that long at least.
    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.rotate.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

/// Without its keys.
impl std::fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticketer").field("rotate", &self.keys.rotate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const RULES: Fingerprint = [7; 32];

    fn ticketer(keys: &Arc<TicketKeys>) -> Ticketer {
        Ticketer::new(keys.clone(), RULES)
    }

    #[test]
    fn a_ticket_comes_back_and_a_changed_one_does_not() {
        let one = ticketer(&TicketKeys::new(HOUR, None, 0));
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(one.decrypt(&ticket).unwrap(), b"session");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(one.decrypt(&changed), None, "{at}");
            assert_eq!(one.decrypt(&ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn random_keys_open_for_one_period_more_and_are_gone() {
        let keys = TicketKeys::new(HOUR, None, 3599);
        let one = ticketer(&keys);
        let ticket = one.encrypt(b"session").unwrap();
        assert!(!keys.rotate(3599) && keys.rotate(3600));
        assert!(one.decrypt(&ticket).is_some());
        assert_ne!(one.encrypt(b"session").unwrap()[..NAME_LEN], ticket[..NAME_LEN], "a new key seals");
        assert!(keys.rotate(7200));
        assert_eq!(one.decrypt(&ticket), None);
    }

    #[test]
    fn random_keys_are_gone_where_a_whole_period_was_slept_through() {
        let keys = TicketKeys::new(HOUR, None, 0);
        let ticket = ticketer(&keys).encrypt(b"session").unwrap();
        assert!(keys.rotate(7200));
        assert_eq!(ticketer(&keys).decrypt(&ticket), None);
    }

    #[test]
    fn machines_with_one_secret_take_each_others_tickets_while_their_clocks_are_near() {
        let (old, new) = ([1; 32], [2; 32]);
        let ticket = ticketer(&TicketKeys::new(HOUR, Some(&[old]), 3599)).encrypt(b"session").unwrap();
        let opens =
            |secrets: &[Secret], now| ticketer(&TicketKeys::new(HOUR, Some(secrets), now)).decrypt(&ticket).is_some();
        assert!(opens(&[old], 0) && opens(&[old], 3600) && opens(&[old], 7199), "the period, and the next");
        assert!(!opens(&[old], 7200) && !opens(&[new], 3599));
        assert!(opens(&[new, old], 3600), "the file has a new secret in front");
        let ahead = ticketer(&TicketKeys::new(HOUR, Some(&[old]), 3600)).encrypt(b"session").unwrap();
        assert!(
            ticketer(&TicketKeys::new(HOUR, Some(&[old]), 3599)).decrypt(&ahead).is_some(),
            "a clock that is behind"
        );
    }

    #[test]
    fn keys_from_a_file_rotate_and_are_replaced() {
        let keys = TicketKeys::new(HOUR, Some(&[[1; 32]]), 0);
        let one = ticketer(&keys);
        let ticket = one.encrypt(b"session").unwrap();
        assert!(keys.rotate(3600) && one.decrypt(&ticket).is_some());
        keys.replace(&[[2; 32], [1; 32]], 3600);
        assert!(one.decrypt(&ticket).is_some());
        keys.replace(&[[2; 32]], 3600);
        assert_eq!(one.decrypt(&ticket), None);
        assert_eq!(keys.until_next(3601), Duration::from_secs(3599));
    }

    #[test]
    fn a_ticket_is_good_for_the_rules_under_which_it_was_made() {
        let keys = TicketKeys::new(HOUR, None, 0);
        let ticket = ticketer(&keys).encrypt(b"session").unwrap();
        assert_eq!(Ticketer::new(keys, [8; 32]).decrypt(&ticket), None);
    }
}
