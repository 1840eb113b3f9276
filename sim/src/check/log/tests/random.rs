//! Random logs: a lawful one is found lawful, and one with a defect shows the defect.

use std::collections::BTreeMap;

use super::super::*;
use crate::check::random::Random;

/// What a broken log does wrong, once in a while.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// It acknowledges and stores nothing.
    Forgets,
    /// It stores twice.
    Repeats,
    /// It says no and stores.
    KeepsRefused,
    /// A poll leaves a record out in the middle.
    LeavesOut,
    /// A poll begins one record too late.
    BeginsLate,
    /// A poll begins one record too early.
    BeginsEarly,
    /// A poll gives a record of another partition.
    Mixes,
    /// The records of a batch change places.
    Shuffles,
    /// The last acknowledged record is cut off at the end.
    LosesTail,
}

const PARTITIONS: u64 = 3;
const CLIENTS: u64 = 4;

struct Log {
    random: Random,
    defect: Defect,
    /// Offset and value, in each partition.
    partitions: Vec<Vec<(u64, u64)>>,
    next: Vec<u64>,
    /// Where each client is, as an index into the partition.
    places: BTreeMap<(u64, u64), usize>,
    history: History<u64, u64>,
    values: u64,
    now: u64,
    /// How often the defect showed.
    shown: u64,
}

impl Log {
    fn new(seed: u64, defect: Defect) -> Self {
        Self {
            random: Random::new(seed),
            defect,
            partitions: vec![Vec::new(); PARTITIONS as usize],
            next: vec![0; PARTITIONS as usize],
            places: BTreeMap::new(),
            history: History::new(),
            values: 0,
            now: 0,
            shown: 0,
        }
    }

    /// Whether the log does wrong now.
    fn errs(&mut self, defect: Defect) -> bool {
        let errs = self.defect == defect && self.random.once_in(10);
        self.shown += u64::from(errs);
        errs
    }

    /// Puts a value at the end, sometimes after a gap between two batches.
    fn store(&mut self, partition: u64, value: u64, gap: bool) -> u64 {
        let next = &mut self.next[partition as usize];
        let offset = *next + u64::from(gap) * self.random.below(3);
        *next = offset + 1;
        self.partitions[partition as usize].push((offset, value));
        offset
    }

    fn send(&mut self) {
        let (client, partition) = (self.random.below(CLIENTS), self.random.below(PARTITIONS));
        let count = 1 + self.random.below(3);
        let values: Vec<u64> = (self.values..self.values + count).collect();
        self.values += count;
        let records = values.iter().map(|&value| (partition, value));
        let sending = self.history.send_together(client, self.now, records);
        let (answered, stored) = match self.random.below(8) {
            0 => (false, self.random.once_in(2)),
            1 => {
                self.history.failed(sending, self.now);
                if !self.errs(Defect::KeepsRefused) {
                    return;
                }
                (false, true)
            }
            _ => (true, true),
        };
        if !stored {
            return;
        }
        if answered && self.errs(Defect::Forgets) {
            let next = self.next[partition as usize];
            self.next[partition as usize] += count;
            return self.history.acknowledged(sending, self.now, (next..).map(Some));
        }
        let mut offsets: Vec<_> = values
            .iter()
            .map(|&value| Some(self.store(partition, value, value == values[0])))
            .collect();
        if self.errs(Defect::Repeats) {
            self.store(partition, values[0], true);
        }
        if count > 1 && answered && self.errs(Defect::Shuffles) {
            let records = &mut self.partitions[partition as usize];
            let last = records.len() - 1;
            (records[last].1, records[last - 1].1) = (records[last - 1].1, records[last].1);
            offsets.clear();
        }
        if answered {
            self.history.acknowledged(sending, self.now, offsets);
        }
    }

    fn poll(&mut self) {
        let (client, partition) = (self.random.below(CLIENTS), self.random.below(PARTITIONS));
        let length = self.partitions[partition as usize].len();
        let mut from = self.places.get(&(client, partition)).copied().unwrap_or(0);
        let first = !self.places.contains_key(&(client, partition));
        if from > 0 && !first && from < length && self.errs(Defect::BeginsEarly) {
            from -= 1;
        }
        if !first && from + 1 < length && self.errs(Defect::BeginsLate) {
            from += 1;
        }
        let to = (from + self.random.below(5) as usize).min(length);
        let log = &self.partitions[partition as usize][from..to];
        let mut records: Vec<_> =
            log.iter().map(|&(offset, value)| (partition, offset, value)).collect();
        if records.len() > 2 && self.errs(Defect::LeavesOut) {
            records.remove(1);
        }
        if let Some(record) = records.last_mut()
            && self.errs(Defect::Mixes)
        {
            record.0 = (record.0 + 1) % PARTITIONS;
        }
        if to > from {
            self.places.insert((client, partition), to);
        }
        self.history.poll(client, self.now, records);
    }

    fn seek(&mut self) {
        let (client, partition) = (self.random.below(CLIENTS), self.random.below(PARTITIONS));
        let length = self.partitions[partition as usize].len() as u64;
        let place = self.random.below(length + 1) as usize;
        self.places.insert((client, partition), place);
        self.history.moved(client, [partition]);
    }

    fn run(mut self, operations: u64) -> (History<u64, u64>, u64) {
        for _ in 0..operations {
            self.now += 1;
            match self.random.below(12) {
                0 => self.seek(),
                1..=6 => self.send(),
                _ => self.poll(),
            }
        }
        for partition in 0..PARTITIONS {
            let mut records = self.partitions[partition as usize].clone();
            if self.defect == Defect::LosesTail && records.pop().is_some() {
                self.shown += 1;
            }
            self.history.final_read(partition, self.now, 0, records);
        }
        (self.history, self.shown)
    }
}

#[test]
fn lawful_logs_are_lawful() {
    for seed in 0..500 {
        let (history, _) = Log::new(seed, Defect::None).run(200);
        let verdict = history.judge();
        assert!(verdict.holds(), "seed {seed}: {verdict}");
    }
}

/// In most seeds in which the defect showed itself at all, its kind is found, and never one that the
/// defect cannot bring about.
fn assert_found(defect: Defect, kind: Kind, besides: &[Kind]) {
    let (mut shown, mut found) = (0, 0);
    for seed in 0..200 {
        let (history, times) = Log::new(seed, defect).run(200);
        let kinds = history.judge().kinds();
        shown += u64::from(times > 0);
        found += u64::from(kinds.contains_key(kind.name()));
        for name in kinds.into_keys() {
            let lawful = name == kind.name() || besides.iter().any(|kind| kind.name() == name);
            assert!(lawful && times > 0, "seed {seed}: {name} after {times} defects");
        }
    }
    assert!(shown > 100, "the defect showed in {shown} seeds of 200");
    assert!(found * 10 >= shown * 9, "{} was found in {found} of {shown} seeds", kind.name());
}

#[test]
fn a_forgotten_record_is_a_lost_write() {
    let besides = [Kind::Unseen, Kind::PollSkip, Kind::IntPollSkip];
    assert_found(Defect::Forgets, Kind::LostWrite, &besides);
}

#[test]
fn a_repeated_record_is_a_duplicate() {
    assert_found(Defect::Repeats, Kind::Duplicate, &[]);
}

#[test]
fn a_refused_record_that_is_kept_is_an_aborted_read() {
    assert_found(Defect::KeepsRefused, Kind::AbortedRead, &[]);
}

#[test]
fn records_left_out_are_skips() {
    assert_found(Defect::LeavesOut, Kind::IntPollSkip, &[]);
    assert_found(Defect::BeginsLate, Kind::PollSkip, &[]);
}

#[test]
fn records_given_again_are_nonmonotonic_polls() {
    assert_found(Defect::BeginsEarly, Kind::NonmonotonicPoll, &[]);
}

#[test]
fn records_of_another_partition_are_phantoms() {
    let besides = [Kind::InconsistentOffsets, Kind::PollSkip, Kind::NonmonotonicPoll];
    assert_found(Defect::Mixes, Kind::Phantom, &besides);
}

#[test]
fn records_of_a_batch_that_changed_places_are_nonmonotonic_sends() {
    assert_found(Defect::Shuffles, Kind::IntNonmonotonicSend, &[Kind::IntSendSkip]);
}

#[test]
fn a_tail_that_was_cut_off_is_unseen() {
    assert_found(Defect::LosesTail, Kind::Unseen, &[]);
}

/// Thirty thousand operations take a moment, and a log that lost half of them does too.
#[test]
fn long_histories_are_judged_quickly() {
    let (history, _) = Log::new(1, Defect::None).run(30_000);
    assert!(history.judge().holds());
    let (history, _) = Log::new(1, Defect::Forgets).run(30_000);
    assert_eq!(history.judge().kinds()["lost-write"], crate::check::LISTED_PER_KIND + 1);
}
