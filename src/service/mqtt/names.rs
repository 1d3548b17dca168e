//! Clients by their identifiers. Of each its token stands here and nothing else: what it is called it has itself.

use super::client::Client;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The clients of a shard, by their names.
#[derive(Default)]
pub struct Names(HashTable<u32>);

impl Names {
    /// Room for so many, once: a table that grows is filled anew, in one go, and leaves holes behind.
    pub fn reserve(&mut self, clients: u32) {
        if self.0.capacity() == 0 {
            self.0.reserve(clients as usize, |_| 0);
        }
    }

    /// A client has its name. Returns the token of the one that has had it.
    pub fn insert(&mut self, clients: &[Client], token: u32) -> Option<u32> {
        let name = |token: &u32| clients[*token as usize].name;
        match self.0.entry(name(&token), |it| name(it) == name(&token), name) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), token)),
            Entry::Vacant(entry) => {
                entry.insert(token);
                None
            }
        }
    }

    /// A client leaves, and its name with it, unless another one has that by now.
    pub fn remove(&mut self, clients: &[Client], token: u32) {
        if let Ok(entry) = self.0.find_entry(clients[token as usize].name, |it| *it == token) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_ones_who_has_taken_it() {
        let of = |name| Client { name, ..Client::none() };
        let clients: Vec<Client> = (0..1000).map(|number| of(1 + number % 500)).collect();
        let mut names = Names::default();
        assert!((0..500).all(|token| names.insert(&clients, token).is_none()));
        assert!((500..1000).all(|token| names.insert(&clients, token) == Some(token - 500)));
        names.remove(&clients, 7);
        assert_eq!(names.insert(&clients, 7), Some(507), "the one before leaves late");
        names.remove(&clients, 7);
        assert_eq!(names.insert(&clients, 507), None);
    }
}
