//! What the edge says, beside a message, of who has published it.

use super::OffloadPlan;
use crate::mesh::Identity;

/// A STOMP header, or a user property of MQTT 5, that is the edge's to say: what a client says under this name is left
/// out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'s> {
    /// Its name.
    pub name: &'s str,
    /// Who the client is; `None`: nobody knows, and nothing is said.
    pub value: Option<&'s str>,
}

impl Stamp<'_> {
    /// Whether something of this name is left out: a back end may not tell capitals from others.
    pub fn replaces(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name)
    }
}

impl OffloadPlan {
    /// What is said of this client; `None`: the route stamps nothing.
    pub fn stamp_of<'s>(&'s self, client: Option<&'s Identity>) -> Option<Stamp<'s>> {
        let name = self.stamp.as_deref()?;
        Some(Stamp { name, value: client.map(|it| &*it.name) })
    }
}
