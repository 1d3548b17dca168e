//! Tables by numbers that stay from one generation of settings to the next.
//!
//! Connections go by such numbers (of limits, routes, feeds, upstreams) for as long as they last. Where a generation
//! has nothing under a number any more, what stood there stays: somebody may still go by it. It is replaced when a
//! later generation gives the number to something new, which it does only when nobody goes by the old any more.

use std::ops::{Index, IndexMut};

/// Values by number, dense from zero.
#[derive(Clone, Debug)]
pub struct Numbered<T>(Vec<Entry<T>>);

#[derive(Clone, Debug)]
struct Entry<T> {
    value: T,
    /// The present generation has it.
    current: bool,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered(Vec::new())
    }
}

impl<T> Numbered<T> {
    /// Exchanges the generation. `next`: what it has under each number, `None` where that is nothing; it is as long as
    /// what is there already, or longer, or the rest is gone. `kept` changes what was there and is there still, `new`
    /// makes what takes a number.
    ///
    /// # Panics
    /// A number behind the end is left out: numbers are dense.
    pub fn exchange<N>(
        &mut self,
        next: impl IntoIterator<Item = Option<N>>,
        mut kept: impl FnMut(&mut T, N),
        mut new: impl FnMut(usize, N) -> T,
    ) {
        let mut next = next.into_iter();
        for (number, entry) in self.0.iter_mut().enumerate() {
            let settings = next.next().flatten();
            let was_current = std::mem::replace(&mut entry.current, settings.is_some());
            match settings {
                Some(settings) if was_current => kept(&mut entry.value, settings),
                Some(settings) => entry.value = new(number, settings),
                None => {}
            }
        }
        for settings in next {
            let settings = settings.expect("numbers are dense");
            self.0.push(Entry { value: new(self.0.len(), settings), current: true });
        }
    }

    /// Exchanges the generation of a table whose values are the settings themselves.
    pub fn replace(&mut self, next: impl IntoIterator<Item = Option<T>>) {
        self.exchange(next, |value, next| *value = next, |_, next| next);
    }

    /// What the present generation has under a number; `None`: nothing.
    pub fn current(&self, number: usize) -> Option<&T> {
        self.0.get(number).filter(|entry| entry.current).map(|entry| &entry.value)
    }

    /// As [`current`](Numbered::current), to be changed.
    pub fn current_mut(&mut self, number: usize) -> Option<&mut T> {
        self.0.get_mut(number).filter(|entry| entry.current).map(|entry| &mut entry.value)
    }

    /// What only older generations have, by number.
    pub fn older(&self) -> impl Iterator<Item = (usize, &T)> {
        let older = self.0.iter().enumerate().filter(|(_, entry)| !entry.current);
        older.map(|(number, entry)| (number, &entry.value))
    }

    /// All values, of whatever generation, by number.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|entry| &mut entry.value)
    }

    /// The first number that was never given to anything.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was ever in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The values of the first generation.
impl<T> FromIterator<T> for Numbered<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Numbered(values.into_iter().map(|value| Entry { value, current: true }).collect())
    }
}

/// What is under a number, of whatever generation.
impl<T> Index<usize> for Numbered<T> {
    type Output = T;

    fn index(&self, number: usize) -> &T {
        &self.0[number].value
    }
}

impl<T> IndexMut<usize> for Numbered<T> {
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.0[number].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_stays_until_its_number_is_given_anew() {
        let mut table: Numbered<&str> = ["a", "b"].into_iter().collect();
        table.replace([None, Some("B"), Some("c")]);
        assert_eq!([table[0], table[1], table[2]], ["a", "B", "c"]);
        assert_eq!((table.current(0), table.current(1), table.current(3)), (None, Some(&"B"), None));
        assert_eq!(table.older().collect::<Vec<_>>(), [(0, &"a")]);
        // Shorter than before: the rest is gone.
        table.replace([Some("d")]);
        assert_eq!((table[0], table.len()), ("d", 3));
        assert_eq!(table.older().collect::<Vec<_>>(), [(1, &"B"), (2, &"c")]);
    }

    #[test]
    fn what_is_kept_is_changed_and_what_is_new_is_made() {
        let mut table: Numbered<String> = ["a", "b"].into_iter().map(String::from).collect();
        let exchange = |table: &mut Numbered<String>, next: &[Option<&str>]| {
            let new = |number, it: &str| format!("{it} at {number}");
            table.exchange(next.iter().copied(), String::push_str, new);
        };
        exchange(&mut table, &[Some("+"), None, Some("c")]);
        assert_eq!([&table[0], &table[1], &table[2]], ["a+", "b", "c at 2"]);
        exchange(&mut table, &[Some("+"), Some("d"), Some("+")]);
        assert_eq!([&table[0], &table[1], &table[2]], ["a++", "d at 1", "c at 2+"]);
    }
}
