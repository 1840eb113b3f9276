//! What command lines say: scenarios, seeds, knobs and times.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use woodchuck_sim::scenario::{Recording, RunOptions, Scenario};
use woodchuck_sim::{Faults, Regime};

use super::files;
use crate::exit::Trouble;

/// The scenario that is meant where none is named.
pub(super) const DEFAULT_SCENARIO: &str = "broker";

/// How worlds are played.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct WorldArguments {
    /// Let there be faults that may stop the product, though never make it lie.
    #[arg(long)]
    pub(super) unrestricted: bool,

    /// Set a knob, whatever the seed draws. `woodchuck sim faults` names them all.
    #[arg(long = "set", value_name = "KNOB=VALUE", value_parser = parse_knob)]
    pub(super) knobs: Vec<(String, u32)>,

    /// End each world at this world time: 250ms, 1.5s, 2m.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) until: Option<Duration>,
}

impl WorldArguments {
    pub(super) const fn regime(&self) -> Regime {
        if self.unrestricted { Regime::Unrestricted } else { Regime::Budgeted }
    }
}

/// One world.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct WorldNamed {
    /// A seed, a scenario and a seed, or a file with a recording.
    #[arg(value_name = "SCENARIO SEED | FILE", num_args = 1..=2, required = true)]
    what: Vec<String>,

    #[command(flatten)]
    world: WorldArguments,
}

/// One world that is to be played.
pub(super) struct Chosen {
    pub(super) scenario: Scenario,
    pub(super) options: RunOptions,
    /// What was read, if it came from a file.
    pub(super) recording: Option<Recording>,
    /// How it is named on a command line, with what was typed besides.
    pub(super) named: String,
}

impl WorldNamed {
    /// Finds the scenario, and reads the recording if one is named.
    pub(super) fn choose(&self) -> Result<Chosen, Trouble> {
        let mut chosen = match &self.what[..] {
            [only] => match parse_seed(only) {
                Some(seed) => chosen_seed(scenario_named(DEFAULT_SCENARIO)?, seed),
                None => chosen_recording(Path::new(only))?,
            },
            [name, seed, ..] => {
                let scenario = scenario_named(name)?;
                let seed = parse_seed(seed)
                    .ok_or_else(|| Trouble::usage(format!("{seed:?} is not a seed")))?;
                chosen_seed(scenario, seed)
            }
            [] => return Err(Trouble::usage("no world is named")),
        };
        let WorldArguments { unrestricted, knobs, until } = &self.world;
        if *unrestricted {
            chosen.options.regime = Regime::Unrestricted;
        }
        chosen.options.knobs.extend(knobs.iter().cloned());
        chosen.options.until = *until;
        let typed = RunOptions { knobs: knobs.clone(), ..RunOptions::new(0) };
        let regime = self.world.regime();
        chosen.named.push_str(&flags(&RunOptions { regime, ..typed }));
        Ok(chosen)
    }
}

fn chosen_seed(scenario: Scenario, seed: u64) -> Chosen {
    let named = format!("{} {seed}", scenario.name());
    Chosen { scenario, options: RunOptions::new(seed), recording: None, named }
}

fn chosen_recording(path: &Path) -> Result<Chosen, Trouble> {
    let recording: Recording = files::read(path)?
        .parse()
        .map_err(|error| Trouble::from(format!("{} is no recording: {error}", path.display())))?;
    let scenario = scenario_named(&recording.scenario)?;
    let options = recording.options();
    let named = path.display().to_string();
    Ok(Chosen { scenario, options, recording: Some(recording), named })
}

/// The scenario with this name.
pub(super) fn scenario_named(name: &str) -> Result<Scenario, Trouble> {
    let all = woodchuck_scenarios::all();
    let names: Vec<&str> = all.iter().map(Scenario::name).collect();
    let found = names.iter().position(|known| *known == name);
    let unknown = || format!("there is no scenario {name:?}; there are: {}", names.join(", "));
    let index = found.ok_or_else(|| Trouble::usage(unknown()))?;
    Ok(all[index].clone())
}

/// What follows the names of scenario and seed on a command line that plays the same world.
pub(super) fn flags(options: &RunOptions) -> String {
    let mut flags = String::new();
    if options.regime == Regime::Unrestricted {
        flags.push_str(" --unrestricted");
    }
    for (name, value) in &options.knobs {
        // Writing to a string does not fail.
        let _ = write!(flags, " --set {name}={value}");
    }
    flags
}

/// A seed, in decimal or, after 0x, in hexadecimal digits.
fn parse_seed(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

pub(super) fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is not FIRST..END, with FIRST below END");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| parse_seed(text).ok_or_else(wrong);
    let seeds = number(first)?..number(end)?;
    if seeds.is_empty() { Err(wrong()) } else { Ok(seeds) }
}

fn parse_knob(text: &str) -> Result<(String, u32), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not KNOB=VALUE"))?;
    if !Faults::knobs().any(|knob| knob.name == name) {
        return Err(format!("there is no knob {name:?}; see `woodchuck sim faults`"));
    }
    let value = value.parse().map_err(|_| format!("{value:?} is not a value from 0 on"))?;
    Ok((name.to_owned(), value))
}

/// A time with its unit.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 250ms, 1.5s or 2m");
    let unit_at = text.find(|character: char| character.is_ascii_alphabetic());
    let (number, unit) = text.split_at(unit_at.ok_or_else(wrong)?);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(what: &[&str]) -> Result<Chosen, Trouble> {
        let what = what.iter().map(|word| (*word).to_owned()).collect();
        WorldNamed { what, world: WorldArguments::default() }.choose()
    }

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(parse_seeds("3..7"), Ok(3..7));
        assert_eq!(parse_seeds("0x10..20"), Ok(16..20));
        for wrong in ["", "3", "7..3", "3..3", "a..b", "..7", "3..=7"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn knobs_must_exist_and_have_a_value() {
        assert_eq!(parse_knob("disk.slow=7"), Ok(("disk.slow".to_owned(), 7)));
        for wrong in ["", "disk.slow", "disk.slow=", "disk.slow=-1", "disk.nothing=1", "=1"] {
            assert!(parse_knob(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "1", "s", "-1s", "1 fortnight", "1e999s"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_world_is_named_by_a_seed_alone_or_with_its_scenario() {
        for what in [&["42"][..], &["broker", "42"], &["0x2a"]] {
            let chosen = choose(what).unwrap_or_else(|trouble| panic!("{}", trouble.message));
            assert_eq!((chosen.scenario.name(), chosen.options.seed), ("broker", 42));
            assert_eq!(chosen.named, "broker 42");
        }
        for wrong in [&["broken", "42"][..], &["broker", "x"], &["no such file"]] {
            assert!(choose(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn flags_name_what_the_seed_does_not() {
        let knobs = vec![("disk.slow".to_owned(), 7)];
        let regime = Regime::Unrestricted;
        let options = RunOptions { regime, knobs, ..RunOptions::new(1) };
        assert_eq!(flags(&options), " --unrestricted --set disk.slow=7");
        assert_eq!(flags(&RunOptions::new(1)), "");
    }
}
