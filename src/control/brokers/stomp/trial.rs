//! Topics of which it is not known whether the broker takes them: an ERROR ends a session (STOMP 1.2, ERROR), so each
//! is tried on a connection of its own first, one after the other.

use super::{frames, streams};
use crate::control::brokers::connection::Connection;
use crate::control::brokers::keeper::within;
use crate::control::brokers::settings::BrokerSettings;
use edgehold_wire::stomp::{Command, Frame};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

/// What has come of a trial: the broker's words where it has refused; `Err`: nobody could be asked.
pub(super) type Tried = (Arc<str>, Result<Result<(), String>, io::Error>);

/// For how long the connection is kept where nothing is to be tried.
const IDLE: Duration = Duration::from_secs(10);

/// Tries topics until nobody wants any tried.
pub(super) async fn run(
    settings: Arc<BrokerSettings>,
    mut topics: UnboundedReceiver<Arc<str>>,
    tried: UnboundedSender<Tried>,
) {
    let mut connection = None;
    loop {
        let topic = match timeout(IDLE, topics.recv()).await {
            Ok(Some(topic)) => topic,
            Ok(None) => return,
            Err(_) => {
                connection = None;
                continue;
            }
        };
        let result = timeout(settings.connect_timeout * 2, one(&settings, &mut connection, &topic)).await;
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if !matches!(result, Ok(Ok(()))) {
            connection = None;
        }
        let is_away = result.is_err();
        // The other end lives as long as this one.
        let _gone = tried.send((topic, result));
        while is_away && let Ok(topic) = topics.try_recv() {
            let _gone = tried.send((topic, Err(io::ErrorKind::NotConnected.into())));
        }
    }
}

/// A session that has idled may have ended meanwhile, and its ERROR be about that: then a new one is asked.
async fn one(
    settings: &BrokerSettings,
    connection: &mut Option<Connection>,
    topic: &str,
) -> io::Result<Result<(), String>> {
    if let Some(known) = connection
        && let Ok(Ok(())) = subscribe(known, topic, settings).await
    {
        return Ok(Ok(()));
    }
    let connection = connection.insert(connect_any(settings).await?);
    subscribe(connection, topic, settings).await
}

/// The first address that answers.
///
/// # Errors
/// None does; the last one's reason.
async fn connect_any(settings: &BrokerSettings) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in &settings.addresses {
        match within(settings.connect_timeout, frames::connect(address, settings, Duration::ZERO)).await {
            Ok(Ok((connection, _))) => return Ok(connection),
            Ok(Err(why)) => last = why.into(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn subscribe(
    connection: &mut Connection,
    topic: &str,
    settings: &BrokerSettings,
) -> io::Result<Result<(), String>> {
    frames::subscribe(connection, topic, streams::kind(settings, topic, None), 1);
    let said = answer(connection, settings.message_bytes).await?;
    frames::unsubscribe(connection, 1);
    while !connection.unsent.is_empty() {
        connection.write().await?;
    }
    Ok(said)
}

/// RECEIPT or ERROR; whatever else comes is nobody's.
async fn answer(connection: &mut Connection, most: usize) -> io::Result<Result<(), String>> {
    let mut said = None;
    loop {
        frames::read(connection, most, |frame: &Frame<'_>| match frame.command {
            Command::Receipt => said = Some(Ok(())),
            Command::Error => said = Some(Err(frame.get("message").unwrap_or_default().into_owned())),
            _ => {}
        })?;
        match said {
            Some(said) => return Ok(said),
            None => drop(connection.go_on().await?),
        }
    }
}
