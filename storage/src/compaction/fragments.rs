//! Range tombstones of several sources, cut where they begin and end.

use std::collections::BTreeMap;

use crate::RangeTombstone;

/// Range tombstones over the same keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) start: Vec<u8>,
    /// Behind the last key.
    pub(super) end: Vec<u8>,
    /// Their commits, newest first; one at least.
    pub(super) sequences: Vec<u64>,
}

/// Range tombstones, in any order, as fragments, in the order of keys, which do not overlap.
pub(super) fn fragments(tombstones: &[RangeTombstone]) -> Vec<Fragment> {
    // At each bound, which tombstones begin (+1) and end (-1).
    let mut bounds: BTreeMap<&[u8], Vec<(u64, isize)>> = BTreeMap::new();
    for RangeTombstone { start, end, sequence } in tombstones {
        bounds.entry(start).or_default().push((*sequence, 1));
        bounds.entry(end).or_default().push((*sequence, -1));
    }
    let mut active: BTreeMap<u64, isize> = BTreeMap::new();
    let mut fragments: Vec<Fragment> = Vec::new();
    let mut bounds = bounds.into_iter().peekable();
    while let Some((start, changes)) = bounds.next() {
        for (sequence, by) in changes {
            *active.entry(sequence).or_default() += by;
        }
        active.retain(|_, count| *count > 0);
        let Some(&(end, _)) = bounds.peek() else { break };
        let sequences: Vec<u64> = active.keys().rev().copied().collect();
        match fragments.last_mut() {
            _ if sequences.is_empty() => {}
            Some(last) if last.end == start && last.sequences == sequences => {
                last.end = end.to_vec();
            }
            _ => fragments.push(Fragment { start: start.to_vec(), end: end.to_vec(), sequences }),
        }
    }
    fragments
}

/// The fragment over a key, if there is one.
pub(super) fn over<'a>(fragments: &'a [Fragment], key: &[u8]) -> Option<&'a Fragment> {
    let at = fragments.partition_point(|fragment| fragment.end.as_slice() <= key);
    fragments.get(at).filter(|fragment| fragment.start.as_slice() <= key)
}
