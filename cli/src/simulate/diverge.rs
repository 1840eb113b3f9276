//! `woodchuck sim diverge`.

use super::arguments::{Chosen, WorldNamed};
use super::quiet::Quiet;
use crate::exit::{Exit, Trouble};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    world: WorldNamed,
}

/// Plays a world several times, and names the first event in which two runs differ.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Trouble> {
    let Chosen { scenario, options, named, .. } = arguments.world.choose()?;
    let quiet = Quiet::new();
    let divergence = scenario.diverge(&options);
    drop(quiet);
    match divergence {
        None => {
            println!("{named}: two runs are the same in every event");
            Ok(Exit::Done)
        }
        Some(divergence) => {
            println!("{named}: {divergence}");
            Ok(Exit::Nondeterministic)
        }
    }
}
