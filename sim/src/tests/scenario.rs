//! Scenarios: each kind of property holds when it should, and is seen to be violated when not.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Durability, Env as _, OpenMode};

use super::{create, write};
use crate::check::{self, Anomaly, Check};
use crate::scenario::{
    Campaign, ChaosMonkey, Limits, Recording, Run, RunOptions, Scenario, Stage, Verdict,
};
use crate::{FaultKind, Faults, LinkProfile, Regime, SimEnv, World};

/// The run of a seed.
fn play(seed: u64, build: impl Fn(&mut Stage) + Send + Sync + 'static) -> Run {
    Scenario::new("test", "A test.", build).run(&RunOptions::new(seed))
}

/// The property that a run violates.
fn violated(seed: u64, build: impl Fn(&mut Stage) + Send + Sync + 'static) -> String {
    let run = play(seed, build);
    run.violation().unwrap_or_else(|| panic!("{run}")).property.clone()
}

/// Counts to a hundred in a file, one block for each number.
async fn count(env: SimEnv, durability: Durability, acknowledged: Rc<Cell<u64>>) {
    use woodchuck_io::{Disk as _, File as _};
    let path = Path::new("/count");
    let file = match env.disk().open(path, OpenMode::Write).await {
        Ok(file) => file,
        Err(_) => create(&env, "/count").await,
    };
    let length = file.length().await.expect("a healthy disk");
    acknowledged.set(acknowledged.get().max(length / 4096));
    for number in length / 4096..100 {
        write(&file, number, 1, 1, durability).await;
        acknowledged.set(acknowledged.get().max(number + 1));
    }
    std::future::pending::<()>().await;
}

/// A counter under a monkey: what was acknowledged must be in the file whatever happens.
fn counter(durability: Durability) -> Scenario {
    Scenario::new("counter", "A counter that survives.", move |stage| {
        let machine = stage.machine("counter");
        let acknowledged = Rc::new(Cell::new(0));
        let shared = Rc::clone(&acknowledged);
        stage.service(machine, 1, move |env| count(env, durability, Rc::clone(&shared)));
        stage.sometimes("struck in the middle");
        let (world, observer) = (stage.world().clone(), stage.observer());
        let shared = Rc::clone(&acknowledged);
        stage.plan(move |director| async move {
            for _ in 0..3 {
                director.sleep(director.duration(Duration::ZERO..Duration::from_millis(20))).await;
                if (1..100).contains(&shared.get()) {
                    observer.hit("struck in the middle");
                }
                world.power_cut(machine);
                let there = world.disk(machine).length("/count").unwrap_or(0) / 4096;
                let known = shared.get();
                observer.require("acknowledged-is-durable", there >= known, || {
                    format!("{known} were acknowledged and {there} are there")
                });
                director.start(machine);
            }
        });
        stage.eventually("counts to the end", Duration::from_secs(60), move || {
            acknowledged.get() == 100
        });
    })
}

#[test]
fn a_counter_that_writes_durably_passes_and_one_that_does_not_fails() {
    let tally = counter(Durability::Durable).check(0..50);
    assert_eq!((tally.passed, tally.twice), (50, 3));
    let failures = (0..50)
        .map(|seed| counter(Durability::Volatile).run(&RunOptions::new(seed)))
        .filter(|run| run.violation().is_some())
        .inspect(|run| {
            let violation = run.violation().expect("it is there");
            assert_eq!(violation.property, "acknowledged-is-durable", "{run}");
            assert_eq!(
                violation.fingerprint(),
                "acknowledged-is-durable: # were acknowledged and # are there"
            );
        })
        .count();
    assert!(failures > 10, "the bug was found in {failures} of 50 worlds");
}

#[test]
fn a_monkey_strikes_and_starts_again() {
    let scenario = Scenario::new("monkey", "A monkey.", |stage| {
        let machine = stage.machine("target");
        let observer = stage.observer();
        stage.service(machine, 2, move |env: SimEnv| {
            observer.count("starts", 1);
            async move { env.stopping().await }
        });
        let hindrances = ["pause", "isolate", "clog", "stall", "wall-jump"];
        let monkey = ChaosMonkey::on(&[machine]).strikes(3..6);
        hindrances.into_iter().fold(monkey, |monkey, name| monkey.weight(name, 0)).release(stage);
    });
    let tally = scenario.check(0..100);
    let (strikes, starts) = (tally.counts["strikes"], tally.counts["starts"]);
    assert!((300..600).contains(&strikes), "{strikes} strikes");
    // The latest start of a world may not have come to its first poll.
    let most = 2 * (100 + strikes);
    assert!((most * 3 / 4..=most).contains(&starts), "{starts} of {most} shards were started");
    for kind in [FaultKind::Kill, FaultKind::OsCrash, FaultKind::PowerCut] {
        let worlds = tally.worlds_with_fault[kind as usize];
        assert!((10..90).contains(&worlds), "{kind:?} struck in {worlds} of 100 worlds");
    }
}

/// Writes to its disk, talks to a peer and looks at the clock, over and over.
async fn keep_busy(env: SimEnv, peer: std::net::SocketAddr) {
    use woodchuck_io::{Disk as _, Net as _, Stream as _};
    let talker = env.clone();
    env.spawn("talker", async move {
        loop {
            if let Ok(stream) = talker.net().connect(peer).await {
                let hello = bytes::Bytes::from_static(b"hello");
                while stream.write(vec![hello.clone()]).await.is_ok() {
                    talker.sleep(Duration::from_micros(500)).await;
                }
            }
            talker.sleep(Duration::from_millis(1)).await;
        }
    })
    .detach();
    let path = Path::new("/busy");
    let file = match env.disk().open(path, OpenMode::Write).await {
        Ok(file) => file,
        Err(_) => create(&env, "/busy").await,
    };
    let stopping = std::pin::pin!(env.stopping());
    let working = std::pin::pin!(async {
        loop {
            write(&file, 0, 1, 7, Durability::Durable).await;
            let _ = env.wall();
        }
    });
    futures_util::future::select(stopping, working).await;
}

/// Takes whatever it is told.
async fn listen(env: SimEnv) {
    use woodchuck_io::{Listener as _, Net as _, Stream as _};
    let listener = env.net().listen("0.0.0.0:7".parse().expect("an address")).await.expect("free");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        env.spawn("listener", async move {
            while let (Ok(1..), _) = stream.read(bytes::BytesMut::with_capacity(64)).await {}
        })
        .detach();
    }
}

#[test]
fn every_strike_of_a_monkey_does_what_it_is_called() {
    const KINDS: [(&str, FaultKind); 10] = [
        ("kill", FaultKind::Kill),
        ("crash-os", FaultKind::OsCrash),
        ("power-cut", FaultKind::PowerCut),
        ("reboot", FaultKind::Reboot),
        ("wipe", FaultKind::Wipe),
        ("pause", FaultKind::Pause),
        ("isolate", FaultKind::CutPacket),
        ("clog", FaultKind::CloggedPacket),
        ("stall", FaultKind::DiskStall),
        ("wall-jump", FaultKind::WallJump),
    ];
    for (name, kind) in KINDS {
        let scenario = Scenario::new("monkey", "A monkey.", move |stage| {
            stage.world().set_faults(Faults::none());
            let (machine, peer) = (stage.machine("target"), stage.machine("peer"));
            let address = std::net::SocketAddr::new(stage.world().address(peer), 7);
            stage.service(machine, 1, move |env| keep_busy(env, address));
            stage.service(peer, 1, listen);
            let monkey = ChaosMonkey::on(&[machine]).strikes(3..4).weight("stop", 0);
            let weigh = |monkey: ChaosMonkey, (other, _): (&str, FaultKind)| {
                monkey.weight(other, u64::from(other == name))
            };
            KINDS.into_iter().fold(monkey, weigh).release(stage);
        });
        let tally = scenario.check(0..20);
        assert_eq!(tally.counts["strikes"], 60);
        for (other, fault) in KINDS {
            let happened = tally.faults[fault as usize] > 0;
            // A wipe is a power cut that leaves nothing.
            let is_part = (name, other) == ("wipe", "power-cut");
            assert!(happened == (fault == kind) || is_part, "{other} in worlds of {name}");
        }
    }
}

#[test]
#[should_panic(expected = "a monkey knows no strike")]
fn a_monkey_is_not_asked_for_what_it_does_not_know() {
    let world = World::new(1);
    let _ = ChaosMonkey::on(&[world.machine("m")]).weight("bite", 1);
}

#[test]
fn networks_are_linked_as_the_stage_says() {
    let run = play(1, |stage| {
        stage.world().set_faults(Faults::none());
        let (near, far) = (stage.machine("near"), stage.machine("far"));
        stage.link("here", "there", LinkProfile::MOBILE_3G);
        stage.network("here", &[near]);
        stage.network("there", &[far]);
        let address = std::net::SocketAddr::new(stage.world().address(far), 7);
        let observer = stage.observer();
        stage.service(far, 1, listen);
        stage.bot(near, "dialler", move |env| {
            use woodchuck_io::Net as _;
            let observer = observer.clone();
            async move {
                let begun = env.now();
                drop(env.net().connect(address).await);
                observer.count("milliseconds", (env.now() - begun).as_millis() as u64);
            }
        });
    });
    assert!((200..=1000).contains(&run.counts["milliseconds"]), "{:?}", run.counts);
}

#[test]
fn what_always_holds_is_looked_at_while_time_passes() {
    let build = |limit: u64| {
        move |stage: &mut Stage| {
            let ticks = Rc::new(Cell::new(0));
            let shared = Rc::clone(&ticks);
            stage.bot(stage.machine("m"), "ticker", move |env| {
                let ticks = Rc::clone(&shared);
                async move {
                    for tick in 0..20_000 {
                        env.sleep(Duration::from_millis(1)).await;
                        ticks.set(tick);
                    }
                }
            });
            stage.always("few ticks", move || {
                if ticks.get() < limit { Ok(()) } else { Err(format!("{} ticks", ticks.get())) }
            });
        }
    };
    assert_eq!(play(1, build(20_000)).verdict, Verdict::Passed);
    let run = play(1, build(10_000));
    let violation = run.violation().expect("there are more ticks");
    assert_eq!(violation.property, "few ticks");
    assert!(violation.time < Duration::from_secs(15), "it is seen soon, not in the end");
}

#[test]
fn what_does_not_come_true_is_a_violation() {
    let eventually = |stage: &mut Stage| {
        stage.eventually("never", Duration::from_secs(5), || false);
    };
    assert_eq!(violated(1, eventually), "never");
    let late = |stage: &mut Stage| {
        stage.bot(stage.machine("m"), "sleeper", |env| async move {
            env.sleep(Duration::from_secs(301)).await;
        });
        stage.plan(|director| async move { director.sleep(Duration::from_millis(1)).await });
    };
    assert_eq!(violated(1, late), "bots-finish");
    let alone = |stage: &mut Stage| {
        stage.bot(stage.machine("m"), "sleeper", |env| async move {
            env.sleep(Duration::from_secs(301)).await;
        });
    };
    assert_eq!(play(1, alone).verdict, Verdict::Passed, "nothing is to be recovered from");
    let stuck = |stage: &mut Stage| {
        stage.bot(stage.machine("m"), "waiter", |_| std::future::pending());
    };
    assert_eq!(violated(1, stuck), "no-deadlock");
    let panics = |stage: &mut Stage| {
        stage.bot(stage.machine("m"), "bot", |_| async { panic!("no reason") });
    };
    assert_eq!(violated(1, panics), "no-panic");
    let expects = |stage: &mut Stage| {
        stage.plan(|director| async move {
            director.expect("it rains", Duration::from_secs(1), || false).await;
        });
    };
    assert_eq!(violated(1, expects), "it rains");
}

#[test]
fn limits_end_a_run() {
    let ticks = |limits: Limits| {
        move |stage: &mut Stage| {
            stage.limit(limits);
            let observer = stage.observer();
            stage.bot(stage.machine("m"), "ticker", move |env| {
                let observer = observer.clone();
                async move {
                    observer.progress();
                    for _ in 0..50_000 {
                        env.sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
    };
    let time = Limits { time: Duration::from_secs(10), ..Limits::default() };
    assert_eq!(violated(1, ticks(time)), "time-limit");
    let steps = Limits { steps: 30_000, ..Limits::default() };
    assert_eq!(violated(1, ticks(steps)), "step-limit");
    let inactivity = Limits { inactivity: Some(Duration::from_secs(3)), ..Limits::default() };
    assert_eq!(violated(1, ticks(inactivity)), "inactivity-limit");
    assert_eq!(play(1, ticks(Limits::default())).verdict, Verdict::Passed);
}

#[test]
fn a_run_can_be_stopped_and_can_be_inconclusive() {
    let sleeper = |stage: &mut Stage| {
        let observer = stage.observer();
        stage.bot(stage.machine("m"), "sleeper", move |env| {
            let observer = observer.clone();
            async move {
                env.sleep(Duration::from_secs(100)).await;
                observer.inconclusive("the budget ran out");
            }
        });
    };
    let scenario = Scenario::new("sleeper", "It sleeps.", sleeper);
    let until = Some(Duration::from_secs(7));
    let run = scenario.run(&RunOptions { until, ..RunOptions::new(1) });
    assert_eq!((run.verdict, run.elapsed), (Verdict::Stopped, Duration::from_secs(7)));
    let whole = scenario.run(&RunOptions::new(1));
    assert_eq!(whole.verdict, Verdict::Inconclusive("the budget ran out".to_owned()));
}

#[test]
fn what_a_checker_says_is_what_the_run_comes_to() {
    let judged = |property: &'static str, verdict: check::Verdict| {
        let scenario = Scenario::new("judged", "A checker's.", move |stage| {
            let verdict = verdict.clone();
            stage.verify(move |observer| observer.judge(property, &verdict));
        });
        scenario.run(&RunOptions::new(1)).verdict
    };
    assert_eq!(judged("log", check::Verdict::Holds), Verdict::Passed);
    let anomalies = vec![Anomaly::new("lost-write", "7 is gone"), Anomaly::new("phantom", "8")];
    for (property, expected) in [("log", "log"), ("", "lost-write")] {
        let verdict = judged(property, check::Verdict::Violated(anomalies.clone()));
        let Verdict::Failed(violation) = verdict else { panic!("{verdict:?}") };
        assert_eq!(violation.property, expected);
        assert_eq!(violation.explanation, "lost-write: 7 is gone\nphantom: 8");
    }
    let doubt = || check::Verdict::inconclusive("too little was done");
    assert_eq!(judged("", doubt()), Verdict::Inconclusive("too little was done".to_owned()));
    let named = Verdict::Inconclusive("log: too little was done".to_owned());
    assert_eq!(judged("log", doubt()), named);
}

#[test]
fn comparisons_that_fail_are_told_and_the_others_are_not() {
    let run = |actual: u32| {
        play(1, move |stage| {
            let checks = [
                Check::equal("records", 3, actual),
                Check::at_most("gap", 9, 9),
                Check::at_least("readers", 3, actual),
            ];
            stage.verify(move |observer| observer.verify("counts", &checks));
        })
    };
    assert_eq!(run(3).verdict, Verdict::Passed);
    let run = run(2);
    let violation = run.violation().expect("there are too few");
    assert_eq!(violation.property, "counts");
    let expected = "records: expected 3, actual 2\nreaders: expected at least 3, actual 2";
    assert_eq!(violation.explanation, expected);
}

#[test]
#[should_panic(expected = "the moon is full")]
fn a_mark_that_is_never_hit_fails_a_campaign() {
    let build = |stage: &mut Stage| stage.sometimes("the moon is full");
    Scenario::new("unmarked", "Nothing.", build).check(0..3);
}

#[test]
fn names_of_draws_do_not_move_each_other() {
    let draws = |names: &'static [&'static str]| {
        play(7, move |stage| {
            for name in names {
                let _ = stage.draw(name, 1000);
            }
        })
        .drawn
    };
    let (one, two) = (draws(&["a", "b"]), draws(&["b", "c", "a"]));
    assert_eq!((one["a"], one["b"]), (two["a"], two["b"]));
}

#[test]
fn a_recorded_tape_plays_the_same_run() {
    let scenario = counter(Durability::Volatile);
    let failing = (0..50)
        .map(|seed| scenario.run(&RunOptions { record: true, ..RunOptions::new(seed) }))
        .find(|run| run.violation().is_some())
        .expect("the bug is found");
    let replayed = scenario.run(&RunOptions { tape: failing.tape.clone(), ..RunOptions::new(0) });
    assert_eq!(replayed.violation(), failing.violation());
    assert_eq!(replayed.trace_hash, failing.trace_hash);
}

#[test]
fn a_campaign_ends_early_when_told_to() {
    let campaign = Campaign::new(counter(Durability::Durable), 0..50);
    let tally = campaign.run_while(|tally| tally.worlds() < 3);
    assert_eq!((tally.passed, tally.worlds()), (3, 3));
}

#[test]
fn a_campaign_ends_each_world_at_a_time() {
    let until = Some(Duration::from_millis(1));
    let campaign = Campaign { until, ..Campaign::new(counter(Durability::Durable), 0..5) };
    let tally = campaign.run(|_| ());
    assert_eq!((tally.passed, tally.simulated), (5, Duration::from_millis(5)));
}

#[test]
fn a_recording_of_a_run_plays_it_again() {
    let scenario = counter(Durability::Volatile);
    let options = |seed| RunOptions {
        record: true,
        knobs: vec![("disk.slow".to_owned(), 1000)],
        ..RunOptions::new(seed)
    };
    let failing = (0..50)
        .map(|seed| scenario.run(&options(seed)))
        .find(|run| run.violation().is_some())
        .expect("the bug is found");
    let recording = Recording::of(&failing, &options(failing.seed));
    let read: Recording = recording.to_string().parse().expect("a recording");
    assert_eq!(read.property.as_deref(), Some("acknowledged-is-durable"));
    let again = scenario.run(&read.options());
    assert_eq!(again.violation(), failing.violation());
    let seed_alone = Recording { tape: None, ..read };
    assert_eq!(scenario.run(&seed_alone.options()).trace_hash, failing.trace_hash);
}

#[test]
fn faults_that_never_mattered_are_told_in_the_regimes_that_a_scenario_speaks_of() {
    let idle = |scenario: Scenario, regime| {
        let seeds = 0..crate::limits::WORLDS_FOR_ALL_FAULTS;
        Campaign { regime, twice_one_in: 0, ..Campaign::new(scenario, seeds) }
            .run(|_| ())
            .idle_faults()
    };
    let nothing = || Scenario::new("nothing", "Nothing happens.", |_| ());
    let all_but_one: &[FaultKind] = FaultKind::ALL.split_last().map_or(&[], |(_, rest)| rest);
    assert_eq!(idle(nothing(), Regime::Budgeted), FaultKind::ALL);
    assert_eq!(idle(nothing(), Regime::Unrestricted), []);
    let told = nothing().without(FaultKind::ALL).without_unrestricted(all_but_one);
    assert_eq!(idle(told.clone(), Regime::Budgeted), []);
    assert_eq!(idle(told, Regime::Unrestricted).len(), 1);
}
