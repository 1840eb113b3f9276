//! The operations in flight, each in a slot that its key names.
//!
//! **Invariant.** A slot whose request is in flight is neither moved out of nor dropped: its memory
//! belongs to the kernel. It leaves by [`Slab::remove`], which refuses such a slot.

use std::task::Waker;

use super::driver::Key;
use super::work::Work;

/// An operation that was started and whose result was not taken.
pub(crate) struct Slot {
    pub(crate) work: Work,
    pub(crate) state: State,
}

/// Who waits for an operation.
pub(crate) enum State {
    /// Held back until its group has less in flight; the task to wake.
    Held(Waker),
    /// In flight; the task to wake.
    Waiting(Waker),
    /// In flight, and nobody wants the result.
    Orphaned,
    /// Completed with this result, which was not taken yet.
    Done(i32),
}

/// Slots by key. A key is used once: the upper half counts the uses of the slot that the lower
/// half names.
#[derive(Default)]
pub(crate) struct Slab {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

struct Entry {
    uses: u32,
    slot: Option<Slot>,
}

impl Slab {
    pub(crate) fn insert(&mut self, slot: Slot) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            // The last indices are left to the drivers, which name their own requests with them.
            assert!(index < u32::MAX - 16, "four thousand million operations in flight");
            self.entries.push(Entry { uses: 0, slot: None });
            index
        });
        let entry = &mut self.entries[index as usize];
        assert!(entry.slot.is_none(), "a slot on the free list is free");
        entry.uses = entry.uses.wrapping_add(1);
        entry.slot = Some(slot);
        Key((u64::from(entry.uses) << 32) | u64::from(index))
    }

    /// The slot that `key` names.
    ///
    /// # Panics
    /// If it is gone: a driver reported a completion twice.
    pub(crate) fn get(&mut self, key: Key) -> &mut Slot {
        let entry = &mut self.entries[(key.0 & 0xFFFF_FFFF) as usize];
        assert_eq!(u64::from(entry.uses), key.0 >> 32, "the slot was used again");
        entry.slot.as_mut().expect("the slot of an operation is filled until its result is taken")
    }

    /// Empties a slot that has no request in flight.
    pub(crate) fn remove(&mut self, key: Key) -> Slot {
        assert!(matches!(self.get(key).state, State::Done(_)), "the kernel is not done with it");
        let index = (key.0 & 0xFFFF_FFFF) as usize;
        self.free.push(index as u32);
        self.entries[index].slot.take().expect("`get` found it filled")
    }

    /// The keys of all operations.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let filled = self.entries.iter().enumerate().filter(|(_, entry)| entry.slot.is_some());
        filled.map(|(index, entry)| Key((u64::from(entry.uses) << 32) | index as u64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::native::work::OpenFile;

    fn slot(state: State) -> Slot {
        let path = std::path::PathBuf::from("/dev/null");
        let fd = std::fs::File::open(&path).expect("it is there").into();
        let file = Rc::new(OpenFile::used_once(fd, path));
        Slot { work: Work::Sync { file, data_only: true }, state }
    }

    #[test]
    fn a_slot_is_used_again_under_another_key() {
        let mut slab = Slab::default();
        let first = slab.insert(slot(State::Done(1)));
        let other = slab.insert(slot(State::Done(2)));
        assert!(matches!(slab.remove(first).state, State::Done(1)));
        let again = slab.insert(slot(State::Done(3)));
        assert_ne!(again, first);
        assert_eq!(slab.keys(), [again, other]);
    }

    #[test]
    #[should_panic(expected = "the slot was used again")]
    fn a_key_of_the_past_is_noticed() {
        let mut slab = Slab::default();
        let first = slab.insert(slot(State::Done(1)));
        slab.remove(first);
        slab.insert(slot(State::Done(2)));
        slab.get(first);
    }

    #[test]
    #[should_panic(expected = "the kernel is not done with it")]
    fn what_is_in_flight_stays() {
        let mut slab = Slab::default();
        let key = slab.insert(slot(State::Orphaned));
        slab.remove(key);
    }
}
