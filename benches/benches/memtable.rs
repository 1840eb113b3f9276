//! The memtable beside the standard library's `BTreeMap`, on one core and without a disk.
//!
//! 500,000 entries with keys of 16 bytes and values of 100: in order, all over, and all over behind 12
//! bytes that all keys share. The map has the same order: its keys are the user key, then the
//! sequence and the kind, so turned round that newer ones come first. What is measured of each:
//!
//! - **insert** all entries, copied from the caller's memory;
//! - **read** all keys in another order, at a snapshot: the value is looked at where it stands;
//! - **get** the same, but the value is handed out as `Bytes`, to outlive the structure;
//! - **scan** all entries forwards, and **back**, looking at keys and values;
//! - **drop** it all, on the thread that has other things to do;
//! - the **memory** that the process has more than before.
//!
//! `taskset -c 1 cargo bench -p woodchuck-benches --bench memtable` prints the table of
//! `docs/measurements.md`. Every measurement runs in a process of its own, and the two take turns.
//! `WOODCHUCK_BENCH_ROUNDS` sets how many (7), `WOODCHUCK_BENCH_CASE` picks one kind of keys, counted
//! from 0, `WOODCHUCK_BENCH_ENTRIES` sets how many entries, `WOODCHUCK_BENCH_VALUE` how long values
//! are.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;
use std::time::Instant;

use bytes::Bytes;
use woodchuck_benches::{by_turns, in_own_process, median, number};
use woodchuck_storage::{Bounds, Entry, Kind, Memtable};

const KEY_BYTES: usize = 16;
const CASES: [&str; 3] = ["in order", "all over", "all over, behind 12 bytes"];
const FIGURES: [&str; 7] = ["insert", "read", "get", "scan", "back", "drop", "memory"];

type Key = [u8; KEY_BYTES];
type Figures = [f64; FIGURES.len()];

/// What is measured of either.
trait Subject: Default {
    fn insert(&mut self, key: &Key, sequence: u64, value: &[u8]);
    /// Looks at the value that a key has.
    fn read(&self, key: &Key) -> u64;
    fn get(&self, key: &Key) -> Bytes;
    /// Looks at all keys and values.
    fn scan(&self) -> u64;
    fn back(&self) -> u64;
}

/// So that nothing is left out that a reader would do: the first and the last byte.
fn look(bytes: &[u8]) -> u64 {
    u64::from(bytes.first().copied().unwrap_or(0)) + u64::from(bytes.last().copied().unwrap_or(0))
}

#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

/// What stands behind the user key.
const TRAILER_BYTES: usize = 9;

fn internal_key(key: &Key, sequence: u64, kind: u8) -> [u8; KEY_BYTES + TRAILER_BYTES] {
    let mut bytes = [0; KEY_BYTES + TRAILER_BYTES];
    bytes[..KEY_BYTES].copy_from_slice(key);
    bytes[KEY_BYTES..KEY_BYTES + 8].copy_from_slice(&(!sequence).to_be_bytes());
    bytes[KEY_BYTES + 8] = !kind;
    bytes
}

impl Map {
    fn newest(&self, key: &Key) -> &[u8] {
        let first = internal_key(key, u64::MAX, u8::MAX);
        let mut behind = self.0.range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded));
        let (found, value) = behind.next().expect("the key is there");
        assert_eq!(found[..KEY_BYTES], key[..]);
        value
    }
}

impl Subject for Map {
    fn insert(&mut self, key: &Key, sequence: u64, value: &[u8]) {
        self.0.insert(internal_key(key, sequence, 2).to_vec(), value.to_vec());
    }

    fn read(&self, key: &Key) -> u64 {
        look(self.newest(key))
    }

    fn get(&self, key: &Key) -> Bytes {
        Bytes::copy_from_slice(self.newest(key))
    }

    fn scan(&self) -> u64 {
        self.0.iter().map(|(key, value)| look(key) + look(value)).sum()
    }

    fn back(&self) -> u64 {
        self.0.iter().rev().map(|(key, value)| look(key) + look(value)).sum()
    }
}

impl Subject for Memtable {
    fn insert(&mut self, user_key: &Key, sequence: u64, value: &[u8]) {
        let (kind, expires_at_ms) = (Kind::Value, None);
        Self::insert(self, &Entry { user_key, sequence, kind, expires_at_ms, value });
    }

    fn read(&self, key: &Key) -> u64 {
        let mut seen = 0;
        let flow = Self::read(self, key, u64::MAX, |entry| seen = look(entry.value));
        assert!(flow.is_break(), "the key is there");
        seen
    }

    fn get(&self, key: &Key) -> Bytes {
        Self::get(self, key, u64::MAX).expect("the key is there").value
    }

    fn scan(&self) -> u64 {
        let (mut cursor, mut seen) = (self.cursor(Bounds::all()), 0);
        cursor.seek_to_first();
        while let Some(entry) = cursor.entry() {
            seen += look(entry.user_key) + look(entry.value);
            cursor.next();
        }
        seen
    }

    fn back(&self) -> u64 {
        let (mut cursor, mut seen) = (self.cursor(Bounds::all()), 0);
        cursor.seek_to_last();
        while let Some(entry) = cursor.entry() {
            seen += look(entry.user_key) + look(entry.value);
            cursor.prev();
        }
        seen
    }
}

/// Any number, another for each.
const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn key(case: usize, number: u64) -> Key {
    let mut key = *b"tenant/7/obj\0\0\0\0";
    match case {
        0 => key[8..].copy_from_slice(&number.to_be_bytes()),
        1 => {
            key[..8].copy_from_slice(&scramble(number).to_be_bytes());
            key[8..].copy_from_slice(&number.to_be_bytes());
        }
        // An odd factor, so that no two are the same.
        _ => key[12..].copy_from_slice(&(number as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()),
    }
    key
}

/// Pages that the process has in memory, in bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the kernel tells");
    let pages = text.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok());
    pages.expect("it has this form") * 4096.0
}

fn measure<S: Subject>(case: usize) -> Figures {
    let entries = number("WOODCHUCK_BENCH_ENTRIES", 500_000) as u64;
    let mut value = vec![0x5a; number("WOODCHUCK_BENCH_VALUE", 100)];
    let keys: Vec<Key> = (0..entries).map(|number| key(case, number)).collect();
    let mut asked = keys.clone();
    for at in (1..asked.len()).rev() {
        asked.swap(at, (scramble(at as u64 + entries) % (at as u64 + 1)) as usize);
    }
    let each = |began: Instant| began.elapsed().as_secs_f64() * 1e9 / entries as f64;

    let before = resident();
    let mut subject = S::default();
    let began = Instant::now();
    for (sequence, key) in keys.iter().enumerate() {
        value[0] = sequence as u8;
        subject.insert(key, 1 + sequence as u64, &value);
    }
    let insert = each(began);
    let memory = (resident() - before) / entries as f64;
    let began = Instant::now();
    black_box(asked.iter().map(|key| subject.read(key)).sum::<u64>());
    let read = each(began);
    let began = Instant::now();
    asked.iter().for_each(|key| drop(black_box(subject.get(key))));
    let get = each(began);
    let began = Instant::now();
    black_box(subject.scan());
    let scan = each(began);
    let began = Instant::now();
    black_box(subject.back());
    let back = each(began);
    let began = Instant::now();
    drop(subject);
    [insert, read, get, scan, back, each(began), memory]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, case, way] = &arguments[..]
        && flag == "--measure"
    {
        let case = case.parse().expect("a number");
        let figures = if way == "0" { measure::<Map>(case) } else { measure::<Memtable>(case) };
        figures.iter().for_each(|figure| print!("{figure} "));
        return;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let rounds = number("WOODCHUCK_BENCH_ROUNDS", 7).max(1);
    let chosen = number("WOODCHUCK_BENCH_CASE", CASES.len());
    println!(
        "| keys | what | BTreeMap | memtable | ratio (least to most) |\n|---|---|---|---|---|"
    );
    for (case, name) in CASES.iter().enumerate() {
        if chosen != case && chosen < CASES.len() {
            continue;
        }
        let measured = by_turns(&[0, 1], rounds, |way| {
            let numbers = in_own_process(&["--measure", &case.to_string(), &way.to_string()]);
            Figures::try_from(numbers).expect("one of each")
        });
        for (at, what) in FIGURES.iter().enumerate() {
            let of = |way: usize| median(measured[way].iter().map(|figures| figures[at]));
            let ratios =
                || measured[0].iter().zip(&measured[1]).map(|(map, ours)| ours[at] / map[at]);
            let unit = if *what == "memory" { "bytes" } else { "ns" };
            println!(
                "| {name} | {what}, {unit} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) |",
                of(0),
                of(1),
                median(ratios()),
                ratios().fold(f64::INFINITY, f64::min),
                ratios().fold(0.0, f64::max)
            );
        }
    }
}
