//! The subscription ids of clients, each text once: nearly all clients use the same few (`sub-0`, `sub-1`).

use slab::Slab;
use std::collections::HashMap;
use std::rc::Rc;

/// Ids by numbers.
#[derive(Default)]
pub struct Ids {
    numbers: HashMap<Rc<str>, u32>,
    ids: Slab<(Rc<str>, u32)>,
}

impl Ids {
    /// The number of an id, which is used once more from now on.
    pub fn enter(&mut self, id: &str) -> u32 {
        if let Some(&number) = self.numbers.get(id) {
            self.ids[number as usize].1 += 1;
            return number;
        }
        let text: Rc<str> = id.into();
        let number = self.ids.insert((text.clone(), 1)) as u32;
        self.numbers.insert(text, number);
        number
    }

    /// The number of an id that is in use.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// The id of a number; empty where it has none.
    pub fn text(&self, number: u32) -> &str {
        self.ids.get(number as usize).map_or("", |(text, _)| text)
    }

    /// It is used once less.
    pub fn leave(&mut self, number: u32) {
        let Some((text, uses)) = self.ids.get_mut(number as usize) else { return };
        *uses -= 1;
        if *uses == 0 {
            self.numbers.remove(text);
            self.ids.remove(number as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_number_for_as_long_as_it_is_used() {
        let mut ids = Ids::default();
        let (one, again, other) = (ids.enter("sub-0"), ids.enter("sub-0"), ids.enter("sub-1"));
        assert_eq!((one, ids.text(one), ids.text(other)), (again, "sub-0", "sub-1"));
        ids.leave(one);
        assert_eq!(ids.find("sub-0"), Some(one));
        ids.leave(one);
        assert_eq!((ids.find("sub-0"), ids.text(one)), (None, ""));
    }
}
