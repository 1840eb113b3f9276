//! Verifying and repairing data directories on simulated machines, where disks can be damaged at
//! will and every byte comes from a seed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use woodchuck::offline::OfflineDirectory;
use woodchuck::offline::repair::{Report, plan, write};
use woodchuck::offline::verify::{Outcome, Verification, bytes, verify};
use woodchuck::{Engine, EngineOptions, ReadRequest};
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Mesh, OpenMode};
use woodchuck_sim::{MachineId, SimEnv, World};
use woodchuck_stream::batch::build::{self, Record};
use woodchuck_stream::operation::{self, Operation};
use woodchuck_stream::{Batch, PartitionId, Topic, TopicName};
use woodchuck_wal::offline::{Found, OfflineLog};
use woodchuck_wal::{LogOptions, Recovered, Verdict};

const LIMIT: Duration = Duration::from_secs(600);
const DATA: &str = "/data";
const NEW: &str = "/new";
const SHARDS: usize = 2;

/// Runs `work` on each of `shards` shards to its end, and gives what the first returned.
fn run<T: 'static, F: Future<Output = T> + 'static>(
    world: &World,
    machine: MachineId,
    shards: usize,
    work: impl Fn(SimEnv) -> F + 'static,
) -> T {
    let result: Rc<RefCell<Option<T>>> = Rc::default();
    let (shared, work) = (Rc::clone(&result), Rc::new(work));
    world.start(machine, shards, move |env| {
        let (shared, work) = (Rc::clone(&shared), Rc::clone(&work));
        async move {
            let first = env.mesh().shard() == 0;
            let output = work(env).await;
            if first {
                *shared.borrow_mut() = Some(output);
            }
        }
    });
    assert!(world.run_until(|| !world.is_running(machine), LIMIT), "it does not end in time");
    result.take().expect("it ended")
}

/// Opens the engine, lets shard 0 work with it, and closes it.
fn with_engine<T: 'static, F: Future<Output = T> + 'static>(
    world: &World,
    machine: MachineId,
    data: &'static str,
    work: impl Fn(Engine<SimEnv>) -> F + 'static,
) -> T {
    let work = Rc::new(work);
    let output = run(world, machine, SHARDS, move |env| {
        let work = Rc::clone(&work);
        async move {
            let options = EngineOptions {
                log: LogOptions::small(),
                ..EngineOptions::new(PathBuf::from(data))
            };
            let engine = Engine::open(env.clone(), options).await.expect("opens");
            let mut output = None;
            if env.mesh().shard() == 0 {
                output = Some(work(engine.clone()).await);
                engine.stop_all().await;
            }
            engine.stopping().await;
            engine.close().await.expect("closes");
            output
        }
    });
    output.expect("shard 0 worked")
}

async fn create(engine: &Engine<SimEnv>, name: &str, partitions: u32) -> Topic {
    let name = TopicName::new(name).expect("a good name");
    engine.create_topic(name, partitions).await.expect("created")
}

async fn append(engine: &Engine<SimEnv>, topic: &Topic, index: u32, value: u8) {
    append_long(engine, topic, index, value, 3000).await;
}

async fn append_long(engine: &Engine<SimEnv>, topic: &Topic, index: u32, value: u8, length: usize) {
    let value = vec![value; length];
    let bytes = build::batch(&[Record { timestamp: 7, key: None, value: Some(&value) }]);
    let id = PartitionId { topic: topic.id, index };
    let ticket = engine.append(id, Batch::parse(bytes).expect("a good batch")).await;
    ticket.await.expect("appended");
}

/// How many records a partition has, each of which can be read.
async fn records(engine: &Engine<SimEnv>, topic: &Topic, index: u32) -> usize {
    let partition = PartitionId { topic: topic.id, index };
    let mut records = 0;
    loop {
        let request = ReadRequest { partition, offset: records as i64, max_bytes: 1 << 20 };
        let outcome = engine.read(&[request], 1 << 20).await.into_iter().next();
        let outcome = outcome.expect("one outcome").expect("readable");
        if outcome.batches.is_empty() {
            return records;
        }
        records += outcome.batches.len();
    }
}

/// The partition of a topic that is on a shard.
fn index_on(topic: &Topic, shard: usize) -> u32 {
    (0..topic.partitions).find(|&index| topic.shard(index, SHARDS) == shard).expect("there is one")
}

fn log_path(data: &str, shard: usize) -> PathBuf {
    Path::new(data).join(format!("shard-{shard:04}/log"))
}

/// Changes a byte of the last commit of a log that is `wanted`.
async fn damage(env: SimEnv, log: PathBuf, wanted: impl Fn(&Recovered) -> bool) {
    let offline = OfflineLog::open(env.disk().clone(), log.clone()).await.expect("a log");
    let examination = offline.examine(|_| Ok(())).await.expect("readable");
    let mut place = None;
    let find = |found| {
        if let Found::Frame(_, commits) = found {
            let commit = commits.iter().rfind(|commit| wanted(commit));
            place = commit.map(|commit| (commit.location, commit.is_body)).or(place);
        }
    };
    offline.scan(&examination, find).await.expect("readable");
    let (place, is_body) = place.expect("there is such a commit");
    let kind = if is_body { "body" } else { "wal" };
    let path = log.join(format!("{:016x}.{kind}", place.segment));
    let file = env.disk().open(&path, OpenMode::Write).await.expect("it is there");
    let (block, at) = (place.offset / 4096 * 4096, (place.offset % 4096) as usize);
    let (read, mut buffer) = file.read_at(Buffer::with_capacity(BLOCK_BYTES), block).await;
    read.expect("readable");
    buffer[at] ^= 0x40;
    let (written, _) = file.write_at(buffer, block, Durability::Durable).await;
    written.expect("written");
}

async fn verify_directory(env: SimEnv, data: &str) -> Verification {
    let directory = OfflineDirectory::open(env.disk().clone(), PathBuf::from(data)).await;
    verify(&directory.expect("a data directory"), |_| ()).await
}

async fn repair(env: SimEnv) -> Report {
    let directory = OfflineDirectory::open(env.disk().clone(), PathBuf::from(DATA)).await;
    let directory = directory.expect("a data directory");
    let plan = plan(&directory).await.expect("readable");
    write(&env, &plan, Path::new(NEW), LogOptions::default()).await.expect("written");
    plan.report
}

/// The logs are read from their beginning to their end, and it is told how far.
#[test]
fn progress_grows_up_to_the_whole() {
    let world = World::new(1);
    let machine = world.machine("engine");
    with_engine(&world, machine, DATA, |engine| async move {
        let topic = create(&engine, "t", 2).await;
        for value in 0..20 {
            append(&engine, &topic, u32::from(value) % 2, value).await;
        }
    });
    let (told, all) = run(&world, machine, 1, |env| async move {
        let directory = OfflineDirectory::open(env.disk().clone(), PathBuf::from(DATA)).await;
        let directory = directory.expect("a data directory");
        let mut told = Vec::new();
        let verification = verify(&directory, |done| told.push(done)).await;
        assert!(is_clean(&verification));
        (told, bytes(&directory).await)
    });
    assert!(told.len() > 20 && told.is_sorted());
    assert_eq!(told.last(), Some(&all));
}

fn is_clean(verification: &Verification) -> bool {
    let opens = |log: &woodchuck::offline::verify::LogVerification| {
        matches!(log.outcome, Outcome::Opens(Verdict::Clean))
    };
    verification.logs.iter().all(opens) && verification.contradictions.is_empty()
}

/// The deletion of a topic is lost, and some of its records were trimmed before: the broker would
/// not serve a topic whose first records are missing, so it is deleted again.
#[test]
fn a_topic_whose_deletion_is_lost_is_deleted_again_if_it_was_trimmed() {
    for seed in 0..10 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let kept = with_engine(&world, machine, DATA, |engine| async move {
            let gone = create(&engine, "gone", 2).await;
            let kept = create(&engine, "kept", 2).await;
            let (of_gone, of_kept) = (index_on(&gone, 1), index_on(&kept, 1));
            for value in 0..20 {
                append(&engine, &gone, of_gone, value).await;
            }
            append(&engine, &kept, of_kept, 1).await;
            for value in 0..20 {
                append(&engine, &gone, of_gone, value).await;
            }
            engine.delete_topic(gone.id).await.expect("deleted");
            for value in 0..20 {
                append(&engine, &kept, of_kept, value).await;
            }
            kept
        });
        assert!(is_clean(&run(&world, machine, 1, |env| verify_directory(env, DATA))));
        let is_deletion = |commit: &Recovered| {
            matches!(operation::decode(commit.bytes.clone()), Ok(Operation::DeleteTopic(_)))
        };
        run(&world, machine, 1, move |env| damage(env, log_path(DATA, 0), is_deletion));
        let verification = run(&world, machine, 1, |env| verify_directory(env, DATA));
        assert!(verification.logs[0].outcome.is_damage());
        let report = run(&world, machine, 1, repair);
        assert_eq!(report.deleted_again, ["gone"], "seed {seed}");
        assert!(report.logs[0].loss.is_some() && report.logs[1].loss.is_none());
        assert!(is_clean(&run(&world, machine, 1, |env| verify_directory(env, NEW))));
        with_engine(&world, machine, NEW, move |engine| {
            let kept = kept.clone();
            async move {
                assert!(engine.topics().by_name("gone").is_none());
                assert_eq!(engine.topics().by_name("kept"), Some(&kept));
                assert_eq!(records(&engine, &kept, index_on(&kept, 1)).await, 21);
            }
        });
    }
}

/// Wherever a log is damaged, what is repaired opens, holds what the report says, takes new records
/// and opens once more. In half of these worlds, batches are so large that their bytes stand beside
/// the log's frames.
#[test]
fn a_repaired_directory_is_one_like_any_other() {
    for seed in 0..20 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        let length = if seed % 2 == 0 { 3000 } else { 6000 };
        let topic = with_engine(&world, machine, DATA, move |engine| async move {
            let topic = create(&engine, "t", 4).await;
            for value in 0..40 {
                append_long(&engine, &topic, u32::from(value) % 4, value, length).await;
            }
            topic
        });
        let shard = index_on(&topic, 1);
        let offset = seed as i64 % 10;
        let is_wanted = move |commit: &Recovered| match operation::decode(commit.bytes.clone()) {
            Ok(Operation::Append { partition, batch }) => {
                let batch = Batch::parse_stored(batch).expect("whole");
                partition.index == shard && batch.base_offset() == offset
            }
            _ => false,
        };
        let bodies = world.disk(machine).files();
        let bodies = bodies.iter().filter(|path| path.ends_with(".body")).count();
        assert_eq!(bodies > 0, length > 3000, "{bodies} files of bodies");
        run(&world, machine, 1, move |env| damage(env, log_path(DATA, 1), is_wanted));
        let verification = run(&world, machine, 1, |env| verify_directory(env, DATA));
        assert!(verification.logs[1].outcome.is_damage());
        let report = run(&world, machine, 1, repair);
        assert!(report.logs[0].loss.is_none() && report.logs[1].loss.is_some());
        for round in 0..2 {
            let (topic, cut) = (topic.clone(), report.cut.clone());
            with_engine(&world, machine, NEW, move |engine| {
                let (topic, cut) = (topic.clone(), cut.clone());
                async move {
                    for index in 0..4 {
                        let told = cut.iter().find(|cut| cut.partition == index);
                        let kept = told.map_or(10, |cut| cut.end as usize);
                        let found = records(&engine, &topic, index).await;
                        match topic.shard(index, SHARDS) {
                            0 => assert_eq!(found, 10 + round),
                            // The damaged record is the last of its partition, or is told.
                            _ => assert!(found <= kept + round, "{found}, {kept} were kept"),
                        }
                        if index == shard {
                            assert_eq!(found, offset as usize + round);
                        }
                        append(&engine, &topic, index, 9).await;
                        assert_eq!(records(&engine, &topic, index).await, found + 1);
                    }
                }
            });
        }
    }
}

/// A repair that a power cut interrupts leaves nothing that opens as a data directory; or it is
/// complete.
#[test]
fn an_interrupted_repair_is_nothing_or_whole() {
    let (mut whole, mut nothing) = (0, 0);
    for seed in 0..40 {
        let world = World::new(seed);
        let machine = world.machine("engine");
        with_engine(&world, machine, DATA, |engine| async move {
            let topic = create(&engine, "t", 2).await;
            for value in 0..20 {
                append(&engine, &topic, u32::from(value) % 2, value).await;
            }
        });
        world.start(machine, 1, |env| async move {
            repair(env).await;
        });
        world.run_for(Duration::from_micros(500 * (seed + 1)));
        world.power_cut(machine);
        let opened = run(&world, machine, 1, |env| async move {
            let directory = OfflineDirectory::open(env.disk().clone(), PathBuf::from(NEW)).await;
            match directory {
                Ok(directory) => Some(verify(&directory, |_| ()).await),
                Err(_) => None,
            }
        });
        match opened {
            Some(verification) => {
                assert!(is_clean(&verification), "seed {seed}");
                let commits = verification.logs.iter().filter_map(|log| log.facts);
                assert_eq!(commits.map(|facts| facts.commits).sum::<u64>(), 21);
                whole += 1;
            }
            None => nothing += 1,
        }
    }
    assert!(whole > 0 && nothing > 0, "{whole} {nothing}");
}
