//! Choosing: a function of the seed, the site, the node and a count, and of nothing else.

use std::collections::BTreeMap;

use crate::limits::{CHOICE_RANGE, DENSE_NODES};
use crate::site::Site;
use crate::tape::{ChoiceName, Tape};

/// Scrambles a number so that each bit of the result depends on all of the input (the finaliser of
/// `SplitMix64`, by Steele, Lea and Flood, 2014).
pub(crate) const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Makes all choices of a world, and remembers those that were not 0.
pub(crate) struct Chooser {
    seed: u64,
    /// Whether choices come from a tape instead of the seed.
    replaying: bool,
    /// Whether choices are remembered.
    recording: bool,
    sites: Vec<SiteChoices>,
    made: u64,
}

#[derive(Default)]
struct SiteChoices {
    dense: Vec<NodeChoices>,
    sparse: BTreeMap<u32, NodeChoices>,
}

/// The choices of one node at one site.
#[derive(Default)]
struct NodeChoices {
    count: u32,
    /// Choices that were not 0, as (count, value), ascending.
    recorded: Vec<(u32, u32)>,
    /// Choices to be made when replaying, as (count, value), ascending; `played` of them passed.
    given: Vec<(u32, u32)>,
    played: usize,
}

impl NodeChoices {
    /// The value a tape holds for the current count, or 0.
    fn replayed(&mut self) -> u64 {
        while let Some(&(count, value)) = self.given.get(self.played) {
            if count > self.count {
                break;
            }
            self.played += 1;
            if count == self.count {
                return u64::from(value);
            }
        }
        0
    }
}

impl Chooser {
    pub(crate) fn new(seed: u64, tape: Option<&Tape>, recording: bool) -> Self {
        let mut chooser = Self {
            seed: scramble(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)),
            replaying: tape.is_some(),
            recording,
            sites: Site::ALL.iter().map(|_| SiteChoices::default()).collect(),
            made: 0,
        };
        for (name, value) in tape.into_iter().flat_map(Tape::iter) {
            // A tape is ordered by site, node and count, so each list comes out ascending.
            chooser.node(name.site, name.node).given.push((name.count, value as u32));
        }
        chooser
    }

    fn node(&mut self, site: Site, node: u32) -> &mut NodeChoices {
        let choices = &mut self.sites[site as usize];
        if node >= DENSE_NODES {
            return choices.sparse.entry(node).or_default();
        }
        if choices.dense.len() <= node as usize {
            choices.dense.resize_with(node as usize + 1, NodeChoices::default);
        }
        &mut choices.dense[node as usize]
    }

    /// Lets `pick` turn 64 scrambled bits into a value below `range`, unless a tape says it.
    fn decide(&mut self, site: Site, node: u32, range: u64, pick: impl Fn(u64) -> u64) -> u64 {
        assert!(range > 0 && range <= CHOICE_RANGE, "a choice among {range} at {}", site.name());
        self.made += 1;
        let (seed, replaying, recording) = (self.seed, self.replaying, self.recording);
        let choices = self.node(site, node);
        let value = if replaying {
            choices.replayed().min(range - 1)
        } else {
            let place = u64::from(node).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let stream = seed ^ site.stream() ^ place;
            pick(scramble(scramble(stream).wrapping_add(u64::from(choices.count))))
        };
        if value != 0 && recording {
            choices.recorded.push((choices.count, value as u32));
        }
        choices.count = choices.count.checked_add(1).expect("fewer than 2^32 choices of a kind");
        value
    }

    /// A number below `range`; 0 is the harmless one.
    pub(crate) fn choose(&mut self, site: Site, node: u32, range: u64) -> u64 {
        self.decide(site, node, range, |bits| ((u128::from(bits) * u128::from(range)) >> 64) as u64)
    }

    /// Whether something happens that happens `per_million` times in a million.
    pub(crate) fn chance(&mut self, site: Site, node: u32, per_million: u32) -> bool {
        self.decide(site, node, 2, |bits| {
            let drawn = (u128::from(bits) * 1_000_000) >> 64;
            u64::from(drawn < u128::from(per_million))
        }) == 1
    }

    /// How many choices were made.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// The choices that were not 0.
    pub(crate) fn tape(&self, seed: u64) -> Tape {
        assert!(self.recording, "this world was told not to record its choices");
        let mut tape = Tape::new(seed);
        for (&site, choices) in Site::ALL.iter().zip(&self.sites) {
            let dense = choices.dense.iter().enumerate().map(|(node, made)| (node as u32, made));
            let sparse = choices.sparse.iter().map(|(&node, made)| (node, made));
            for (node, made) in dense.chain(sparse) {
                for &(count, value) in &made.recorded {
                    tape.set(ChoiceName { site, node, count }, u64::from(value));
                }
            }
        }
        tape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(chooser: &mut Chooser, site: Site, node: u32) -> Vec<u64> {
        (0..100).map(|_| chooser.choose(site, node, 1000)).collect()
    }

    #[test]
    fn one_site_or_node_never_moves_another() {
        let mut alone = Chooser::new(1, None, true);
        let expected = draws(&mut alone, Site::Task, 5);
        let mut crowded = Chooser::new(1, None, true);
        draws(&mut crowded, Site::Task, 4);
        draws(&mut crowded, Site::DiskLatency, 5);
        draws(&mut crowded, Site::Task, 1 << 20);
        assert_eq!(draws(&mut crowded, Site::Task, 5), expected);
        assert_ne!(draws(&mut Chooser::new(2, None, true), Site::Task, 5), expected);
        assert_ne!(draws(&mut alone, Site::Task, 6), expected);
    }

    #[test]
    fn a_tape_overrides_and_is_silent_elsewhere() {
        let mut tape = Tape::new(1);
        tape.set(ChoiceName { site: Site::Task, node: 5, count: 2 }, 7);
        tape.set(ChoiceName { site: Site::Task, node: 5, count: 3 }, 70);
        tape.set(ChoiceName { site: Site::Plan, node: 5, count: 900 }, 1);
        let mut chooser = Chooser::new(1, Some(&tape), true);
        let values: Vec<u64> = (0..5).map(|_| chooser.choose(Site::Task, 5, 10)).collect();
        assert_eq!(values, [0, 0, 7, 9, 0], "a value beyond the range is cut to it");
    }

    #[test]
    fn a_recorded_tape_repeats_every_choice() {
        let mut first = Chooser::new(9, None, true);
        let mut drawn = draws(&mut first, Site::Task, 1);
        drawn.extend((0..100).map(|_| u64::from(first.chance(Site::NetReset, 2000, 100_000))));
        let mut second = Chooser::new(9, Some(&first.tape(9)), true);
        let mut again = draws(&mut second, Site::Task, 1);
        again.extend((0..100).map(|_| u64::from(second.chance(Site::NetReset, 2000, 100_000))));
        assert_eq!(drawn, again);
        assert_eq!(first.tape(9), second.tape(9));
        assert!(drawn[100..].contains(&1), "one in ten happened in a hundred");
    }

    #[test]
    fn choices_are_even() {
        let mut chooser = Chooser::new(3, None, true);
        let mut seen = [0_u32; 4];
        for _ in 0..4000 {
            seen[chooser.choose(Site::Task, 0, 4) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
    }
}
