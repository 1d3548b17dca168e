//! Handshakes: rustls driven from received bytes, and dropped when it is over.
//!
//! Records are handed to rustls one at a time and the last one is the one that ends the handshake, so that whatever
//! the peer sent behind it is still here, encrypted, when the record layer takes over. The traffic secrets come from
//! the key log of this one handshake ([`capture`](super::capture)); the keys derived from them are compared with those
//! that rustls hands over, so that a connection is not parked with secrets of another one or of another epoch.
//!
//! No early data is accepted and no half-RTT data sent, whatever the configuration says.

use super::capture::{NameLog, SecretLog, Secrets};
use super::failure::{Failure, Reason};
use super::keys::{Aead, Derived, MAX_MATERIAL, Suite, Version};
use super::parked::{Direction, Parked, Role};
use super::record::HEADER;
use super::{Alert, MAX_PLAINTEXT, MAX_RECORD};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rustls::PeerIncompatible::SignatureAlgorithmsExtensionRequired;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{
    ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeKind, ServerConfig,
};
use zeroize::Zeroizing;

/// Bytes of an unfinished hello that a server keeps: anybody may send one. Hellos have some 500 bytes, 2 kB with a
/// post-quantum key share, and more with the ticket of a client that has a certificate, which is in the ticket.
pub const MAX_HELLO: usize = HEADER + MAX_PLAINTEXT;
/// Bytes of any other unfinished flight that are kept: certificates, for which more must come.
pub const MAX_UNFINISHED: usize = 2 * MAX_RECORD;

/// What a handshake has brought about.
pub struct Established {
    /// The record layer's state.
    pub parked: Parked,
    /// What the peer has sent behind the end of the handshake: records, to be opened, the last one perhaps not whole.
    pub leftover: Vec<u8>,
    /// The name that the client asked for (SNI); `None` on the client's side.
    pub server_name: Option<String>,
    /// The application protocol agreed upon (ALPN).
    pub protocol: Option<Vec<u8>>,
    /// The peer's certificates in DER, its own first; empty where it has presented none. They have been verified as
    /// the configuration says.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The name of the cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// A session was resumed: no certificate was sent and no signature made.
    pub resumed: bool,
}

/// The server's side of a handshake. [`Handshake::feed`] takes what is received until it returns [`Established`].
pub struct Handshake {
    driver: Driver<UnbufferedServerConnection>,
    names: Arc<NameLog>,
    /// No byte of TLS has come.
    is_first: bool,
    /// Bytes that may become an HTTP request, or are one.
    held: Vec<u8>,
}

impl Handshake {
    /// A handshake with this configuration, of which a clone is made (its parts are shared). It takes 2.7 kB at once,
    /// 4 kB after the hello and 6 kB for a moment, beside [`MAX_HELLO`]: it is to be made when the first bytes come.
    ///
    /// # Errors
    /// The configuration is not one that rustls accepts.
    pub fn new(config: &ServerConfig) -> Result<Handshake, Error> {
        let mut config = config.clone();
        let secrets = SecretLog::new(config.key_log);
        let names = NameLog::new(config.cert_resolver);
        (config.key_log, config.cert_resolver) = (secrets.clone(), names.clone());
        (config.max_early_data_size, config.send_half_rtt_data) = (0, false);
        config.enable_secret_extraction = true;
        let connection = UnbufferedServerConnection::new(Arc::new(config))?;
        Ok(Handshake { driver: Driver::new(connection, secrets), names, is_first: true, held: Vec::new() })
    }

    /// Takes received bytes, however they are cut, and appends to `out` what is to be sent. `Some` when the handshake
    /// is over; then this is to be dropped, and `out` (TLS 1.3: tickets) goes in front of whatever is sealed.
    ///
    /// # Errors
    /// The handshake has failed; `out` may have an alert. Then this is to be dropped.
    pub fn feed(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, Failure> {
        let start = out.len();
        let result = self.look(received).and_then(|bytes| self.driver.run(&bytes, out));
        let established = result.map_err(|failed| self.fail(failed, start, out))?;
        Ok(established.map(|done| Established { server_name: self.names.take(), ..done }))
    }

    /// What was answered took a signature with an RSA key, which takes many times as long as all the rest together.
    pub fn has_signed_slowly(&self) -> bool {
        let kind = self.driver.connection.as_ref().and_then(|it| it.common().handshake_kind());
        self.names.is_rsa() && kind.is_some_and(|kind| kind != HandshakeKind::Resumed)
    }

    /// After [`Reason::PlainHttp`]: the beginning of the request, as far as it has come.
    pub fn request(&self) -> &[u8] {
        &self.held
    }

    /// Looks at the first bytes, and holds them while they may become an HTTP request. What can go on goes on.
    fn look<'r>(&mut self, received: &'r [u8]) -> Result<Cow<'r, [u8]>, Failed> {
        if !self.is_first {
            return Ok(Cow::Borrowed(received));
        }
        self.held.extend_from_slice(received);
        match method(&self.held) {
            Some(true) => return Err(Failed::of(Reason::PlainHttp)),
            Some(false) => return Ok(Cow::Borrowed(&[])),
            None => self.is_first = self.held.is_empty(),
        }
        Ok(Cow::Owned(core::mem::take(&mut self.held)))
    }

    fn fail(&mut self, mut failed: Failed, start: usize, out: &mut Vec<u8>) -> Failure {
        if self.names.is_unresolved() {
            failed.reason = Reason::NoCertificateForName;
        }
        self.driver.fail(failed, start, out)
    }
}

/// The client's side of a handshake, towards an upstream.
pub struct ClientHandshake {
    driver: Driver<UnbufferedClientConnection>,
}

impl ClientHandshake {
    /// A handshake with this configuration, of which a clone is made, and with a server of this name, which its
    /// certificate must have. The first call of [`feed`](Self::feed), with no bytes, makes the hello.
    ///
    /// # Errors
    /// The configuration is not one that rustls accepts.
    pub fn new(config: &ClientConfig, name: ServerName<'static>) -> Result<ClientHandshake, Error> {
        let mut config = config.clone();
        let secrets = SecretLog::new(config.key_log);
        config.key_log = secrets.clone();
        config.enable_early_data = false;
        config.enable_secret_extraction = true;
        let connection = UnbufferedClientConnection::new(Arc::new(config), name)?;
        Ok(ClientHandshake { driver: Driver::new(connection, secrets) })
    }

    /// See [`Handshake::feed`].
    ///
    /// # Errors
    /// As there.
    pub fn feed(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, Failure> {
        let start = out.len();
        self.driver.run(received, out).map_err(|failed| self.driver.fail(failed, start, out))
    }

    /// After [`feed`](Self::feed) has returned [`Established`]: what takes the tickets of TLS 1.3, which come behind
    /// the handshake. `None` before, and the second time.
    pub fn take_session(&mut self) -> Option<Session> {
        self.driver.kernel.take().map(Session)
    }
}

/// A client's session, from which later ones can be resumed. It is worth keeping only until a ticket has come.
pub struct Session(KernelConnection<ClientConnectionData>);

impl Session {
    /// Takes the body of a NewSessionTicket (RFC 8446 section 4.6.1), without the four bytes in front of it, into the
    /// store of the configuration. The same one may be taken several times.
    ///
    /// # Errors
    /// It is none, or the connection is one of TLS 1.2, where tickets are part of the handshake.
    pub fn ticket(&mut self, body: &[u8]) -> Result<(), Error> {
        self.0.handle_new_session_ticket(body)
    }
}

/// A failure, before its alert.
struct Failed {
    reason: Reason,
    detail: Option<Error>,
}

impl Failed {
    fn of(reason: Reason) -> Failed {
        Failed { reason, detail: None }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { reason: Reason::of(&error), detail: Some(error) }
    }
}

/// Whether the first bytes are the method of an HTTP request and a space: `Some(false)` while they are the beginning of
/// one. A TLS record begins with a byte that is no letter.
fn method(bytes: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 10] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH ", b"PRI "];
    let is_whole = METHODS.iter().any(|method| bytes.starts_with(method));
    let has_begun = !bytes.is_empty() && METHODS.iter().any(|method| method.starts_with(bytes));
    (is_whole || has_begun).then_some(is_whole)
}

/// Whether a server has something to do when these bytes are the first that have come: the first record is there as a
/// whole, or what has come is none, or is more than a hello may have.
pub fn has_record(bytes: &[u8]) -> bool {
    bytes.len() > MAX_HELLO || next_record(bytes).is_some()
}

/// A connection of rustls, of either side.
trait Connection: Sized {
    /// Which end it is.
    const ROLE: Role;
    /// What rustls keeps for this side.
    type Data;

    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn extract(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

impl Connection for UnbufferedServerConnection {
    const ROLE: Role = Role::Server;
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(tls)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn extract(self) -> Result<(ExtractedSecrets, KernelConnection<ServerConnectionData>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Connection for UnbufferedClientConnection {
    const ROLE: Role = Role::Client;
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, tls: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(tls)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn extract(self) -> Result<(ExtractedSecrets, KernelConnection<ClientConnectionData>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

/// Where a call of rustls has led.
enum Step {
    /// There is more to do with the same bytes.
    Again,
    /// Another record is needed.
    Blocked,
    /// The handshake is over.
    Done,
}

/// What both sides have in common.
struct Driver<C: Connection> {
    /// `None` when the handshake is over.
    connection: Option<C>,
    /// What is left of the connection then, on the client's side.
    kernel: Option<KernelConnection<C::Data>>,
    secrets: Arc<SecretLog>,
    /// Received and not used up.
    pending: Vec<u8>,
    /// How many of `pending` rustls has been given: whole records. What it has not discarded it must be given again,
    /// at the same place, with what follows behind.
    fed: usize,
    /// The first bytes of all.
    first: First,
    /// rustls has taken a message of the peer's. Before that nothing is encrypted, and an alert of ours can be sent.
    has_progressed: bool,
}

impl<C: Connection> Driver<C> {
    fn new(connection: C, secrets: Arc<SecretLog>) -> Driver<C> {
        Driver {
            connection: Some(connection),
            kernel: None,
            secrets,
            pending: Vec::new(),
            fed: 0,
            first: First::default(),
            has_progressed: false,
        }
    }

    /// Takes received bytes and goes on as far as they lead.
    fn run(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, Failed> {
        self.first.note(received);
        self.pending.extend_from_slice(received);
        let mut used = 0;
        let has_ended = self.advance(&mut used, out);
        self.pending.drain(..used);
        if has_ended? { self.finish().map(Some) } else { self.wait() }
    }

    /// Whether the handshake is over. `used` is how many of the pending bytes have been used up.
    fn advance(&mut self, used: &mut usize, out: &mut Vec<u8>) -> Result<bool, Failed> {
        loop {
            match self.call(used, out)? {
                Step::Again => {}
                Step::Done if self.fed == 0 => return Ok(true),
                Step::Done => return Err(Failed::of(Reason::Malformed)),
                Step::Blocked => match next_record(self.pending.get(*used + self.fed..).unwrap_or_default()) {
                    Some(len) => self.fed += len,
                    None => return Ok(false),
                },
            }
        }
    }

    /// One call of rustls.
    fn call(&mut self, used: &mut usize, out: &mut Vec<u8>) -> Result<Step, Failed> {
        let connection = self.connection.as_mut().ok_or(Failed::of(Reason::Internal))?;
        let tls = self.pending.get_mut(*used..*used + self.fed).unwrap_or_default();
        let UnbufferedStatus { discard, state, .. } = connection.process(tls);
        let step = step(state, out);
        *used += discard;
        self.fed = self.fed.saturating_sub(discard);
        let step = step?;
        self.has_progressed |= discard > 0;
        Ok(step)
    }

    fn wait(&self) -> Result<Option<Established>, Failed> {
        let is_hello = C::ROLE == Role::Server && !self.has_progressed;
        if self.pending.len() > if is_hello { MAX_HELLO } else { MAX_UNFINISHED } {
            Err(Failed::of(Reason::TooLong))
        } else {
            Ok(None)
        }
    }

    fn finish(&mut self) -> Result<Established, Failed> {
        let connection = self.connection.take().ok_or(Failed::of(Reason::Internal))?;
        let common = connection.common();
        let certificates = common.peer_certificates().unwrap_or_default().to_vec();
        let protocol = common.alpn_protocol().map(Vec::from);
        let suite = common.negotiated_cipher_suite().ok_or(Failed::of(Reason::Internal))?;
        let resumed = common.handshake_kind() == Some(HandshakeKind::Resumed);
        let version = if suite.tls13().is_some() { Version::Tls13 } else { Version::Tls12 };
        let (extracted, kernel) = connection.extract()?;
        self.kernel = (C::ROLE == Role::Client).then_some(kernel);
        let parked = park(C::ROLE, version, &extracted, &self.secrets.take());
        Ok(Established {
            parked: parked.ok_or(Failed::of(Reason::Internal))?,
            leftover: core::mem::take(&mut self.pending),
            server_name: None,
            protocol,
            certificates,
            cipher_suite: suite.suite().as_str().unwrap_or("unknown"),
            resumed,
        })
    }

    /// Appends the alert: while nothing is encrypted the one that an RFC demands, else the one that rustls has made,
    /// else, while nothing is encrypted, the reason's own. `start` is where this call's output begins.
    fn fail(&mut self, failed: Failed, start: usize, out: &mut Vec<u8>) -> Failure {
        let is_first = !self.has_progressed;
        let reason = if is_first { self.first.reason(&failed) } else { failed.reason };
        let demanded = if is_first { reason.demanded(failed.detail.as_ref()) } else { None };
        let has_own = demanded.is_some() || !self.flush(out);
        match demanded.or(reason.alert()) {
            Some(Alert(description)) if has_own && is_first => out.extend([ALERT, 3, 3, 0, 2, 2, description]),
            _ if has_own => return Failure { reason, alert: None, detail: failed.detail },
            _ => {}
        }
        let alert = plain_alert(out.get(start..).unwrap_or_default()).or(reason.alert());
        Failure { reason, alert, detail: failed.detail }
    }

    /// Appends what rustls still has to say; `false` where that is nothing.
    fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(mut connection) = self.connection.take() else { return false };
        let start = out.len();
        // While there is something to write, rustls does not look at its input: after a fault it must not look again.
        while connection.common().wants_write() && step(connection.process(&mut []).state, out).is_ok() {}
        out.len() > start
    }
}

/// The first bytes that a peer has sent: the header of a record, that of a message, and the version that a hello gives.
#[derive(Default)]
struct First {
    bytes: [u8; HEADER + 4 + 2],
    len: usize,
}

impl First {
    fn note(&mut self, received: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        self.len += received.len().min(room.len());
        room.iter_mut().zip(received).for_each(|(to, &byte)| *to = byte);
    }

    /// Why it has failed before a message was taken: what has no record in front is no TLS, and who does not say which
    /// signatures it knows speaks TLS 1.1 or older, if its hello says so.
    fn reason(&self, Failed { reason, detail }: &Failed) -> Reason {
        let [kind, .., major, minor] = self.bytes;
        let is_silent = matches!(detail, Some(Error::PeerIncompatible(SignatureAlgorithmsExtensionRequired)));
        match reason {
            Reason::Malformed if self.len > 0 && ![ALERT, HANDSHAKE].contains(&kind) => Reason::NotTls,
            Reason::NoCommonVersion if is_silent && [major, minor] >= [3, 3] => Reason::NoCommonCipher,
            &reason => reason,
        }
    }
}

/// The content type of alerts.
const ALERT: u8 = 21;
/// The content type of a hello.
const HANDSHAKE: u8 = 22;

/// How long the record at the front is, where it is there as a whole. What has no header of a record is handed over as
/// it is, for rustls to refuse.
fn next_record(bytes: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low] = bytes.first_chunk::<HEADER>()?;
    let len = HEADER + usize::from(u16::from_be_bytes([high, low]));
    if !(20..=23).contains(&kind) || major != 3 || len > MAX_RECORD {
        return Some(bytes.len());
    }
    (bytes.len() >= len).then_some(len)
}

/// Does what rustls asks for.
fn step<Data>(state: Result<ConnectionState<'_, '_, Data>, Error>, out: &mut Vec<u8>) -> Result<Step, Error> {
    match state? {
        ConnectionState::EncodeTlsData(data) => encode(data, out)?,
        ConnectionState::TransmitTlsData(data) => data.done(),
        ConnectionState::BlockedHandshake => return Ok(Step::Blocked),
        ConnectionState::WriteTraffic(_) => return Ok(Step::Done),
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            return Err(Error::AlertReceived(rustls::AlertDescription::CloseNotify));
        }
        // Early data is switched off, and data behind the handshake is not handed over.
        _ => return Err(Error::HandshakeNotComplete),
    }
    Ok(Step::Again)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(start + size.required_size, 0);
    }
    let written = data.encode(out.get_mut(start..).unwrap_or_default());
    out.truncate(start + written.map_err(|error| Error::General(alloc::format!("{error:?}")))?);
    Ok(())
}

/// The alert at the end of what is sent, where it is not encrypted.
fn plain_alert(sent: &[u8]) -> Option<Alert> {
    match sent.last_chunk::<7>()? {
        &[ALERT, 3, _, 0, 2, 2, description] => Some(Alert(description)),
        _ => None,
    }
}

/// `None` where the secrets that were logged are not those of the keys that rustls uses.
fn park(role: Role, version: Version, extracted: &ExtractedSecrets, logged: &Secrets) -> Option<Parked> {
    let (write_log, read_log) = match role {
        Role::Server => (&logged.server, &logged.client),
        Role::Client => (&logged.client, &logged.server),
    };
    let (suite, write) = material(version, &extracted.tx.1, write_log.as_bytes())?;
    let (_, read) = material(version, &extracted.rx.1, read_log.as_bytes())?;
    let (write, read) = (write.get(..suite.material_len())?, read.get(..suite.material_len())?);
    let write = Direction { sequence: extracted.tx.0, material: write };
    Parked::new(suite, role, write, Direction { sequence: extracted.rx.0, material: read })
}

type Material = Zeroizing<[u8; MAX_MATERIAL]>;

/// What is kept of one direction: in TLS 1.3 the secret, once the key and IV that follow from it are the right ones; in
/// 1.2 the key and IV.
fn material(version: Version, extracted: &ConnectionTrafficSecrets, secret: &[u8]) -> Option<(Suite, Material)> {
    let (aead, key, iv) = parts(extracted)?;
    let suite = Suite { version, aead };
    let mut material = Material::new([0; MAX_MATERIAL]);
    let parts: [&[u8]; 2] = match version {
        Version::Tls13 => [secret, &[]],
        Version::Tls12 => [key.get(..suite.key_len())?, iv],
    };
    let bytes = parts.into_iter().flatten();
    material.iter_mut().zip(bytes).for_each(|(to, &byte)| *to = byte);
    let is_whole = parts.iter().map(|part| part.len()).sum::<usize>() == suite.material_len();
    let derived = Derived::new(suite, material.get(..suite.material_len())?);
    let is_same = key.get(..suite.key_len())? == derived.key() && iv == derived.iv();
    (is_whole && is_same).then_some((suite, material))
}

fn parts(extracted: &ConnectionTrafficSecrets) -> Option<(Aead, &[u8], &[u8])> {
    Some(match extracted {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Aead::Aes128Gcm, key.as_ref(), iv.as_ref()),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Aead::Aes256Gcm, key.as_ref(), iv.as_ref()),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Aead::ChaCha20Poly1305, key.as_ref(), iv.as_ref()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    /// The server's direction of RFC 8448 section 3: its secret, the key and the IV.
    const SECRET: [u8; 32] = [
        0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32, 0x82, 0x04,
        0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43,
    ];
    const KEY: [u8; 16] =
        [0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56];
    const IV: [u8; 12] = [0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84];

    fn extracted(key: [u8; 16], iv: [u8; 12]) -> ConnectionTrafficSecrets {
        let mut long = [0; 32];
        long[..16].copy_from_slice(&key);
        ConnectionTrafficSecrets::Aes128Gcm { key: AeadKey::from(long), iv: Iv::copy(&iv) }
    }

    #[test]
    fn only_the_secret_that_the_keys_follow_from_is_kept() {
        let kept = |key, iv, secret: &[u8]| material(Version::Tls13, &extracted(key, iv), secret);
        let (suite, material) = kept(KEY, IV, &SECRET).expect("it is the right one");
        assert_eq!((suite, &material[..32]), (Suite::tls13(Aead::Aes128Gcm), &SECRET[..]));
        let (mut other_key, mut other_iv, mut other_secret) = (KEY, IV, SECRET);
        (other_key[15], other_iv[11], other_secret[31]) = (0, 0, 0);
        assert!(kept(other_key, IV, &SECRET).is_none());
        assert!(kept(KEY, other_iv, &SECRET).is_none());
        assert!(kept(KEY, IV, &other_secret).is_none());
        assert!(kept(KEY, IV, &SECRET[..31]).is_none());
        assert!(kept(KEY, IV, &[]).is_none(), "nothing was logged");
    }

    #[test]
    fn tls_1_2_keeps_the_key_itself() {
        let (suite, material) = material(Version::Tls12, &extracted(KEY, IV), &[]).unwrap();
        assert_eq!(suite, Suite::tls12(Aead::Aes128Gcm));
        assert_eq!((&material[..16], &material[16..28]), (&KEY[..], &IV[..]));
    }

    #[test]
    fn methods_are_told_from_records() {
        assert_eq!(method(b"GET /"), Some(true));
        assert_eq!(method(b"GE"), Some(false));
        assert_eq!(method(b""), None);
        assert_eq!(method(b"GEX"), None);
        assert_eq!(method(&[22, 3, 1]), None);
    }
}
