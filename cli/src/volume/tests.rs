//! Settling in simulated worlds, with faults.

use std::cell::RefCell;
use std::rc::Rc;

use woodchuck_sim::{DiskInspector, DiskOperation, DiskProfile, Latency, MachineId, SimEnv, World};

use super::*;
use crate::limits::FLIGHT_DEPTHS;

const DATA: &str = "/data";

/// A disk that always takes as long for a durable write.
const STEADY: DiskProfile = DiskProfile {
    durable_write: Latency { least: 100_000, spread: 0 },
    tail: Duration::ZERO,
    bandwidth: u64::MAX,
    ..DiskProfile::NVME
};

fn path(name: &str) -> String {
    format!("{DATA}/{name}")
}

/// One machine that settles, again and again.
struct Tried {
    world: World,
    machine: MachineId,
}

type Outcome = Rc<RefCell<Option<Settled>>>;

impl Tried {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let machine = world.machine("m");
        Self { world, machine }
    }

    fn disk(&self) -> DiskInspector {
        self.world.disk(self.machine)
    }

    fn begin(&self, asked: FramesInFlight) -> Outcome {
        let outcome = Outcome::default();
        let slot = Rc::clone(&outcome);
        self.world.start(self.machine, 1, move |env: SimEnv| {
            let settle = Settle { data: PathBuf::from(DATA), asked };
            let slot = Rc::clone(&slot);
            async move {
                let settled = settle.run(env).await;
                *slot.borrow_mut() = Some(settled);
            }
        });
        outcome
    }

    fn finish(&self) {
        let (running, machine) = (self.world.clone(), self.machine);
        let ended =
            self.world.run_until(move || !running.is_running(machine), Duration::from_secs(3600));
        assert!(ended, "it ends");
    }

    fn settle(&self, asked: FramesInFlight) -> Settled {
        let outcome = self.begin(asked);
        self.finish();
        let settled = outcome.take().expect("it ended by itself");
        assert!(settled.told(DATA.as_ref()).contains(&format!("up to {} frames", settled.frames)));
        settled
    }

    /// A start that finds nothing in its way, and what it left is whole.
    fn settle_well(&self) -> Settled {
        let settled = self.settle(FramesInFlight::Auto);
        assert!(matches!(settled.why, Why::Recorded | Why::Measured { .. }), "{settled:?}");
        assert!(is_in_order(&settled), "{settled:?}");
        assert!(FLIGHT_DEPTHS.contains(&settled.frames));
        assert_eq!(self.names(), [LOCK_NAME, VOLUME_NAME]);
        settled
    }

    fn names(&self) -> Vec<String> {
        let files = self.disk().files();
        let name = |file: &String| file.strip_prefix("/data/").map(str::to_owned);
        files.iter().map(|file| name(file).expect("it is in the directory")).collect()
    }
}

fn was_measured(settled: &Settled) -> bool {
    matches!(settled.why, Why::Measured { .. })
}

/// Whether nothing was in the way.
fn is_in_order(settled: &Settled) -> bool {
    match &settled.why {
        Why::Given | Why::Recorded => true,
        Why::Measured { replaced, unrecorded, .. } => replaced.is_none() && unrecorded.is_none(),
        Why::Default(_) => false,
    }
}

fn default_because(settled: &Settled) -> &str {
    assert_eq!(settled.frames, 4);
    assert!(!settled.needs_attention());
    match &settled.why {
        Why::Default(why) => why,
        _ => panic!("{settled:?}"),
    }
}

#[test]
fn a_volume_is_measured_once() {
    let tried = Tried::new(1);
    let before = tried.world.now();
    let first = tried.settle_well();
    assert!(was_measured(&first));
    let took = tried.world.now() - before;
    assert!(took < Duration::from_millis(FLIGHT_GIVE_UP_MS), "{took:?} of the world's time");
    let record = tried.disk().read(&path(VOLUME_NAME));
    // All of it survives what a crash takes, and nobody measures again.
    tried.world.power_cut(tried.machine);
    for _ in 0..2 {
        let settled = tried.settle_well();
        assert_eq!((settled.frames, settled.why), (first.frames, Why::Recorded));
    }
    assert_eq!(tried.disk().read(&path(VOLUME_NAME)), record);
}

#[test]
fn as_many_frames_are_chosen_as_the_disk_writes_at_a_time() {
    for queue_depth in FLIGHT_DEPTHS {
        let tried = Tried::new(11);
        tried.world.set_disk(tried.machine, DiskProfile { queue_depth, ..STEADY });
        assert_eq!(tried.settle_well().frames, queue_depth);
    }
}

#[test]
fn every_kind_of_disk_is_measured_or_given_up_on_in_time() {
    for profile in DiskProfile::ALL {
        let tried = Tried::new(12);
        let (name, tail) = (profile.name, profile.tail);
        tried.world.set_disk(tried.machine, profile);
        let before = tried.world.now();
        let settled = tried.settle(FramesInFlight::Auto);
        let took = tried.world.now() - before;
        assert!(took < Duration::from_millis(FLIGHT_GIVE_UP_MS) + tail, "{name}: {took:?}");
        // A disk that turns may be too slow for it.
        assert!(was_measured(&settled) || name == "hdd", "{name}: {settled:?}");
    }
}

#[test]
fn what_the_file_says_is_used() {
    let tried = Tried::new(2);
    tried.disk().write(&path(VOLUME_NAME), br#"{"version": 1, "frames_in_flight": 3}"#);
    let settled = tried.settle(FramesInFlight::Auto);
    assert_eq!(settled, Settled { frames: 3, why: Why::Recorded });
}

#[test]
fn a_file_that_says_nothing_is_measured_anew_and_replaced() {
    let newer = br#"{"version": 2, "frames_in_flight": 4}"#;
    for (wrong, told) in
        [(&b""[..], "is damaged"), (&[0; 5000], "is damaged"), (newer, "has version 2")]
    {
        let tried = Tried::new(3);
        tried.disk().write(&path(VOLUME_NAME), wrong);
        let settled = tried.settle(FramesInFlight::Auto);
        let line = settled.told(DATA.as_ref());
        assert!(was_measured(&settled) && settled.needs_attention(), "{settled:?}");
        assert!(line.contains(&format!("/data/woodchuck-volume.json {told}")), "{line}");
        assert_eq!(tried.settle_well(), Settled { why: Why::Recorded, ..settled });
    }
    let tried = Tried::new(3);
    tried.settle_well();
    tried.disk().break_block(&path(VOLUME_NAME), 0);
    assert!(was_measured(&tried.settle(FramesInFlight::Auto)));
    assert_eq!(tried.settle_well().why, Why::Recorded);
}

#[test]
fn a_volume_that_cannot_be_measured_gets_the_default_and_leaves_nothing() {
    use DiskOperation::{Allocate, Open, Remove, Sync, Write};
    let scratch = path(VOLUME_SCRATCH_NAME);
    for kind in [Open, Allocate, Write, Sync] {
        let tried = Tried::new(4);
        tried.settle(FramesInFlight::Given(4));
        tried.disk().fail_next_at(kind, &scratch, 1, io::ErrorKind::Other);
        let settled = tried.settle(FramesInFlight::Auto);
        assert!(default_because(&settled).contains("simulated disk failed"), "{kind:?}");
        assert_eq!(tried.names(), [LOCK_NAME], "{kind:?}");
        assert!(was_measured(&tried.settle_well()), "{kind:?}: another start measures");
    }
    // The first is that of a file that a crash would have left.
    let tried = Tried::new(4);
    tried.disk().fail_next_at(Remove, &scratch, 2, io::ErrorKind::Other);
    default_because(&tried.settle(FramesInFlight::Auto));
    default_because(&tried.settle(FramesInFlight::Auto));
    tried.disk().heal();
    assert!(was_measured(&tried.settle_well()));
}

#[test]
fn a_write_that_fails_while_it_is_measured_ends_that() {
    let tried = Tried::new(5);
    let outcome = tried.begin(FramesInFlight::Auto);
    while tried.disk().length(&path(VOLUME_SCRATCH_NAME)) != Some(FLIGHT_SCRATCH_BYTES) {
        tried.world.run_for(Duration::from_micros(100));
    }
    tried.world.run_for(Duration::from_millis(100));
    assert!(outcome.borrow().is_none(), "it measures still");
    tried.disk().fail_next_at(
        DiskOperation::Write,
        &path(VOLUME_SCRATCH_NAME),
        1,
        io::ErrorKind::Other,
    );
    tried.finish();
    default_because(&outcome.take().expect("it ended"));
    assert_eq!(tried.names(), [LOCK_NAME]);
    assert!(was_measured(&tried.settle_well()));
}

#[test]
fn what_cannot_be_written_down_is_used_all_the_same() {
    use DiskOperation::{Open, Rename, Sync, SyncDirectory, Truncate, Write};
    let new = path(VOLUME_NEW_NAME);
    for (kind, place) in [
        (Open, &*new),
        (Write, &new),
        (Truncate, &new),
        (Sync, &new),
        (Rename, &new),
        (SyncDirectory, DATA),
    ] {
        let tried = Tried::new(6);
        tried.disk().fail_next_at(kind, place, 1, io::ErrorKind::StorageFull);
        let settled = tried.settle(FramesInFlight::Auto);
        assert!(was_measured(&settled) && !is_in_order(&settled), "{kind:?}: {settled:?}");
        let line = settled.told(DATA.as_ref());
        assert!(line.contains("woodchuck-volume.json was not written"), "{line}");
        if kind != SyncDirectory {
            assert_eq!(tried.names(), [LOCK_NAME], "{kind:?}");
        }
        tried.settle_well();
    }
}

#[test]
fn what_a_busy_disk_shows_is_not_written_down() {
    let tried = Tried::new(13);
    let outcome = tried.begin(FramesInFlight::Auto);
    // As if others used it in the middle: for a round, one write is done at a time.
    for (milliseconds, queue_depth) in [(110, 64), (100, 1)] {
        tried.world.set_disk(tried.machine, DiskProfile { queue_depth, ..STEADY });
        tried.world.run_for(Duration::from_millis(milliseconds));
    }
    tried.world.set_disk(tried.machine, DiskProfile { queue_depth: 64, ..STEADY });
    tried.finish();
    let settled = outcome.take().expect("it ended");
    assert!(was_measured(&settled) && settled.frames == 16, "{settled:?}");
    assert!(!is_in_order(&settled) && !settled.needs_attention(), "the machine is busy, no more");
    assert!(settled.told(DATA.as_ref()).contains("(what was measured differs"), "{settled:?}");
    assert_eq!(tried.names(), [LOCK_NAME]);
    assert!(was_measured(&tried.settle_well()));
}

#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    for free_blocks in [0, 1, 2, 100, 1000] {
        let tried = Tried::new(7);
        tried.disk().write(&path("theirs"), b"data");
        tried.disk().fill(free_blocks);
        let settled = tried.settle(FramesInFlight::Auto);
        default_because(&settled);
        assert!(!tried.names().iter().any(|name| name.starts_with("woodchuck-")));
    }
}

#[test]
fn a_slow_volume_is_given_up_on() {
    let tried = Tried::new(8);
    tried.disk().slow_down(3_000, Duration::from_secs(3600));
    let settled = tried.settle(FramesInFlight::Auto);
    assert!(default_because(&settled).contains("too long to be measured"), "{settled:?}");
    assert_eq!(tried.names(), [LOCK_NAME]);
}

#[test]
fn who_has_the_directory_is_left_alone() {
    let tried = Tried::new(9);
    tried.settle_well();
    let names = [VOLUME_NEW_NAME, VOLUME_SCRATCH_NAME];
    for name in names {
        tried.disk().write(&path(name), b"at work");
    }
    tried.disk().hold_lock(&path(LOCK_NAME));
    let settled = tried.settle(FramesInFlight::Auto);
    assert_eq!(default_because(&settled), "another process has the directory");
    tried.settle(FramesInFlight::Given(2));
    for name in names {
        assert_eq!(tried.disk().read(&path(name)).as_deref(), Some(&b"at work"[..]), "{name}");
    }
    tried.disk().release_lock(&path(LOCK_NAME));
    assert_eq!(tried.settle_well().why, Why::Recorded);
}

#[test]
fn a_number_that_was_given_is_used_and_nothing_is_measured() {
    let tried = Tried::new(10);
    let given = |frames| Settled { frames, why: Why::Given };
    assert_eq!(tried.settle(FramesInFlight::Given(7)), given(7));
    assert_eq!(tried.disk().files(), Vec::<String>::new());
    tried.settle_well();
    assert_eq!(tried.settle(FramesInFlight::Given(1)), given(1));
    tried.disk().write(&path(VOLUME_SCRATCH_NAME), b"left");
    tried.disk().write(&path(VOLUME_NEW_NAME), b"left");
    assert_eq!(tried.settle(FramesInFlight::Given(9)), given(9));
    assert_eq!(tried.names(), [LOCK_NAME, VOLUME_NAME], "what a crash left is gone");
}

#[test]
fn a_crash_at_any_moment_leaves_nothing_in_the_way_of_the_next_start() {
    let reference = Tried::new(99);
    reference.settle_well();
    let whole = u64::try_from(reference.world.now().as_micros()).expect("a short time");
    let (mut scratch, mut new, mut measured_again, mut kept) = (0, 0, 0, 0);
    // Denser where the record is written.
    let dense = (0..150).map(|step| whole - 20_000 + step * 200);
    let moments = (0..60).map(|step| step * whole / 60).chain(dense);
    for (number, microseconds) in (0..).zip(moments) {
        let tried = Tried::new(100 + number);
        let outcome = tried.begin(FramesInFlight::Auto);
        tried.world.run_for(Duration::from_micros(microseconds));
        let done = outcome.borrow().is_some();
        match number % 3 {
            0 => tried.world.kill(tried.machine),
            1 => tried.world.crash_os(tried.machine),
            _ => tried.world.power_cut(tried.machine),
        }
        scratch += usize::from(tried.disk().exists(&path(VOLUME_SCRATCH_NAME)));
        new += usize::from(tried.disk().exists(&path(VOLUME_NEW_NAME)));
        let settled = tried.settle_well();
        assert!(!done || settled.why == Why::Recorded, "what was settled is kept");
        measured_again += usize::from(was_measured(&settled));
        kept += usize::from(settled.why == Why::Recorded);
    }
    let seen = [scratch, new, measured_again, kept];
    assert!(scratch > 10 && new > 0 && measured_again > 10 && kept > 10, "{seen:?}");
}

#[test]
fn the_command_line_is_read() {
    assert_eq!(parse("auto"), Ok(FramesInFlight::Auto));
    assert_eq!(parse("1"), Ok(FramesInFlight::Given(1)));
    assert_eq!(parse("16"), Ok(FramesInFlight::Given(16)));
    for wrong in ["", "0", "17", "-1", "4.0", "Auto", "automatic"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
