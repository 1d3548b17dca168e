//! CONNECT and CONNACK.

use crate::control::brokers::connection::Connection;
use crate::control::brokers::link::Beats;
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

/// Bytes of a CONNACK, at most.
const LIMITS: Limits = Limits { packet_bytes: 64 << 10 };

/// PINGREQ.
const PING: &[u8] = &[0xc0, 0];

/// A connection on which the broker has let the edge in.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) beats: Beats,
    /// The broker had a session of the edge.
    pub(super) is_present: bool,
    /// It keeps this one while there is no connection.
    pub(super) is_kept: bool,
    /// It sends identifiers of subscriptions.
    pub(super) has_ids: bool,
}

/// Why a version does not seem to be spoken.
pub(super) enum Unspoken {
    /// The broker says so.
    Said,
    /// It has hung up, or has answered what is no CONNACK of this version.
    Unclear(String),
}

/// Connects. `Ok(Err(_))`: this broker does not seem to speak the version.
///
/// # Errors
/// It cannot be reached, or does not let the edge in.
pub(super) async fn open(
    address: &BrokerAddress,
    settings: &BrokerSettings,
    version: Version,
    clean_start: bool,
) -> io::Result<Result<Opened, Unspoken>> {
    let mut connection = Connection::open(address).await?;
    write(&mut connection, settings, version, clean_start);
    loop {
        match mqtt::read(&connection.received, &LIMITS, Some(version), Role::Client) {
            Ok(Read::Packet { packet: Packet::ConnAck(answer), used }) => {
                let said = let_in(settings, version, &answer)?;
                connection.received.drain(..used);
                return Ok(said.map(|(beats, is_kept, has_ids, is_present)| Opened {
                    connection,
                    beats,
                    is_present,
                    is_kept,
                    has_ids,
                }));
            }
            Ok(Read::Packet { .. }) => return Ok(Err(Unspoken::Unclear("its answer to CONNECT is none".into()))),
            // So does an answer of an older version look, too.
            Err(fault) => return Ok(Err(Unspoken::Unclear(fault.words().into()))),
            Ok(Read::More { .. }) => {}
        }
        if let Err(error) = connection.go_on().await {
            return Ok(Err(Unspoken::Unclear(error.to_string())));
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

impl From<Unspoken> for io::Error {
    fn from(why: Unspoken) -> io::Error {
        match why {
            Unspoken::Said => io::Error::other("the broker does not speak this version of MQTT"),
            Unspoken::Unclear(words) => io::Error::other(words),
        }
    }
}

/// Heart-beats, whether the session is kept, whether there are identifiers, whether there was a session.
type LetIn = (Beats, bool, bool, bool);

fn let_in(settings: &BrokerSettings, version: Version, answer: &ConnAck<'_>) -> io::Result<Result<LetIn, Unspoken>> {
    match (version, answer.reason) {
        (_, 0) => {}
        (Version::V5, UNSUPPORTED) | (Version::V311, UNACCEPTABLE) => {
            return Ok(Err(Unspoken::Said));
        }
        (_, reason) => {
            return Err(io::Error::other(format!("the broker lets the edge not in: reason {reason:#04x}")));
        }
    }
    let (mut keep_alive, mut has_ids) = (seconds(settings.heart_beat), version == Version::V5);
    let mut is_kept = settings.persistent && version == Version::V5;
    for property in answer.properties.iter() {
        match property {
            Property::ServerKeepAlive(seconds) => keep_alive = seconds,
            Property::SessionExpiry(seconds) => is_kept &= seconds > 0,
            Property::SubscriptionIdAvailable(is) => has_ids &= is,
            _ => {}
        }
    }
    Ok(Ok((beats(keep_alive), is_kept, has_ids, answer.session_present)))
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
