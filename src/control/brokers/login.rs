//! Whether a broker lets somebody in: a short session under a name and a password that are not the edge's own.

use super::connection::Connection;
use super::keeper::within;
use super::mqtt::Spoken;
use super::settings::{BrokerAddress, BrokerSettings, Protocol};
use super::stomp::frames;
use crate::mesh::Secret;
use edgehold_wire::mqtt::{self, Disconnect, Properties};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Why a broker does not let somebody in.
#[derive(Debug)]
pub(super) struct Denial {
    /// In its own words.
    pub(super) words: String,
    /// Because of who that is; else nobody would be let in by this CONNECT, or not now.
    pub(super) by_credentials: bool,
}

impl From<Denial> for io::Error {
    fn from(denial: Denial) -> io::Error {
        io::Error::other(format!("the broker lets nobody in by this CONNECT: {}", denial.words))
    }
}

/// Asks the broker of a route about names and passwords.
pub(in crate::control) struct Logins {
    settings: BrokerSettings,
    /// The address that is asked first: the one that has answered last.
    place: AtomicUsize,
    spoken: Mutex<Spoken>,
    /// Counts the sessions, for client identifiers that are used once.
    count: AtomicU64,
}

impl Logins {
    /// At this broker. As whom the edge itself logs in does not matter.
    pub(in crate::control) fn new(settings: &BrokerSettings) -> Logins {
        // What nobody else is to hear of.
        let settings = BrokerSettings { user: None, password: None, persistent: false, ..settings.clone() };
        let spoken = Mutex::new(Spoken::new());
        Logins { settings, place: AtomicUsize::new(0), spoken, count: AtomicU64::new(0) }
    }

    /// The addresses, as a label has them.
    pub(in crate::control) fn name(&self) -> String {
        let addresses: Vec<String> = self.settings.addresses.iter().map(BrokerAddress::to_string).collect();
        addresses.join(", ")
    }

    /// Whether frames of the protocol can say such credentials as they are.
    pub(in crate::control) fn can_say(&self, user: &str, password: &str) -> bool {
        // CONNECT has no escapes (STOMP 1.2, Value Encoding).
        let is_line = |text: &str| !text.contains(['\n', '\r', '\0']);
        self.settings.protocol == Protocol::Mqtt || is_line(user) && is_line(password)
    }

    /// Whether the broker lets somebody in under this name, by this password; with neither, as nobody. Addresses are
    /// asked one after the other, each for its part of the time that is left, until one answers.
    ///
    /// # Errors
    /// None has said yes or no; the last one's reason.
    pub(in crate::control) async fn ask(&self, user: &str, password: &Secret, deadline: Instant) -> io::Result<bool> {
        let settings = self.settings_as(user, password);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for others in (1..=settings.addresses.len()).rev() {
            let place = self.place.load(Ordering::Relaxed);
            let address = &settings.addresses[place % settings.addresses.len()];
            let limit = settings.connect_timeout.min(part(deadline, others));
            match within(limit, self.session(address, &settings)).await {
                Ok(Ok(())) => return Ok(true),
                Ok(Err(denial)) if denial.by_credentials => return Ok(false),
                Ok(Err(denial)) => last = denial.into(),
                Err(error) => last = error,
            }
            // Unless another question has found out the same meanwhile.
            let _ = self.place.compare_exchange(place, place + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(last)
    }

    fn settings_as(&self, user: &str, password: &Secret) -> BrokerSettings {
        let is_nobody = user.is_empty() && password.reveal().is_empty();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        BrokerSettings {
            user: (!is_nobody).then(|| user.into()),
            password: (!is_nobody).then(|| password.clone()),
            client_id: format!("{}-login-{count}", self.settings.client_id),
            ..self.settings.clone()
        }
    }

    /// A session that ends when it has begun.
    async fn session(&self, address: &BrokerAddress, settings: &BrokerSettings) -> io::Result<Result<(), Denial>> {
        let opened = match settings.protocol {
            Protocol::Stomp => frames::connect(address, settings, Duration::ZERO).await?.map(|it| it.0),
            Protocol::Mqtt => self.open_mqtt(address, settings).await?,
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(denial) => return Ok(Err(denial)),
        };
        match settings.protocol {
            Protocol::Stomp => frames::disconnect(&mut connection),
            Protocol::Mqtt => disconnect_mqtt(&mut connection, self.spoken()),
        }
        while !connection.unsent.is_empty() && connection.write().await.is_ok() {}
        Ok(Ok(()))
    }

    async fn open_mqtt(
        &self,
        address: &BrokerAddress,
        settings: &BrokerSettings,
    ) -> io::Result<Result<Connection, Denial>> {
        let mut spoken = self.spoken();
        let opened = spoken.open(address, settings, true).await;
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner) = spoken;
        Ok(opened?.map(|it| it.connection))
    }

    fn spoken(&self) -> Spoken {
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that one of so many addresses has.
fn part(deadline: Instant, addresses: usize) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / u32::try_from(addresses).unwrap_or(u32::MAX)
}

fn disconnect_mqtt(connection: &mut Connection, spoken: Spoken) {
    let disconnect = Disconnect { reason: 0, properties: Properties::default() };
    mqtt::write_disconnect(&mut connection.unsent, spoken.version(), &disconnect);
}
