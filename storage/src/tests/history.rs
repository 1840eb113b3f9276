//! What a table is to hold: the model that it is compared with.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use woodchuck_io::RandomStream;

use crate::Kind;

/// Newer first; in one commit, the kind with the greater number first. Written down once more, and
/// not taken from the code that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) sequence: u64,
    pub(super) kind: Kind,
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sequence = other.sequence.cmp(&self.sequence);
        let rank = |kind: Kind| Kind::ALL.iter().position(|&of| of == kind);
        by_sequence.then(rank(other.kind).cmp(&rank(self.kind)))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) type Key = (Vec<u8>, Version);
pub(super) type Value = (Option<u64>, Vec<u8>);

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) entries: BTreeMap<Key, Value>,
    /// Start, end, commit.
    pub(super) tombstones: Vec<(Vec<u8>, Vec<u8>, u64)>,
}

pub(super) const SEQUENCES: u64 = 60;

/// A key of few bytes, with much in common with others, or hardly anything.
pub(super) fn draw_key(random: &mut RandomStream) -> Vec<u8> {
    let mut key = Vec::new();
    if random.below(3) > 0 {
        key.extend_from_slice([&b"topic/"[..], b"topics/user-", b"t"][random.below(3) as usize]);
    }
    for _ in 0..random.below(5) {
        key.push([0, b'/', b'a', b'b', 0xfe, 0xff][random.below(6) as usize]);
    }
    if random.below(50) == 0 {
        key.resize(key.len() + random.below(3000) as usize, b'l');
    }
    key
}

impl History {
    /// Entries of all kinds, several of one key among them, with values of most lengths.
    pub(super) fn draw(random: &mut RandomStream, entries: usize) -> Self {
        let mut history = Self::default();
        while history.entries.len() < entries {
            let user_key = draw_key(random);
            for _ in 0..=random.below(4) * random.below(4) {
                let kind = Kind::ALL[random.below(5) as usize];
                let sequence =
                    if random.below(20) == 0 { random.next_u64() } else { random.below(SEQUENCES) };
                let expiry = (kind == Kind::ExpiringValue).then(|| random.below(1 << 50));
                let longest = [1, 10, 100, 100, 6000][random.below(5) as usize];
                let length = if kind == Kind::Deletion { 0 } else { random.below(longest) };
                let mut value = vec![b'v'; length as usize];
                random.fill(&mut value[..length as usize / 2]);
                let version = Version { sequence, kind };
                history.entries.insert((user_key.clone(), version), (expiry, value));
            }
        }
        history.draw_tombstones(random);
        history
    }

    fn draw_tombstones(&mut self, random: &mut RandomStream) {
        let mut bounds: Vec<Vec<u8>> = (0..random.below(20)).map(|_| draw_key(random)).collect();
        bounds.sort();
        bounds.dedup();
        for pair in bounds.windows(2) {
            let mut sequences: Vec<u64> =
                (0..random.below(4)).map(|_| random.below(SEQUENCES)).collect();
            sequences.sort_by(|one, other| other.cmp(one));
            sequences.dedup();
            for sequence in sequences {
                self.tombstones.push((pair[0].clone(), pair[1].clone(), sequence));
            }
        }
    }

    /// Cuts range tombstones where they begin and end, as a table wants them.
    pub(super) fn cut_tombstones(&mut self) {
        let bounds = self.tombstones.iter().flat_map(|(start, end, _)| [start, end]).cloned();
        let mut bounds: Vec<Vec<u8>> = bounds.collect();
        bounds.sort();
        bounds.dedup();
        let mut cut = Vec::new();
        for pair in bounds.windows(2) {
            let over = self
                .tombstones
                .iter()
                .filter(|(start, end, _)| *start <= pair[0] && pair[1] <= *end);
            let mut sequences: Vec<u64> = over.map(|(.., sequence)| *sequence).collect();
            sequences.sort_by(|one, other| other.cmp(one));
            sequences.dedup();
            let of_pair = |sequence| (pair[0].clone(), pair[1].clone(), sequence);
            cut.extend(sequences.into_iter().map(of_pair));
        }
        self.tombstones = cut;
    }

    /// A history of numbered keys, for tests that want to know what is where.
    pub(super) fn numbered(entries: u32, value_bytes: usize) -> Self {
        let mut history = Self::default();
        for number in 0..entries {
            let version = Version { sequence: 100 + u64::from(number), kind: Kind::Value };
            let value = (0..value_bytes)
                .map(|at| number.wrapping_mul(31).wrapping_add(at as u32 * 7) as u8);
            history.entries.insert((numbered_key(number), version), (None, value.collect()));
        }
        history
    }

    /// The newest entry of a key up to a commit.
    pub(super) fn newest(&self, user_key: &[u8], snapshot: u64) -> Option<(Version, &Value)> {
        self.entries
            .iter()
            .find(|((key, version), _)| key == user_key && version.sequence <= snapshot)
            .map(|((_, version), value)| (*version, value))
    }

    /// The newest range tombstone over a key up to a commit.
    pub(super) fn tombstone_over(&self, user_key: &[u8], snapshot: u64) -> Option<u64> {
        let over = self.tombstones.iter().filter(|(start, end, sequence)| {
            start.as_slice() <= user_key && user_key < end.as_slice() && *sequence <= snapshot
        });
        over.map(|(.., sequence)| *sequence).max()
    }
}

pub(super) fn numbered_key(number: u32) -> Vec<u8> {
    format!("key-{number:08}").into_bytes()
}
