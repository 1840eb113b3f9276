//! The knobs: how often what goes wrong, and by how much.
//!
//! What a crash does to data is not a knob but the contract of the seam: a crash loses what it may
//! lose, as drawn from the seed. Each file here has one table of knobs; each knob has a name, what
//! it is usually set to, the range from which a swarm draws it, and a regime.
//!
//! # Regimes
//!
//! [`Budgeted`](Regime::Budgeted) faults are those that a product on one machine can survive, and
//! is expected to. [`Unrestricted`](Regime::Unrestricted) faults may stop it; then it has to say
//! so, and never give a wrong answer.
//!
//! # Swarms
//!
//! In [`Faults::swarm`] each knob is off in half of all seeds, and its magnitude is log-uniform in
//! the others: leaving kinds out finds more than always having all of them, because some hide what
//! others would show (Groce and others, *Swarm Testing*, 2012).

mod disk;
mod machine;
mod net;

use std::fmt;

pub use disk::DiskFaults;
pub use machine::MachineFaults;
pub use net::NetFaults;

use crate::choice::scramble;

/// Whom a fault may bring down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// Nobody: what runs in the world is expected to survive it.
    Budgeted,
    /// What runs in the world may stop because of it, but must not give a wrong answer.
    Unrestricted,
}

impl Regime {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Budgeted, Self::Unrestricted];

    /// A name for people and for files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budgeted => "budgeted",
            Self::Unrestricted => "unrestricted",
        }
    }

    /// The regime with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|regime| regime.name() == name)
    }
}

/// What is known of one knob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Its group and its name: `disk.slow`.
    pub name: &'static str,
    /// What it does, and in which unit.
    pub description: &'static str,
    /// Its value in [`Faults::default`].
    pub usual: u32,
    /// The least and the most that a swarm draws.
    pub range: (u32, u32),
    /// Whom it may bring down.
    pub regime: Regime,
}

impl Knob {
    /// Its value in the swarm of a seed: 0 in half of all seeds, log-uniform in the others. Depends
    /// on no other knob.
    fn draw(&self, seed: u64) -> u32 {
        let name = self.name.bytes().fold(0, |hash, byte| scramble(hash ^ u64::from(byte)));
        let bits = scramble(scramble(seed ^ 0xFA_17).wrapping_add(name));
        if bits & 1 == 0 {
            return 0;
        }
        let (least, most) = self.range;
        assert!(least > 0 && least <= most, "knob {} has no range", self.name);
        let doublings = u64::from((most / least).ilog2()) + 1;
        let least = least << ((bits >> 1) % doublings);
        let span = u64::from((least.saturating_mul(2) - 1).min(most) - least);
        least + ((bits >> 8) % (span + 1)) as u32
    }
}

/// Declares a group of knobs: for each its documentation, its field, the usual value, the range of
/// a swarm, and the regime.
macro_rules! knobs {
    (
        $(#[doc = $group_doc:literal])+
        $group:ident, $prefix:literal;
        $($(#[doc = $doc:literal])+
        $field:ident: $usual:literal, $least:literal..=$most:literal, $regime:ident;)+
    ) => {
        $(#[doc = $group_doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $group {
            $($(#[doc = $doc])+ pub $field: u32,)+
        }

        impl $group {
            /// The knobs, in the order of their fields.
            pub const KNOBS: &'static [super::Knob] = &[$(super::Knob {
                name: concat!($prefix, ".", stringify!($field)),
                description: concat!($($doc),+),
                usual: $usual,
                range: ($least, $most),
                regime: super::Regime::$regime,
            },)+];

            /// All knobs at 0.
            #[must_use]
            pub const fn none() -> Self {
                Self { $($field: 0,)+ }
            }

            pub(super) fn values(&self) -> Vec<u32> {
                vec![$(self.$field,)+]
            }

            pub(super) fn values_mut(&mut self) -> Vec<&mut u32> {
                vec![$(&mut self.$field,)+]
            }
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: $usual,)+ }
            }
        }
    };
}
pub(crate) use knobs;

/// How often what goes wrong. The default is what a healthy machine under load does: slow
/// operations, short reads and torn writes at a power cut, but no errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// With disks.
    pub disk: DiskFaults,
    /// With the network.
    pub net: NetFaults,
    /// With machines, their clocks and their cores.
    pub machine: MachineFaults,
}

impl Faults {
    /// Nothing goes wrong by itself. Crashes that a test asks for still lose what they may.
    #[must_use]
    pub const fn none() -> Self {
        Self { disk: DiskFaults::none(), net: NetFaults::none(), machine: MachineFaults::none() }
    }

    /// Budgeted faults, each off in half of all seeds and of any magnitude in the others.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        Self::drawn(|knob| if knob.regime == Regime::Budgeted { knob.draw(seed) } else { 0 })
    }

    /// As [`swarm`](Self::swarm), with the faults that may bring everything down as well.
    #[must_use]
    pub fn unrestricted(seed: u64) -> Self {
        Self::drawn(|knob| knob.draw(seed))
    }

    fn drawn(draw: impl Fn(&Knob) -> u32) -> Self {
        let mut faults = Self::none();
        for (knob, value) in Self::knobs().zip(faults.values_mut()) {
            *value = draw(knob);
        }
        faults
    }

    /// All knobs.
    pub fn knobs() -> impl Iterator<Item = &'static Knob> {
        DiskFaults::KNOBS.iter().chain(NetFaults::KNOBS).chain(MachineFaults::KNOBS)
    }

    /// All knobs with what they are set to.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Knob, u32)> {
        let values = [self.disk.values(), self.net.values(), self.machine.values()];
        Self::knobs().zip(values.into_iter().flatten())
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        let disk = self.disk.values_mut().into_iter();
        disk.chain(self.net.values_mut()).chain(self.machine.values_mut())
    }

    /// Sets the knob with this name. Returns whether there is one.
    pub fn set(&mut self, name: &str, value: u32) -> bool {
        let knob = Self::knobs().zip(self.values_mut()).find(|(knob, _)| knob.name == name);
        let found = knob.is_some();
        knob.into_iter().for_each(|(_, setting)| *setting = value);
        found
    }
}

impl fmt::Display for Faults {
    /// The knobs that are not 0, as `name=value`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (knob, value) in self.iter().filter(|&(_, value)| value > 0) {
            write!(formatter, "{separator}{}={value}", knob.name)?;
            separator = " ";
        }
        if separator.is_empty() { formatter.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        let mut names: Vec<&str> = Faults::knobs().map(|knob| knob.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let mut faults = Faults::none();
        assert!(faults.set("disk.slow", 7) && !faults.set("disk.nothing", 7));
        assert_eq!((faults.disk.slow, faults.to_string()), (7, "disk.slow=7".to_owned()));
        assert_eq!(Faults::none().to_string(), "none");
    }

    #[test]
    fn every_knob_is_documented_and_lies_in_its_range_when_on() {
        for (index, knob) in Faults::knobs().enumerate() {
            assert!(knob.description.trim().ends_with('.'), "{}", knob.name);
            let drawn: Vec<u32> = (0..400).map(|seed| knob.draw(seed)).collect();
            let off = drawn.iter().filter(|&&value| value == 0).count();
            assert!((150..250).contains(&off), "{} is off in {off} of 400 seeds", knob.name);
            let (least, most) = knob.range;
            let on = drawn.iter().filter(|&&value| value > 0);
            assert!(on.clone().all(|value| (least..=most).contains(value)), "{}", knob.name);
            if most / least >= 16 {
                let small = on.clone().filter(|&&value| value / least < 4).count();
                let large = on.clone().filter(|&&value| most / value < 4).count();
                assert!(small > 20 && large > 20, "{} is not spread evenly", knob.name);
            }
            let swarm = |seed| Faults::swarm(seed).iter().nth(index).map(|(_, value)| value);
            let expected = |seed| if knob.regime == Regime::Budgeted { knob.draw(seed) } else { 0 };
            assert!((0..20).all(|seed| swarm(seed) == Some(expected(seed))), "{}", knob.name);
        }
    }
}
