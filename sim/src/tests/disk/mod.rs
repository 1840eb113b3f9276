//! The disk: every fault happens, and what is promised holds under all of them.

mod crashes;
mod decay;
mod errors;
mod lies;
mod names;
mod operations;
mod profiles;
mod timing;

use std::path::Path;

use woodchuck_io::{Buffer, Disk as _, Env as _, File as _, OpenMode};

use super::{blocks, create, run, write};
use crate::{FaultKind, Faults, SimEnv, SimFile, World, WorldOptions};

/// Kinds of faults that happen in the tests of these modules only: their knobs are off by default.
pub(super) const TESTED_ALONE: [FaultKind; 11] = [
    FaultKind::UnreadableBlock,
    FaultKind::DiskStall,
    FaultKind::SlowPeriod,
    FaultKind::LatentError,
    FaultKind::BitRot,
    FaultKind::MisdirectedRead,
    FaultKind::MisdirectedWrite,
    FaultKind::LostWrite,
    FaultKind::StickyError,
    FaultKind::MetadataFull,
    FaultKind::LyingFlush,
];

/// A world in which one disk knob is set and all others are at 0.
fn world_with(seed: u64, knob: &str, value: u32) -> World {
    let mut faults = Faults::none();
    assert!(faults.set(&format!("disk.{knob}"), value), "there is no knob {knob}");
    World::with_options(WorldOptions { faults, ..WorldOptions::new(seed) })
}

/// Reads some blocks of a file, whole.
async fn read(file: &SimFile, block: u64, count: usize) -> std::io::Result<Vec<u8>> {
    let (result, buffer) = file.read_at(Buffer::with_capacity(count * 4096), block * 4096).await;
    result.map(|length| buffer[..length].to_vec())
}

/// Opens a file that is there.
async fn open(env: &SimEnv, path: &str) -> SimFile {
    env.disk().open(Path::new(path), OpenMode::Write).await.expect("it is there")
}

/// How often a kind of fault changed something in all of these worlds.
fn total(worlds: &[World], kind: FaultKind) -> u64 {
    worlds.iter().map(|world| world.statistics().faults(kind)).sum()
}

#[test]
fn the_fault_model_names_every_knob_of_the_disk() {
    let model = include_str!("../../disk/mod.rs");
    for knob in crate::DiskFaults::KNOBS {
        let name = knob.name.trim_start_matches("disk.");
        let row = |line: &&str| line.starts_with("//! |") && line.contains(&format!("`{name}`"));
        assert!(model.lines().any(|line| row(&line)), "{name} is in no row of the table");
    }
}
