//! Data directories: what creating and opening one finds in it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use woodchuck::Engine;
use woodchuck_io::Env;
use woodchuck_sim::{MachineId, World};

use crate::{LIMIT, append, name, options, partition, run};

/// Opens the engine and gives the error of each shard.
fn open_errors(world: &World, machine: MachineId, shards: usize) -> Vec<String> {
    let errors: Rc<RefCell<Vec<String>>> = Rc::default();
    let shared = Rc::clone(&errors);
    world.start(machine, shards, move |env| {
        let shared = Rc::clone(&shared);
        async move {
            let error = Engine::open(env, options()).await.err().expect("does not open");
            shared.borrow_mut().push(error.to_string());
        }
    });
    assert!(world.run_until(|| !world.is_running(machine), LIMIT), "every shard gives up");
    errors.take()
}

#[test]
fn a_log_that_is_missing_is_not_made_anew() {
    for lost in [0, 1] {
        let world = World::new(3);
        let machine = world.machine("engine");
        run(&world, machine, (2, 0), |_, engine| async move {
            let topic = engine.create_topic(name("events"), 2).await.expect("created");
            for index in 0..2 {
                append(&engine, partition(&topic, index), b"kept").await.expect("durable");
            }
        });
        world.stop(machine);
        assert!(world.run_until(|| !world.is_running(machine), LIMIT));
        let disk = world.disk(machine);
        let log = format!("/data/shard-000{lost}/log/");
        for path in disk.files().iter().filter(|path| path.starts_with(&log)) {
            disk.remove(path);
        }
        for _ in 0..2 {
            for error in open_errors(&world, machine, 2) {
                assert!(error.contains(&format!("shard {lost}: ")), "{error}");
                assert!(error.contains("holds no log"), "{error}");
            }
            let found = world.disk(machine).files();
            assert!(!found.iter().any(|path| path.starts_with(&log)), "{found:?}");
        }
    }
}

#[test]
fn a_creation_that_is_cut_short_anywhere_is_repeated() {
    for moment in 0..400 {
        let world = World::new(moment);
        let machine = world.machine("engine");
        world.start(machine, 3, |env| async move {
            let engine = Engine::open(env.clone(), options()).await.expect("opens");
            env.stopping().await;
            engine.close().await.expect("closes");
        });
        world.run_for(Duration::from_micros(moment * 25));
        world.power_cut(machine);
        run(&world, machine, (3, 2), |_, engine| async move {
            let topic = engine.create_topic(name("events"), 3).await.expect("created");
            append(&engine, partition(&topic, 1), b"kept").await.expect("durable");
        });
    }
}

#[test]
fn what_a_killed_probe_left_is_in_nobodys_way() {
    let world = World::new(3);
    let machine = world.machine("engine");
    let left = format!("/data/{}", woodchuck::PROBE_NAME);
    world.disk(machine).write(&left, b"left over");
    for _ in 0..2 {
        run(&world, machine, (2, 0), |_, _| async {});
        world.kill(machine);
        assert_eq!(world.disk(machine).read(&left).as_deref(), Some(&b"left over"[..]));
    }
    // No probe makes a directory, nor another file.
    let other = world.machine("other");
    world.disk(other).write(&format!("{left}/file"), b"somebody's");
    let errors = open_errors(&world, other, 1);
    assert!(errors[0].contains(woodchuck::PROBE_NAME), "{errors:?}");
    let third = world.machine("third");
    world.disk(third).write(&format!("{left}.old"), b"somebody's");
    let errors = open_errors(&world, third, 1);
    assert!(errors[0].contains(".scratch.old"), "{errors:?}");
}

#[test]
fn what_was_measured_of_the_volume_may_come_before_everything_else() {
    let world = World::new(3);
    let machine = world.machine("engine");
    let names =
        [woodchuck::VOLUME_NAME, woodchuck::VOLUME_NEW_NAME, woodchuck::VOLUME_SCRATCH_NAME];
    let paths = names.map(|name| format!("/data/{name}"));
    for path in &paths {
        world.disk(machine).write(path, b"anything");
    }
    for _ in 0..2 {
        run(&world, machine, (2, 0), |_, _| async {});
        world.kill(machine);
    }
    for path in &paths {
        assert_eq!(world.disk(machine).read(path).as_deref(), Some(&b"anything"[..]), "{path}");
    }
    for name in names {
        let other = world.machine(name);
        world.disk(other).write(&format!("/data/{name}/file"), b"somebody's");
        let errors = open_errors(&world, other, 1);
        assert!(errors[0].contains(name), "{errors:?}");
    }
}

#[test]
fn directories_that_are_not_ours_are_refused_with_a_way_out() {
    let world = World::new(3);
    let machine = world.machine("engine");
    world.disk(machine).write("/data/holiday.jpg", b"not a log");
    let errors = open_errors(&world, machine, 2);
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert!(error.contains("holiday.jpg") && error.contains("--data"), "{error}");
    }
    world.disk(machine).remove("/data/holiday.jpg");
    run(&world, machine, (2, 0), |_, _| async {});
    world.kill(machine);
    let errors = open_errors(&world, machine, 3);
    assert!(errors[0].contains("--shards 2"), "{errors:?}");
    world.disk(machine).flip_bit("/data/woodchuck.id", 24, 3);
    let errors = open_errors(&world, machine, 2);
    assert!(errors[0].contains("damaged"), "{errors:?}");
    world.disk(machine).remove("/data/woodchuck.id");
    let errors = open_errors(&world, machine, 2);
    assert!(errors[0].contains("incomplete"), "{errors:?}");
}
