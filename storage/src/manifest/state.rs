//! The newest version, and what is needed to check the next edit against it.
//!
//! The fault model: an edit may be wrong, because who asks for it made a mistake, or because what
//! is replayed was written by a build with a bug. A wrong one is told and changes nothing: an edit
//! is made on a copy, which takes the place of the version only when the edit is durable.
//!
//! # When an edit is right
//!
//! 1. It has a change, and each change is right by itself: the lengths of names and keys, the order
//!    of a table's bounds, its file's length.
//! 2. Numbers of keyspaces and tables are below those that were reserved, and no other keyspace, or
//!    no other table of the store, has the same.
//! 3. A name is no other keyspace's.
//! 4. A keyspace that is dropped, flushed, or has a table added or removed is there; a table that is
//!    removed is there, in this keyspace.
//! 5. A table overlaps no other of its run, and stands in a run that its keyspace's strategy has.
//! 6. Neither what is flushed nor what is reserved goes back.
//! 7. No table that is added holds a commit that is not flushed when the edit is made: the log would
//!    replay it, and a merge operand would count twice.
//! 8. There are no more keyspaces and tables than there may be.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::change::{Change, KeyspaceOptions, Strategy, TableMetadata};
use super::version::{Keyspace, Level, Version};
use crate::limits::{KEYSPACES, NUMBERS_MAX, TABLES};

#[derive(Clone, Debug)]
pub(crate) struct State {
    version: Rc<Version>,
    /// All live tables, by number: exactly those of the version.
    live: BTreeMap<u64, Rc<TableMetadata>>,
}

/// An edit that was found right, and what it makes of the state.
#[derive(Debug)]
pub(crate) struct Prepared {
    version: Version,
    /// Tables that were there and are not any more, or are elsewhere.
    removed: BTreeSet<u64>,
    added: BTreeMap<u64, Rc<TableMetadata>>,
}

impl State {
    pub(crate) fn new(version: Version) -> Self {
        assert!(version.keyspaces.is_empty(), "what is in a state came through edits");
        Self { version: Rc::new(version), live: BTreeMap::new() }
    }

    pub(crate) fn version(&self) -> &Rc<Version> {
        &self.version
    }

    pub(crate) fn live(&self) -> &BTreeMap<u64, Rc<TableMetadata>> {
        &self.live
    }

    /// Makes the changes of an edit on a copy. Of the reserved numbers, those below `given_below`
    /// may be used.
    pub(crate) fn prepare(&self, changes: &[Change], given_below: u64) -> Result<Prepared, String> {
        self.change(changes, given_below, 1)
    }

    /// The same for a part of a snapshot, which is no edit of its own.
    pub(crate) fn prepare_part(&self, changes: &[Change]) -> Result<Prepared, String> {
        let prepared = self.change(changes, u64::MAX, 0)?;
        assert_eq!(prepared.version.number, self.version.number, "a part is no edit");
        Ok(prepared)
    }

    fn change(&self, changes: &[Change], given_below: u64, edits: u64) -> Result<Prepared, String> {
        if changes.is_empty() {
            return Err("it changes nothing".to_owned());
        }
        let version = Version::clone(&self.version);
        let mut next = Prepared { version, removed: BTreeSet::new(), added: BTreeMap::new() };
        next.version.number += edits;
        for change in changes {
            if let Some(problem) = change.problem() {
                return Err(problem);
            }
            self.make(change, given_below, &mut next)?;
        }
        for table in next.added.values() {
            let flushed = next.version.keyspaces.get(&table.keyspace).map_or(0, |of| of.flushed);
            if table.largest_sequence > flushed {
                return Err(format!(
                    "table {:016x} holds commit {}, keyspace {} is flushed up to {flushed}",
                    table.number, table.largest_sequence, table.keyspace
                ));
            }
        }
        let tables = self.live.len() - next.removed.len() + next.added.len();
        if tables > TABLES {
            return Err(format!("there would be {tables} tables, there may be {TABLES}"));
        }
        Ok(next)
    }

    /// Takes over what an edit made, which was prepared of this state and no other.
    pub(crate) fn apply(&mut self, prepared: Prepared) {
        let Prepared { version, removed, added } = prepared;
        for number in &removed {
            let was_there = self.live.remove(number);
            assert!(was_there.is_some(), "an edit is applied to the state it was prepared of");
        }
        for (number, table) in added {
            let was_there = self.live.insert(number, table);
            assert!(was_there.is_none(), "no two tables have one number");
        }
        self.version = Rc::new(version);
    }

    fn table(&self, number: u64, next: &Prepared) -> Option<Rc<TableMetadata>> {
        let was_there = || self.live.get(&number).filter(|_| !next.removed.contains(&number));
        next.added.get(&number).or_else(was_there).cloned()
    }

    fn make(&self, change: &Change, given_below: u64, next: &mut Prepared) -> Result<(), String> {
        let given_below = given_below.min(next.version.numbers_below);
        match change {
            Change::CreateKeyspace { id, name, options } => {
                check_number("keyspace", *id, given_below)?;
                next.create(*id, name, options)
            }
            Change::DropKeyspace { id } => {
                let Some(keyspace) = next.version.keyspaces.remove(id) else {
                    return Err(no_keyspace(*id));
                };
                Rc::make_mut(&mut next.version.names).remove(&keyspace.name);
                keyspace.tables().for_each(|table| self.forget(table.number, next));
                Ok(())
            }
            Change::AddTable(table) => {
                check_number("table", table.number, given_below)?;
                if let Some(other) = self.table(table.number, next) {
                    return Err(format!("there is a {other:?} already"));
                }
                let table = Rc::new(table.clone());
                next.keyspace(table.keyspace)?.add(&table)?;
                next.added.insert(table.number, table);
                Ok(())
            }
            Change::RemoveTable { keyspace, number } => {
                let table = self.table(*number, next).filter(|table| table.keyspace == *keyspace);
                let Some(table) = table else {
                    return Err(format!("keyspace {keyspace} has no table {number:016x}"));
                };
                next.keyspace(*keyspace)?.remove(&table);
                self.forget(*number, next);
                Ok(())
            }
            Change::Flushed { keyspace, lsn } => {
                let keyspace = next.keyspace(*keyspace)?;
                if *lsn < keyspace.flushed {
                    return Err(format!(
                        "keyspace {} is flushed up to {}, and would be up to {lsn}",
                        keyspace.id, keyspace.flushed
                    ));
                }
                keyspace.flushed = *lsn;
                Ok(())
            }
            Change::ReserveNumbers { below } => {
                if *below <= next.version.numbers_below {
                    return Err(format!(
                        "numbers below {} are reserved, and those below {below} would be",
                        next.version.numbers_below
                    ));
                }
                if *below > NUMBERS_MAX {
                    return Err(format!("numbers below {below} would be reserved"));
                }
                next.version.numbers_below = *below;
                Ok(())
            }
        }
    }

    fn forget(&self, number: u64, next: &mut Prepared) {
        next.added.remove(&number);
        if self.live.contains_key(&number) {
            next.removed.insert(number);
        }
    }
}

fn no_keyspace(id: u64) -> String {
    format!("there is no keyspace {id}")
}

fn check_number(what: &str, number: u64, given_below: u64) -> Result<(), String> {
    if (1..given_below).contains(&number) {
        return Ok(());
    }
    Err(format!(
        "no {what} was given the number {number}; those from 1 to below {given_below} were"
    ))
}

impl Prepared {
    fn keyspace(&mut self, id: u64) -> Result<&mut Keyspace, String> {
        self.version.keyspaces.get_mut(&id).map(Rc::make_mut).ok_or_else(|| no_keyspace(id))
    }

    fn create(&mut self, id: u64, name: &str, options: &KeyspaceOptions) -> Result<(), String> {
        let Version { keyspaces, names, .. } = &mut self.version;
        if keyspaces.contains_key(&id) {
            return Err(format!("there is a keyspace {id} already"));
        }
        if let Some(other) = names.get(name) {
            return Err(format!("keyspace {other} has the name {name:?} already"));
        }
        if keyspaces.len() >= KEYSPACES {
            return Err(format!("there are {KEYSPACES} keyspaces, and there may be no more"));
        }
        Rc::make_mut(names).insert(name.to_owned(), id);
        let (name, options) = (name.to_owned(), options.clone());
        let keyspace = Keyspace { id, name, options, flushed: 0, levels: Vec::new() };
        keyspaces.insert(id, Rc::new(keyspace));
        Ok(())
    }
}

impl Keyspace {
    fn add(&mut self, table: &Rc<TableMetadata>) -> Result<(), String> {
        let is_fine = match self.options.strategy {
            Strategy::Levelled => table.level == 0 || table.run == 0,
            Strategy::Universal => true,
            Strategy::Fifo { .. } => table.level == 0,
        };
        if !is_fine {
            return Err(format!(
                "a keyspace of the kind {:?} has no {table:?}",
                self.options.strategy
            ));
        }
        let level = usize::from(table.level);
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Rc::default);
        }
        let level = Rc::make_mut(&mut self.levels[level]);
        let run = Rc::make_mut(level.runs.entry(table.run).or_default());
        let inserted = run.insert(Rc::clone(table));
        inserted.map_err(|other| format!("{table:?} overlaps {other:?}"))
    }

    /// Takes a table out, which must be there.
    fn remove(&mut self, table: &TableMetadata) {
        let level: &mut Level = Rc::make_mut(&mut self.levels[usize::from(table.level)]);
        let run = level.runs.get_mut(&table.run).map(Rc::make_mut);
        let run = run.expect("a table's run is there");
        run.remove(table);
        if run.tables.is_empty() {
            level.runs.remove(&table.run);
        }
        while self.levels.last().is_some_and(|level| level.runs.is_empty()) {
            self.levels.pop();
        }
    }
}
