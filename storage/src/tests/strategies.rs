//! Which runs of universal and FIFO keyspaces are merged next, and which tables are removed.

use std::rc::Rc;

use woodchuck_io::RandomStream;

use super::manifest::table;
use super::picks::{UNIT, keyspace_of};
use super::place::random;
use crate::compaction::{Action, FifoOptions, Pick, UniversalOptions, pick_fifo, pick_universal};
use crate::{Keyspace, Strategy, TableMetadata};

const UNIVERSAL: UniversalOptions =
    UniversalOptions { runs: 4, ratio_percent: 10, space_percent: 300 };

/// Runs of one table each with these sizes, the newest first, in runs with even numbers of level 0.
fn runs(strategy: Strategy, sizes: &[u64]) -> Rc<Keyspace> {
    let tables = (1..).zip(sizes.iter().rev()).map(|(number, size)| TableMetadata {
        level: 0,
        run: 2 * number,
        file_bytes: size * UNIT,
        ..table(1, number, "a", "z")
    });
    keyspace_of(strategy, tables)
}

/// The runs that are merged, and the one whose place the result takes.
fn merged(pick: Option<Pick>) -> Option<(Vec<u64>, u64)> {
    let Pick { into, run, inputs, action } = pick?;
    assert_eq!((into, action), (0, Action::Rewrite));
    Some((inputs.iter().map(|run| run[0].run / 2).collect(), run / 2))
}

fn universal(sizes: &[u64]) -> Option<(Vec<u64>, u64)> {
    merged(pick_universal(&runs(Strategy::Universal, sizes), &UNIVERSAL))
}

#[test]
fn runs_that_are_few_and_small_beside_the_oldest_are_left_alone() {
    assert_eq!(universal(&[]), None);
    assert_eq!(universal(&[1]), None);
    assert_eq!(universal(&[1, 1]), None);
    assert_eq!(universal(&[1, 1, 1, 1]), None, "three times as much as the oldest, no more");
    assert_eq!(universal(&[300, 100]), None);
}

#[test]
fn all_runs_are_merged_if_they_take_too_much_space() {
    assert_eq!(universal(&[301, 100]), Some((vec![2, 1], 2)));
    assert_eq!(universal(&[1, 1, 2, 1]), Some((vec![4, 3, 2, 1], 4)));
    let huge = 1 << 25;
    assert_eq!(universal(&[3 * huge, huge]), None);
    assert_eq!(universal(&[3 * huge + 1, huge]), Some((vec![2, 1], 2)));
}

#[test]
fn of_too_many_runs_those_of_like_sizes_are_merged() {
    // From the newest on that is followed by one that is hardly larger.
    assert_eq!(universal(&[1, 1, 10, 50, 100]), Some((vec![5, 4], 5)));
    assert_eq!(universal(&[10, 11, 22, 60, 100]), Some((vec![5, 4, 3], 5)), "60 is too much");
    assert_eq!(universal(&[10, 12, 13, 50, 100]), Some((vec![4, 3], 4)));
    assert_eq!(universal(&[10, 12, 24, 13, 100]), Some((vec![3, 2], 3)));
    // A smaller one behind is merged, too.
    assert_eq!(universal(&[10, 5, 1, 30, 100]), Some((vec![5, 4, 3], 5)));
    assert_eq!(universal(&[10, 10, 20, 40, 80]), Some((vec![5, 4, 3, 2, 1], 5)));
}

#[test]
fn if_none_are_of_like_sizes_the_newest_are_merged() {
    assert_eq!(universal(&[1, 2, 4, 8, 16]), Some((vec![5, 4], 5)));
    assert_eq!(universal(&[1, 2, 4, 8, 16, 32, 64]), Some((vec![7, 6, 5, 4], 7)));
}

#[test]
fn a_run_of_any_level_is_merged_with_its_neighbour_in_age() {
    let at = |number, level, run, size| TableMetadata {
        level,
        run,
        file_bytes: size * UNIT,
        ..table(1, number, "a", "z")
    };
    let tables = [at(1, 2, 9, 100), at(2, 2, 11, 60), at(3, 1, 4, 9), at(4, 0, 30, 5)];
    let keyspace = keyspace_of(Strategy::Universal, tables);
    let options = UniversalOptions { runs: 3, ratio_percent: 0, space_percent: 1000 };
    let pick = pick_universal(&keyspace, &options).expect("there are too many");
    let numbers: Vec<_> = pick.tables().map(|table| table.number).collect();
    assert_eq!((numbers, pick.into, pick.run), (vec![4, 3], 0, 30));
    assert_eq!(pick.oldest(), (1, 4));
}

/// A run as it came about: the flushes of which it has something, the first and the last.
#[derive(Clone, Copy, Debug)]
struct Merged {
    number: u64,
    size: u64,
    first: u64,
    last: u64,
}

/// Runs of a keyspace, the newest first, that are flushed and merged.
#[derive(Default)]
struct Runs {
    runs: Vec<Merged>,
    flushed: u64,
    bytes: u64,
    rewritten: u64,
}

impl Runs {
    fn flush(&mut self, size: u64) {
        self.flushed += 1;
        self.bytes += size;
        let number = self.runs.first().map_or(0, |run| run.number) + 1;
        let (first, last) = (self.flushed, self.flushed);
        self.runs.insert(0, Merged { number, size, first, last });
    }

    fn keyspace(&self, strategy: Strategy) -> Rc<Keyspace> {
        let tables = self.runs.iter().map(|run| TableMetadata {
            level: 0,
            run: run.number,
            file_bytes: run.size * UNIT,
            ..table(1, run.last, "a", "z")
        });
        keyspace_of(strategy, tables)
    }

    /// What is picked, as runs.
    fn picked(&self, pick: &Pick) -> Vec<Merged> {
        assert_eq!((pick.into, pick.action), (0, Action::Rewrite));
        let of = |run: &Vec<Rc<TableMetadata>>| {
            let same = |other: &&Merged| other.number == run[0].run;
            *self.runs.iter().find(same).expect("it is there")
        };
        pick.inputs.iter().map(of).collect()
    }

    /// Puts a run of some size, or none, in the place of others.
    fn replace(&mut self, pick: &Pick, size: u64) {
        let inputs = self.picked(pick);
        assert!(inputs.len() >= 2, "{inputs:?}");
        self.rewritten += inputs.iter().map(|run| run.size).sum::<u64>();
        self.runs.retain(|run| inputs.iter().all(|input| input.number != run.number));
        if size > 0 {
            let (newest, oldest) = (inputs[0], inputs[inputs.len() - 1]);
            let (number, first, last) = (pick.run, oldest.first, newest.last);
            assert!(self.runs.iter().all(|run| run.number != number));
            self.runs.push(Merged { number, size, first, last });
            self.runs.sort_by_key(|run| u64::MAX - run.number);
        }
        // What is read first is newer, to the last flush.
        let is_newer = |one: &Merged, next: &Merged| one.first > next.last;
        assert!(self.runs.is_sorted_by(is_newer), "{:?}", self.runs);
    }
}

fn draw_universal(random: &mut RandomStream) -> UniversalOptions {
    UniversalOptions {
        runs: 1 + random.below(10) as usize,
        ratio_percent: [0, 1, 50, 200][random.below(4) as usize],
        space_percent: [1, 25, 200, 1000][random.below(4) as usize],
    }
}

#[test]
fn universal_comes_to_an_end_within_its_bounds_and_keeps_runs_in_order() {
    let (mut beside, mut gone) = (0, 0);
    for seed in 0..300 {
        let mut random = random(seed);
        let options = draw_universal(&mut random);
        let mut runs = Runs::default();
        for _ in 0..60 {
            runs.flush(1 + random.below(20));
            let mut steps = 0;
            while let Some(pick) = pick_universal(&runs.keyspace(Strategy::Universal), &options) {
                let most: u64 = runs.picked(&pick).iter().map(|run| run.size).sum();
                if steps < 10 && random.below(4) == 0 {
                    runs.flush(1 + random.below(20));
                    beside += 1;
                }
                let size = random.below(most + 1);
                gone += u64::from(size == 0);
                runs.replace(&pick, size);
                steps += 1;
                assert!(steps < 30, "seed {seed}: it comes to an end");
            }
            let sizes: Vec<u64> = runs.runs.iter().map(|run| run.size).collect();
            assert!(sizes.len() <= options.runs, "seed {seed}: {sizes:?}");
            if let Some((oldest, newer)) = sizes.split_last() {
                let newer: u64 = newer.iter().sum();
                assert!(100 * newer <= options.space_percent * oldest, "seed {seed}: {sizes:?}");
            }
        }
    }
    assert!(beside > 1000 && gone > 300, "{beside} flushes beside merges, {gone} left nothing");
}

#[test]
fn universal_rewrites_what_is_flushed_a_few_times() {
    let mut runs = Runs::default();
    for _ in 0..4000 {
        runs.flush(1);
        let options = UniversalOptions::default();
        while let Some(pick) = pick_universal(&runs.keyspace(Strategy::Universal), &options) {
            let size = runs.picked(&pick).iter().map(|run| run.size).sum();
            runs.replace(&pick, size);
        }
    }
    assert!(runs.rewritten < 8 * runs.bytes, "{} of {}", runs.rewritten, runs.bytes);
}

const FIFO: FifoOptions = FifoOptions { runs: 3, small_bytes: 20 * UNIT };
const TTL: Strategy = Strategy::Fifo { ttl_ms: 1000 };

fn fifo(sizes: &[u64]) -> Option<(Vec<u64>, u64)> {
    merged(pick_fifo(&runs(TTL, sizes), &FIFO, 0))
}

#[test]
fn small_neighbours_of_a_fifo_keyspace_are_merged() {
    assert_eq!(fifo(&[]), None);
    assert_eq!(fifo(&[1, 1]), None, "there are few");
    assert_eq!(fifo(&[1, 1, 1]), Some((vec![3, 2, 1], 3)));
    assert_eq!(fifo(&[1, 1, 20, 1, 1]), None, "between them is one that is not small");
    assert_eq!(fifo(&[1, 1, 20, 1, 1, 1]), Some((vec![3, 2, 1], 3)));
    assert_eq!(fifo(&[1, 2, 4, 8]), None, "each is larger than the newer ones together");
    assert_eq!(fifo(&[2, 3, 2, 4, 6, 16]), Some((vec![5, 4, 3, 2], 5)));
    assert_eq!(fifo(&[20, 30, 20, 40]), None);
}

/// What is flushed is rewritten some logarithm of times, and there are few runs besides large ones.
#[test]
fn small_runs_of_a_fifo_keyspace_stay_few() {
    let options = FifoOptions { runs: 4, small_bytes: 64 * UNIT };
    let mut runs = Runs::default();
    for _ in 0..1000 {
        runs.flush(1);
        while let Some(pick) = pick_fifo(&runs.keyspace(TTL), &options, 0) {
            let size = runs.picked(&pick).iter().map(|run| run.size).sum();
            runs.replace(&pick, size);
        }
        let small = runs.runs.iter().filter(|run| run.size < 64).count();
        assert!(small <= 9, "{:?}", runs.runs);
    }
    assert!(runs.runs.len() <= 1000 / 64 + 9, "{:?}", runs.runs);
    assert!(runs.rewritten <= 3 * runs.bytes, "{} of {}", runs.rewritten, runs.bytes);
}

/// The tables that are removed at time 100. Each stands in the run with its number.
fn removed(tables: &[(u64, &str, &str, Option<u64>)]) -> Vec<u64> {
    let tables = tables.iter().map(|&(number, start, end, ends_at_ms)| TableMetadata {
        level: 0,
        run: number,
        ends_at_ms,
        ..table(1, number, start, end)
    });
    let options = FifoOptions { runs: 64, ..FIFO };
    let Some(pick) = pick_fifo(&keyspace_of(TTL, tables), &options, 100) else { return vec![] };
    assert_eq!(pick.action, Action::Remove);
    assert!(pick.inputs.iter().all(|run| !run.is_empty()));
    pick.tables().map(|table| table.number).collect()
}

#[test]
fn tables_that_have_ended_are_removed_the_oldest_first() {
    let (ended, later, never) = (Some(100), Some(101), None);
    assert!(removed(&[(1, "a", "z", later), (2, "a", "z", never)]).is_empty());
    assert_eq!(removed(&[(1, "a", "z", ended), (2, "a", "z", later)]), [1]);
    assert_eq!(removed(&[(1, "a", "z", ended), (2, "a", "z", Some(0))]), [2, 1]);
    // One that ended earlier than what it hides stays.
    assert!(removed(&[(1, "a", "z", later), (2, "a", "z", ended)]).is_empty());
    assert!(removed(&[(1, "a", "z", never), (2, "z", "zz", ended)]).is_empty());
    // It hides nothing that is elsewhere, and what is newer does not keep it.
    assert_eq!(removed(&[(1, "a", "y", never), (2, "z", "zz", ended)]), [2]);
    assert_eq!(removed(&[(1, "z", "zz", ended), (2, "a", "z", never)]), [1]);
    // What stays keeps what is over it, and that in turn.
    let chain = [(1, "a", "c", never), (2, "c", "e", ended), (3, "e", "g", ended)];
    assert!(removed(&chain).is_empty());
    let chain = [(1, "a", "c", ended), (2, "c", "e", ended), (3, "e", "g", ended)];
    assert_eq!(removed(&chain), [3, 2, 1]);
}

/// Against the rule, word for word: over tables with several to a run.
#[test]
fn what_is_removed_hides_nothing_and_is_all_that_can_be() {
    let mut gone = 0;
    for seed in 0..500 {
        let mut random = random(seed);
        let mut tables: Vec<TableMetadata> = Vec::new();
        for run in 1..=1 + random.below(8) {
            let mut bounds: Vec<u64> = (0..2 + random.below(8)).map(|_| random.below(26)).collect();
            bounds.sort_unstable();
            bounds.dedup();
            for pair in bounds.chunks_exact(2) {
                let key = |at: u64| char::from(b'a' + at as u8).to_string();
                tables.push(TableMetadata {
                    level: 0,
                    run,
                    is_largest_excluded: random.below(3) == 0,
                    ends_at_ms: (random.below(8) > 0).then(|| random.below(130)),
                    ..table(1, 1 + tables.len() as u64, &key(pair[0]), &key(pair[1]))
                });
            }
        }
        let options = FifoOptions { runs: 64, ..FIFO };
        let pick = pick_fifo(&keyspace_of(TTL, tables.clone()), &options, 100);
        let removed: Vec<u64> =
            pick.iter().flat_map(Pick::tables).map(|table| table.number).collect();
        gone += removed.len();
        let stays = |table: &TableMetadata| !removed.contains(&table.number);
        for table in &tables {
            let has_ended = table.ends_at_ms.is_some_and(|ends| ends <= 100);
            let hides = tables.iter().any(|older| {
                older.run < table.run
                    && stays(older)
                    && !older.is_before(table)
                    && !table.is_before(older)
            });
            assert_eq!(!stays(table), has_ended && !hides, "seed {seed}: {table:?} of {tables:?}");
        }
    }
    assert!(gone > 500, "{gone} were removed");
}
