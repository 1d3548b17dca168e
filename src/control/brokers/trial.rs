//! Topics of which it is not known whether the broker takes them: an ERROR ends a session (STOMP 1.2, ERROR), so each is
//! tried on a connection of its own first, one after the other.

use super::connection::Connection;
use super::settings::BrokerSettings;
use super::stomp;
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
        if tried.send((topic, result)).is_err() {
            return;
        }
    }
}

/// A session that has idled may have ended meanwhile: then a new one is asked.
async fn one(
    settings: &BrokerSettings,
    connection: &mut Option<Connection>,
    topic: &str,
) -> io::Result<Result<(), String>> {
    if let Some(known) = connection
        && let Ok(said) = subscribe(known, topic).await
    {
        return Ok(said);
    }
    let connection = connection.insert(stomp::connect_any(settings).await?);
    subscribe(connection, topic).await
}

async fn subscribe(connection: &mut Connection, topic: &str) -> io::Result<Result<(), String>> {
    stomp::subscribe(connection, topic, 1);
    let said = answer(connection).await?;
    stomp::unsubscribe(connection, 1);
    Ok(said)
}

/// RECEIPT or ERROR; whatever else comes is nobody's.
async fn answer(connection: &mut Connection) -> io::Result<Result<(), String>> {
    let mut said = None;
    loop {
        stomp::read(connection, |frame: &Frame<'_>| match frame.command {
            Command::Receipt => said = Some(Ok(())),
            Command::Error => said = Some(Err(frame.get("message").unwrap_or_default().into_owned())),
            _ => {}
        })?;
        match said {
            Some(said) => return Ok(said),
            None => connection.go_on().await?,
        }
    }
}
