//! Why TLS towards a server has failed, in words that say whose fault it is.

use crate::mesh::tls_errors::{BROKER, UPSTREAM, words};
use rustls::Error;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

/// The words for an error of TLS, wherever in the chain of causes it stands; `None`: there is none in it.
pub(in crate::control) fn why(error: &(dyn StdError + 'static)) -> Option<String> {
    find(error).map(|error| words(error, &BROKER))
}

/// As [`why`], of a server whose settings are a route's.
pub(in crate::control) fn why_upstream(error: &(dyn StdError + 'static)) -> Option<String> {
    find(error).map(|error| words(error, &UPSTREAM))
}

/// What an error has wrapped: an `io::Error` does not tell that as its source, nor does one that is shared.
fn inner<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(shared.as_ref());
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    std::iter::successors(Some(error), |it| inner(*it)).find_map(|it| it.downcast_ref())
}
