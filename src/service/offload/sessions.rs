//! The sessions that a shard has with brokers, by names that are not used twice.

use slab::Slab;

/// Names a session for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// Its place.
    pub number: u32,
    /// Counts the sessions that have had it.
    pub generation: u32,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection; it is made in this tick.
    Down(u32),
    /// The connection is being made.
    Dialing,
    /// CONNECT was sent.
    Greeting,
    /// The broker has let it in.
    Up,
}

/// What became of something for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is on its way.
    Taken,
    /// It is on its way, and more of it is not wanted now.
    Full,
}

/// All sessions of a shard.
pub struct Sessions<S> {
    sessions: Slab<(u32, S)>,
    generation: u32,
}

impl<S> Default for Sessions<S> {
    fn default() -> Sessions<S> {
        Sessions { sessions: Slab::new(), generation: 0 }
    }
}

impl<S> Sessions<S> {
    /// Adds one.
    pub fn insert(&mut self, session: S) -> SessionId {
        self.generation = self.generation.wrapping_add(1);
        let number = self.sessions.insert((self.generation, session)) as u32;
        SessionId { number, generation: self.generation }
    }

    /// One by its name.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut S> {
        self.sessions.get_mut(id.number as usize).filter(|it| it.0 == id.generation).map(|it| &mut it.1)
    }

    /// The one that has this place now.
    pub fn at(&self, number: u32) -> Option<SessionId> {
        self.sessions.get(number as usize).map(|it| SessionId { number, generation: it.0 })
    }

    /// The names of all.
    pub fn all(&self) -> Vec<SessionId> {
        self.sessions.iter().map(|(number, it)| SessionId { number: number as u32, generation: it.0 }).collect()
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.sessions.iter().map(|(_, it)| &it.1)
    }

    /// Removes one.
    pub fn remove(&mut self, id: SessionId) -> Option<S> {
        self.get_mut(id)?;
        Some(self.sessions.remove(id.number as usize).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_used_twice() {
        let mut sessions = Sessions::default();
        let old = sessions.insert('a');
        assert_eq!((sessions.remove(old), sessions.remove(old)), (Some('a'), None));
        let new = sessions.insert('b');
        assert_eq!((new.number, sessions.at(0)), (old.number, Some(new)));
        assert_eq!(sessions.get_mut(old), None);
        assert_eq!(sessions.get_mut(new), Some(&mut 'b'));
    }
}
