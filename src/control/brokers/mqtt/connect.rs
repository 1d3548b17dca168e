//! CONNECT and CONNACK.

use crate::control::brokers::connection::Connection;
use crate::control::brokers::keeper::within;
use crate::control::brokers::link::Beats;
use crate::control::brokers::login::Denial;
use crate::control::brokers::settings::{BrokerAddress, BrokerSettings};
use edgehold_wire::mqtt::{
    self, ConnAck, Connect, Limits, Packet, Properties, Property, Read, Role, Version, write_connect,
};
use std::io;
use std::time::Duration;

/// For how long a session is kept that is to be, in seconds: for ever would be until somebody looks.
const KEPT_SECONDS: u32 = 24 * 3600;

/// CONNACK of MQTT version 5: the broker does not speak it.
const UNSUPPORTED: u8 = 0x84;

/// CONNACK of MQTT 3.1.1: so does this one say it.
const UNACCEPTABLE: u8 = 1;

/// CONNACK of MQTT version 5 that is about who logs in: bad user name or password, not authorized, banned, bad
/// authentication method (section 3.2.2.2). The others are about the server, or about CONNECT itself.
const CREDENTIALS: [u8; 4] = [0x86, 0x87, 0x8a, 0x8c];

/// CONNACK of MQTT 3.1.1, likewise (section 3.2.2.3).
const CREDENTIALS_311: [u8; 2] = [4, 5];

/// Bytes of a CONNACK, at most.
const LIMITS: Limits = Limits { packet_bytes: 64 << 10 };

/// PINGREQ.
const PING: &[u8] = &[0xc0, 0];

/// A connection on which the broker has let the edge in.
pub(in crate::control::brokers) struct Opened {
    pub(in crate::control::brokers) connection: Connection,
    pub(super) beats: Beats,
    /// The broker had a session of the edge.
    pub(super) is_present: bool,
    /// It keeps this one while there is no connection.
    pub(super) is_kept: bool,
    /// It sends identifiers of subscriptions.
    pub(super) has_ids: bool,
    /// It keeps retained messages.
    pub(super) retains: bool,
}

/// Why there is no session.
enum Unopened {
    /// The broker says that it does not speak the version.
    Unspoken,
    /// It does not seem to: it has hung up, or has answered what is no CONNACK of this version.
    Unclear(String),
    /// It does, and lets nobody in by this CONNECT.
    Denied(Denial),
}

/// The version that a broker speaks, as far as is known.
#[derive(Clone, Copy)]
pub(in crate::control::brokers) struct Spoken {
    version: Version,
    /// It has answered CONNECT of this version.
    is_proven: bool,
}

impl Spoken {
    /// It is not known.
    pub(in crate::control::brokers) fn new() -> Spoken {
        Spoken { version: Version::V5, is_proven: false }
    }

    /// It.
    pub(in crate::control::brokers) fn version(self) -> Version {
        self.version
    }

    /// Connects with the version that the broker is known to speak, or else with one after the other. One that has
    /// hung up may have other reasons: what a broker has spoken once is held on to, unless it says otherwise.
    ///
    /// # Errors
    /// It cannot be reached, does not answer within the time that an address has, or speaks no MQTT. `Ok(Err(_))`: it
    /// does not let in who logs in.
    pub(in crate::control::brokers) async fn open(
        &mut self,
        address: &BrokerAddress,
        settings: &BrokerSettings,
        clean_start: bool,
    ) -> io::Result<Result<Opened, Denial>> {
        let limit = settings.connect_timeout;
        let first = within(limit, open(address, settings, self.version, clean_start)).await?;
        let is_another = match &first {
            Err(Unopened::Unspoken) => true,
            Err(Unopened::Unclear(_)) => !self.is_proven,
            Ok(_) | Err(Unopened::Denied(_)) => false,
        };
        if !is_another {
            return self.judge(first);
        }
        tracing::debug!(route = settings.name, %address, "another version of MQTT is tried");
        let other = if self.version == Version::V5 { Version::V311 } else { Version::V5 };
        *self = Spoken { version: other, is_proven: false };
        let opened = within(limit, open(address, settings, other, true)).await.and_then(|it| self.judge(it));
        if opened.is_err() {
            self.version = Version::V5;
        }
        opened
    }

    fn judge(&mut self, opened: Result<Opened, Unopened>) -> io::Result<Result<Opened, Denial>> {
        self.is_proven |= matches!(opened, Ok(_) | Err(Unopened::Denied(_)));
        match opened {
            Ok(opened) => Ok(Ok(opened)),
            Err(Unopened::Denied(why)) => Ok(Err(why)),
            Err(Unopened::Unspoken) => Err(io::Error::other("the broker does not speak this version of MQTT")),
            Err(Unopened::Unclear(words)) => Err(io::Error::other(words)),
        }
    }
}

/// Connects.
///
/// # Errors
/// It cannot be reached. `Ok(Err(_))`: there is no session.
async fn open(
    address: &BrokerAddress,
    settings: &BrokerSettings,
    version: Version,
    clean_start: bool,
) -> io::Result<Result<Opened, Unopened>> {
    let mut connection = Connection::open(address).await?;
    write(&mut connection, settings, version, clean_start);
    loop {
        match mqtt::read(&connection.received, &LIMITS, Some(version), Role::Client) {
            Ok(Read::Packet { packet: Packet::ConnAck(answer), used }) => {
                let said = let_in(settings, version, &answer);
                let is_present = answer.session_present;
                connection.received.drain(..used);
                return Ok(said.map(|LetIn { beats, is_kept, has_ids, retains }| Opened {
                    connection,
                    beats,
                    is_present,
                    is_kept,
                    has_ids,
                    retains,
                }));
            }
            Ok(Read::Packet { .. }) => return Ok(Err(Unopened::Unclear("its answer to CONNECT is none".into()))),
            // So does an answer of an older version look, too.
            Err(fault) => return Ok(Err(Unopened::Unclear(fault.words().into()))),
            Ok(Read::More { .. }) => {}
        }
        if let Err(error) = connection.go_on().await {
            return Ok(Err(Unopened::Unclear(error.to_string())));
        }
    }
}

fn write(connection: &mut Connection, settings: &BrokerSettings, version: Version, clean_start: bool) {
    let mut block = Vec::new();
    if version == Version::V5 {
        let most = u32::try_from(settings.message_bytes).unwrap_or(u32::MAX);
        Property::MaximumPacketSize(most).write(&mut block);
        if settings.persistent {
            Property::SessionExpiry(KEPT_SECONDS).write(&mut block);
        }
    }
    let connect = Connect {
        version,
        clean_start: clean_start || version != Version::V5,
        keep_alive: seconds(settings.heart_beat),
        client_id: &settings.client_id,
        will: None,
        user: settings.user.as_deref(),
        password: settings.password.as_ref().map(|it| it.reveal().as_bytes()),
        properties: Properties::written(&block),
    };
    write_connect(&mut connection.unsent, &connect);
}

/// What CONNACK says.
struct LetIn {
    beats: Beats,
    is_kept: bool,
    has_ids: bool,
    retains: bool,
}

fn let_in(settings: &BrokerSettings, version: Version, answer: &ConnAck<'_>) -> Result<LetIn, Unopened> {
    match (version, answer.reason) {
        (_, 0) => {}
        (Version::V5, UNSUPPORTED) | (Version::V311, UNACCEPTABLE) => return Err(Unopened::Unspoken),
        (_, reason) => {
            let about_who = if version == Version::V5 { &CREDENTIALS[..] } else { &CREDENTIALS_311 };
            let words = format!("reason {reason:#04x}");
            return Err(Unopened::Denied(Denial { words, by_credentials: about_who.contains(&reason) }));
        }
    }
    let (mut keep_alive, mut has_ids) = (seconds(settings.heart_beat), version == Version::V5);
    let (mut is_kept, mut retains) = (settings.persistent && version == Version::V5, true);
    for property in answer.properties.iter() {
        match property {
            Property::ServerKeepAlive(seconds) => keep_alive = seconds,
            Property::SessionExpiry(seconds) => is_kept &= seconds > 0,
            Property::SubscriptionIdAvailable(is) => has_ids &= is,
            Property::RetainAvailable(is) => retains = is,
            _ => {}
        }
    }
    Ok(LetIn { beats: beats(keep_alive), is_kept, has_ids, retains })
}

/// Whole seconds, as CONNECT has them: at least one, where there are heart-beats at all.
fn seconds(heart_beat: Duration) -> u16 {
    let millis = heart_beat.as_millis().div_ceil(1000);
    u16::try_from(millis).unwrap_or(u16::MAX)
}

/// PINGREQ is sent twice in the time in which something must be, and answered at once.
fn beats(keep_alive: u16) -> Beats {
    let time = Duration::from_secs(keep_alive.into());
    let silence = if time.is_zero() { time } else { time * 2 + Duration::from_secs(1) };
    Beats { beat: PING, every: time / 2, silence }
}
