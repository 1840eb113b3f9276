//! Reading a batch where its bytes stand. `batch` has the format and the numbered conditions.

use std::iter::FusedIterator;

use super::{BatchError, VERSION};
use crate::Entry;
use crate::key::Kind;
use crate::limits::{BATCH_BYTES, BATCH_ENTRIES, KEY_BYTES, VALUE_BYTES};
use crate::operands::Operands;
use crate::varint::varint;

/// A batch that was found whole, in the bytes that encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
    keyspaces: u64,
    entries: usize,
}

impl<'a> BatchView<'a> {
    /// The batch that these bytes are. Looks at all of them, and allocates nothing.
    ///
    /// # Errors
    /// `Malformed`, `WrongVersion`, `Full`: any bytes at all give a batch or an error.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_BYTES {
            return Err(BatchError::Full { what: "bytes", limit: BATCH_BYTES });
        }
        let malformed = |offset, what| BatchError::Malformed { offset, what };
        let (&version, rest) = bytes.split_first().ok_or(malformed(0, "it is empty"))?;
        if version != VERSION {
            return Err(BatchError::WrongVersion { found: version, supported: VERSION });
        }
        let (keyspaces, taken) =
            varint(rest).ok_or(malformed(1, "there is no number of keyspaces"))?;
        let bytes_behind = &rest[taken..];
        let mut view = Self { bytes: bytes_behind, keyspaces, entries: 0 };
        let mut check = Check::new(view.steps());
        loop {
            match check.step() {
                Ok(true) => view.entries += 1,
                Ok(false) => return Ok(view),
                Err(what) => return Err(malformed(bytes.len() - check.steps.rest.len(), what)),
            }
            if view.entries > BATCH_ENTRIES {
                return Err(BatchError::Full { what: "entries", limit: BATCH_ENTRIES });
            }
        }
    }

    /// How many entries there are, range deletions among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Each entry with its keyspace, as an entry of this sequence. Keyspaces ascend; of each the
    /// range deletions come first, where the value is the range's end, then the points, in the
    /// order of internal keys.
    #[must_use]
    pub const fn entries(&self, sequence: u64) -> BatchEntries<'a> {
        BatchEntries { steps: self.steps(), sequence }
    }

    const fn steps(&self) -> Steps<'a> {
        let (rest, keyspaces) = (self.bytes, self.keyspaces);
        Steps { rest, keyspaces, keyspace: 0, ranges: 0, points: 0 }
    }
}

/// The entries of a batch.
#[derive(Clone, Debug)]
pub struct BatchEntries<'a> {
    steps: Steps<'a>,
    sequence: u64,
}

impl<'a> Iterator for BatchEntries<'a> {
    type Item = (u64, Entry<'a>);

    fn next(&mut self) -> Option<(u64, Entry<'a>)> {
        let item = loop {
            match self.steps.step().expect("each entry was looked at") {
                Step::Keyspace => {}
                Step::Item(item) => break item,
                Step::End => return None,
            }
        };
        let Item { kind, user_key, expires_at_ms, value } = item;
        let sequence = self.sequence;
        Some((self.steps.keyspace, Entry { user_key, sequence, kind, expires_at_ms, value }))
    }
}

impl FusedIterator for BatchEntries<'_> {}

/// Goes over the bytes of a batch.
#[derive(Clone, Debug)]
struct Steps<'a> {
    rest: &'a [u8],
    /// How many there are behind this keyspace.
    keyspaces: u64,
    keyspace: u64,
    /// How many ranges and points of this keyspace are still to come.
    ranges: u64,
    points: u64,
}

/// A range, whose start is the key and whose end is the value, or a point.
#[derive(Clone, Copy)]
struct Item<'a> {
    kind: Kind,
    user_key: &'a [u8],
    expires_at_ms: Option<u64>,
    value: &'a [u8],
}

enum Step<'a> {
    /// A keyspace begins.
    Keyspace,
    Item(Item<'a>),
    End,
}

impl<'a> Steps<'a> {
    fn step(&mut self) -> Result<Step<'a>, &'static str> {
        if self.ranges > 0 {
            self.ranges -= 1;
            let (user_key, value) = (self.string()?, self.string()?);
            let kind = Kind::RangeDeletion;
            return Ok(Step::Item(Item { kind, user_key, expires_at_ms: None, value }));
        }
        if self.points > 0 {
            self.points -= 1;
            return self.point().map(Step::Item);
        }
        if self.keyspaces > 0 {
            self.keyspaces -= 1;
            self.keyspace = self.number()?;
            self.ranges = self.number()?;
            self.points = self.number()?;
            return Ok(Step::Keyspace);
        }
        Ok(Step::End)
    }

    fn point(&mut self) -> Result<Item<'a>, &'static str> {
        let (&number, rest) = self.rest.split_first().ok_or("a point is missing")?;
        let kind = Kind::from_number(number).ok_or("no kind has this number")?;
        if matches!(kind, Kind::RangeDeletion | Kind::SeparatedValue) {
            return Err("a point is not of this kind");
        }
        self.rest = rest;
        let user_key = self.string()?;
        let mut expires_at_ms = None;
        if kind == Kind::ExpiringValue {
            let (expiry, rest) = self.rest.split_first_chunk().ok_or("a time is cut short")?;
            (expires_at_ms, self.rest) = (Some(u64::from_le_bytes(*expiry)), rest);
        }
        let value = if kind == Kind::Deletion { &[] } else { self.string()? };
        Ok(Item { kind, user_key, expires_at_ms, value })
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let (number, taken) = varint(self.rest).ok_or("there is no number")?;
        self.rest = &self.rest[taken..];
        Ok(number)
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let bytes = self.number()?;
        let parts = usize::try_from(bytes).ok().and_then(|bytes| self.rest.split_at_checked(bytes));
        let (string, rest) = parts.ok_or("a key or value goes past the end")?;
        self.rest = rest;
        Ok(string)
    }
}

/// Goes over bytes that nobody has looked at.
struct Check<'a> {
    steps: Steps<'a>,
    /// Where the ranges of the keyspace are read once more, beside its points.
    ranges: Steps<'a>,
    /// The range that was read last there.
    range: Option<(&'a [u8], &'a [u8])>,
    keyspace: Option<u64>,
    /// Of the last range of the keyspace.
    end: Option<&'a [u8]>,
    /// The last point of the keyspace.
    point: Option<(&'a [u8], Kind)>,
}

impl<'a> Check<'a> {
    fn new(steps: Steps<'a>) -> Self {
        let ranges = steps.clone();
        Self { steps, ranges, range: None, keyspace: None, end: None, point: None }
    }

    /// Checks up to the next entry. Whether there is one.
    fn step(&mut self) -> Result<bool, &'static str> {
        loop {
            match self.steps.step()? {
                Step::Keyspace => self.begin_keyspace()?,
                Step::Item(item) => {
                    self.check_item(item)?;
                    return Ok(true);
                }
                Step::End if self.steps.rest.is_empty() => return Ok(false),
                Step::End => return Err("it goes on at its end"),
            }
        }
    }

    fn begin_keyspace(&mut self) -> Checked {
        let Steps { keyspace, ranges, points, .. } = self.steps;
        if self.keyspace.is_some_and(|before| keyspace <= before) {
            return Err("a keyspace is not behind the one before");
        }
        if ranges == 0 && points == 0 {
            return Err("a keyspace has nothing");
        }
        self.ranges = Steps { keyspaces: 0, points: 0, ..self.steps.clone() };
        self.keyspace = Some(keyspace);
        (self.range, self.end, self.point) = (None, None, None);
        Ok(())
    }

    fn check_item(&mut self, item: Item<'a>) -> Checked {
        if item.user_key.len() > KEY_BYTES {
            return Err("a key is too long");
        }
        if item.kind == Kind::RangeDeletion {
            self.check_range(item)
        } else {
            self.check_point(item)
        }
    }

    fn check_range(&mut self, Item { user_key: start, value: end, .. }: Item<'a>) -> Checked {
        if end.len() > KEY_BYTES {
            return Err("a key is too long");
        }
        if start >= end {
            return Err("a range ends where it starts, or before");
        }
        if self.end.is_some_and(|before| start <= before) {
            return Err("a range meets the one before");
        }
        self.end = Some(end);
        Ok(())
    }

    fn check_point(&mut self, Item { kind, user_key, value, .. }: Item<'a>) -> Checked {
        if value.len() > VALUE_BYTES {
            return Err("a value is too long");
        }
        if kind == Kind::Merge {
            Operands::parse(value)?;
        }
        let is_behind = |(before, before_kind): (&[u8], Kind)| {
            let is_base_of_it = before_kind == Kind::Merge && kind != Kind::Merge;
            user_key > before || (user_key == before && is_base_of_it)
        };
        if !self.point.is_none_or(is_behind) {
            return Err("a point is not behind the one before");
        }
        self.point = Some((user_key, kind));
        if kind == Kind::Deletion && self.is_covered(user_key)? {
            return Err("a deletion is inside a range deletion");
        }
        Ok(())
    }

    /// Whether a range of the keyspace is over this key. Keys are asked for in order.
    fn is_covered(&mut self, user_key: &[u8]) -> Result<bool, &'static str> {
        while self.range.is_none_or(|(_, end)| end <= user_key) {
            let Step::Item(Item { user_key, value, .. }) = self.ranges.step()? else {
                return Ok(false);
            };
            self.range = Some((user_key, value));
        }
        Ok(self.range.is_some_and(|(start, _)| start <= user_key))
    }
}

/// What is wrong, if something is.
type Checked = Result<(), &'static str>;
