//! From commits back to the state.
//!
//! The fault model: the log hands out commits as they were written, in order, without holes, from
//! some trim point on. A crash may have cut a snapshot short; a bug of ours may have written
//! anything.
//!
//! # The algorithm
//!
//! 1. The first commit begins a snapshot: a store begins with one, and the log is trimmed to the
//!    begin of one that has ended.
//! 2. An edit has the number behind that of the one before, and is right (`state`). It gives up a
//!    snapshot that has begun and not ended.
//! 3. A snapshot's begin gives up one that has not ended. Where there is a state, it speaks of the
//!    same store and of the last edit. Where there is none, a begin that speaks of an edit must be
//!    followed by its parts and its end: nothing in front of it is there any more.
//! 4. A part is the next one, and right as an edit is. An end counts the parts and has their
//!    checksum. Where there is a state, the snapshot is equal to it; otherwise it is the state.
//! 5. At the end there is a state, or there never was a store.

use super::record::{Begin, Body, End, Invalid, Part, Record, chain};
use super::state::State;
use super::version::Version;
use crate::limits::NUMBERS_MAX;

/// What was replayed so far.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    state: Option<State>,
    /// A snapshot that has begun.
    snapshot: Option<Snapshot>,
    /// Frame of the begin of the last snapshot that has ended.
    pub(crate) begin: u64,
    /// Bytes of that snapshot, and of the edits behind it.
    pub(crate) snapshot_bytes: u64,
    pub(crate) edit_bytes: u64,
    /// Edits that were replayed.
    pub(crate) edits: u64,
}

#[derive(Debug)]
struct Snapshot {
    begin: u64,
    state: State,
    parts: u64,
    checksum: u64,
    bytes: u64,
}

impl Replay {
    /// Takes the next commit, of the frame `lsn`.
    pub(crate) fn take(&mut self, lsn: u64, bytes: &[u8]) -> Result<(), Invalid> {
        let Record { number, body } = Record::decode(bytes)?;
        let length = bytes.len() as u64;
        match body {
            Body::Edit(changes) => {
                self.give_up()?;
                let Some(state) = &mut self.state else {
                    return Err(format!("edit {number} is in front of all snapshots").into());
                };
                let expected = state.version().number + 1;
                if number != expected {
                    return Err(format!("edit {number} stands where {expected} should").into());
                }
                let prepared = state.prepare(&changes, u64::MAX);
                let wrong = |problem| format!("edit {number} is wrong: {problem}");
                state.apply(prepared.map_err(wrong)?);
                self.edit_bytes += length;
                self.edits += 1;
            }
            Body::Begin(Begin { store, numbers_below }) => {
                self.give_up()?;
                if let Some(state) = &self.state
                    && (state.version().store, state.version().number) != (store, number)
                {
                    return Err(format!(
                        "a snapshot of store {store:032x} up to edit {number} stands behind edit {} \
                         of store {:032x}",
                        state.version().number,
                        state.version().store
                    )
                    .into());
                }
                if number > NUMBERS_MAX || !(1..=NUMBERS_MAX).contains(&numbers_below) {
                    let what =
                        format!("a snapshot has {number} edits and numbers below {numbers_below}");
                    return Err(what.into());
                }
                let state = State::new(Version::empty(store, number, numbers_below));
                self.snapshot =
                    Some(Snapshot { begin: lsn, state, parts: 0, checksum: 0, bytes: length });
            }
            Body::Part(Part { index, changes }) => {
                let snapshot = self.snapshot(number)?;
                if index != snapshot.parts {
                    let expected = snapshot.parts;
                    return Err(format!("part {index} stands where {expected} should").into());
                }
                let prepared = snapshot.state.prepare_part(&changes);
                let wrong = |problem| format!("a snapshot's part {index} is wrong: {problem}");
                snapshot.state.apply(prepared.map_err(wrong)?);
                snapshot.parts += 1;
                snapshot.checksum = chain(snapshot.checksum, bytes);
                snapshot.bytes += length;
            }
            Body::End(End { parts, checksum }) => {
                let snapshot = self.snapshot(number)?;
                if (snapshot.parts, snapshot.checksum) != (parts, checksum) {
                    return Err(format!(
                        "a snapshot has {} parts with the checksum {:016x}, it was written with \
                         {parts} and {checksum:016x}",
                        snapshot.parts, snapshot.checksum
                    )
                    .into());
                }
                self.end(length)?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, number: u64) -> Result<&mut Snapshot, Invalid> {
        match &mut self.snapshot {
            Some(snapshot) if snapshot.state.version().number == number => Ok(snapshot),
            _ => Err(format!("a part of a snapshot up to edit {number} has no begin").into()),
        }
    }

    /// A snapshot has ended, and is whole.
    fn end(&mut self, bytes: u64) -> Result<(), Invalid> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(()) };
        if let Some(state) = &self.state
            && state.version() != snapshot.state.version()
        {
            let number = state.version().number;
            let what = format!("the snapshot up to edit {number} is not what the edits made");
            return Err(what.into());
        }
        self.begin = snapshot.begin;
        (self.snapshot_bytes, self.edit_bytes) = (snapshot.bytes + bytes, 0);
        self.state = Some(snapshot.state);
        Ok(())
    }

    /// A snapshot that has begun will not end.
    fn give_up(&mut self) -> Result<(), Invalid> {
        match self.snapshot.take() {
            Some(snapshot) if self.state.is_none() && snapshot.state.version().number > 0 => {
                let number = snapshot.state.version().number;
                Err(format!(
                    "the snapshot up to edit {number} has no end, and what stood in front of it is \
                     not there"
                )
                .into())
            }
            _ => Ok(()),
        }
    }

    /// The state after the last commit; `None` if there was never a store.
    pub(crate) fn finish(&mut self) -> Result<Option<State>, Invalid> {
        self.give_up()?;
        Ok(self.state.take())
    }
}
