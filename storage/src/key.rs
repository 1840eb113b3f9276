//! Internal keys: what a table sorts by.
//!
//! A version of a user key is told from the others by the commit that made it. Newer versions come
//! first, so that the one which a snapshot sees is the first at or behind `(user key, snapshot)`.

use std::cmp::Ordering;

/// What an entry says of its key.
///
/// Within one commit, a merge operand stands in front of the value or deletion that it applies to.
/// Two entries of one key, commit and kind cannot be: who makes a commit puts them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The key is not there.
    Deletion,
    /// The key has this value.
    Value,
    /// The key has this value up to a time.
    ExpiringValue,
    /// The key has a value that stands elsewhere; here is where.
    SeparatedValue,
    /// The key has what a merge operator makes of this operand and of what the key had before.
    Merge,
    /// No key from the entry's key up to its value, excluding that, is there. Stands in a block of
    /// its own, never between other entries.
    RangeDeletion,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Deletion,
        Self::Value,
        Self::ExpiringValue,
        Self::SeparatedValue,
        Self::Merge,
        Self::RangeDeletion,
    ];

    /// Its number in the format.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Deletion => 1,
            Self::Value => 2,
            Self::ExpiringValue => 3,
            Self::SeparatedValue => 4,
            Self::Merge => 5,
            Self::RangeDeletion => 6,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Deletion),
            2 => Some(Self::Value),
            3 => Some(Self::ExpiringValue),
            4 => Some(Self::SeparatedValue),
            5 => Some(Self::Merge),
            6 => Some(Self::RangeDeletion),
            _ => None,
        }
    }
}

/// What comes behind the user key in an internal key: newer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The commit: later ones have greater numbers.
    pub(crate) sequence: u64,
    /// Number of the kind, or 0 or 255 in a bound.
    pub(crate) kind: u8,
}

impl Version {
    /// In front of all versions that a snapshot sees.
    pub(crate) const fn seen_by(snapshot: u64) -> Self {
        Self { sequence: snapshot, kind: u8::MAX }
    }

    /// In front of all versions.
    pub(crate) const FIRST: Self = Self::seen_by(u64::MAX);

    /// Behind all versions.
    pub(crate) const LAST: Self = Self { sequence: 0, kind: 0 };
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.sequence, other.kind).cmp(&(self.sequence, self.kind))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An internal key, borrowed. The derived order is that of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InternalKey<'a> {
    pub(crate) user_key: &'a [u8],
    pub(crate) version: Version,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key as the user knows it.
    pub user_key: &'a [u8],
    /// The commit that made it: later ones have greater numbers.
    pub sequence: u64,
    /// What it says of the key.
    pub kind: Kind,
    /// When the value ends, in milliseconds since 1970; there exactly if the kind is
    /// [`Kind::ExpiringValue`].
    pub expires_at_ms: Option<u64>,
    /// The value, the operand, where the value stands, or nothing.
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) const fn internal_key(&self) -> InternalKey<'a> {
        let version = Version { sequence: self.sequence, kind: self.kind.number() };
        InternalKey { user_key: self.user_key, version }
    }
}

/// How many bytes two keys have in common at their beginning.
pub(crate) fn shared_bytes(one: &[u8], other: &[u8]) -> usize {
    // Eight bytes at a time: keys of one block have much in common.
    let words = one.chunks_exact(8).zip(other.chunks_exact(8));
    let same = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[same..].iter().zip(&other[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

/// Puts a short bound into `bytes`: at or behind `last`, and in front of `next`, where there is
/// one. Returns its version. The fewer bytes, the more blocks a partition of the index tells of.
pub(crate) fn separator(
    last: InternalKey<'_>,
    next: Option<InternalKey<'_>>,
    bytes: &mut Vec<u8>,
) -> Version {
    bytes.clear();
    let Some(next) = next else {
        bytes.extend_from_slice(last.user_key);
        return Version::LAST;
    };
    assert!(last < next, "keys are added in order");
    if last.user_key == next.user_key {
        bytes.extend_from_slice(last.user_key);
        return last.version;
    }
    let shared = shared_bytes(last.user_key, next.user_key);
    // A proper beginning of the next key is in front of it, and one that goes past what the two
    // have in common is behind the last key.
    let is_proper = shared < last.user_key.len() && shared + 1 < next.user_key.len();
    let from = if is_proper { &next.user_key[..=shared] } else { last.user_key };
    bytes.extend_from_slice(from);
    Version::LAST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user_key: &[u8], sequence: u64) -> InternalKey<'_> {
        InternalKey { user_key, version: Version { sequence, kind: Kind::Value.number() } }
    }

    #[test]
    fn newer_versions_come_first_and_operands_before_what_they_apply_to() {
        let put = key(b"k", 7);
        let merge = InternalKey { version: Version { sequence: 7, kind: 5 }, ..put };
        let sorted = [
            InternalKey { version: Version::FIRST, ..put },
            key(b"k", 8),
            InternalKey { version: Version::seen_by(7), ..put },
            merge,
            put,
            key(b"k", 6),
            InternalKey { version: Version::LAST, ..put },
            key(b"k\0", 9),
        ];
        assert!(sorted.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn separators_separate() {
        let keys: Vec<Vec<u8>> = (0..4_u32)
            .flat_map(|length| {
                (0..4_u32.pow(length)).map(move |number| {
                    let digit = |place| [0, 1, 254, 255][(number / 4_u32.pow(place) % 4) as usize];
                    (0..length).map(digit).collect()
                })
            })
            .collect();
        let mut bytes = Vec::new();
        for last in &keys {
            for next in &keys {
                for (last, next) in [(key(last, 5), key(next, 9)), (key(last, 5), key(next, 4))] {
                    if last >= next {
                        continue;
                    }
                    let version = separator(last, Some(next), &mut bytes);
                    let found = InternalKey { user_key: &bytes, version };
                    assert!(last <= found && found < next, "{last:?} {found:?} {next:?}");
                    assert!(bytes.len() <= last.user_key.len().max(next.user_key.len()));
                }
            }
        }
        assert_eq!(
            separator(key(b"user/1234/a", 5), Some(key(b"user/2000/z", 5)), &mut bytes),
            Version::LAST
        );
        assert_eq!(bytes, b"user/2");
    }

    #[test]
    fn shared_beginnings_are_counted_to_the_byte() {
        let long = [7_u8; 40];
        for shared in 0..40 {
            let mut other = long;
            other[shared] = 9;
            assert_eq!(shared_bytes(&long, &other), shared);
            assert_eq!(shared_bytes(&long[..shared], &other), shared);
        }
    }
}
