//! Messages between two shards, on CPUs 0 and 1, beside what it takes to wake a thread that sleeps
//! in the kernel.
//!
//! `cargo bench -p woodchuck-benches --bench messages` prints the table of `docs/measurements.md`.
//! Every measurement runs in a process of its own, and the variants take turns: what is compared
//! ran within seconds. `WOODCHUCK_BENCH_ROUNDS` sets how many turns (15).

use std::process::Command;
use std::time::Duration;

use woodchuck_benches::{by_turns, median};
use woodchuck_io::ceiling::{Took, Waking, busy_time};
use woodchuck_io::runtime::{Backend, IdlePolicy, Runtime, RuntimeOptions};
use woodchuck_io::{Env, Mesh, Program};

/// Trips of one measurement, of those that sleep and those that do not.
const TRIPS: [u64; 2] = [8_000, 400_000];

/// Name, how it is done, and whether it sleeps. The second variant is what the others are
/// compared with.
const VARIANTS: [(&str, Way, bool); 9] = [
    ("bare polling of a flag", Way::Bare(Waking::Polling), false),
    ("bare eventfd, blocking", Way::Bare(Waking::Eventfd), true),
    ("bare eventfd, through a ring", Way::Bare(Waking::EventfdOfRing), true),
    ("bare ring message", Way::Bare(Waking::RingMessage), true),
    ("uring, sleep", Way::Runtime(Backend::Uring, IdlePolicy::Sleep), true),
    ("posix, sleep", Way::Runtime(Backend::Posix, IdlePolicy::Sleep), true),
    ("uring", Way::Runtime(Backend::Uring, IdlePolicy::Adaptive), false),
    ("uring, spin", Way::Runtime(Backend::Uring, IdlePolicy::Spin), false),
    ("posix", Way::Runtime(Backend::Posix, IdlePolicy::Adaptive), false),
];

#[derive(Clone, Copy)]
enum Way {
    Bare(Waking),
    Runtime(Backend, IdlePolicy),
}

/// Microseconds of a trip: the median, and the first side's CPU time.
#[derive(Clone, Copy)]
struct Figures {
    median: f64,
    busy: f64,
}

/// Shard 1 sends back what shard 0 sends it; shard 0's times count.
#[derive(Clone)]
struct Messages {
    trips: u64,
}

impl Program for Messages {
    type Output = Took;

    async fn run<E: Env>(self, env: E) -> Took {
        let (mesh, other) = (env.mesh(), 1 - env.mesh().shard());
        let mut times = Vec::with_capacity(self.trips as usize);
        let warm_up = self.trips / 4;
        let mut begun = (env.now(), busy_time().expect("the thread's time"));
        for number in 0..warm_up + self.trips {
            if number == warm_up {
                begun = (env.now(), busy_time().expect("as above"));
                times.clear();
            }
            let start = env.now();
            if other == 0 {
                mesh.receive().await;
                mesh.send(other, Box::new(())).await;
            } else {
                mesh.send(other, Box::new(())).await;
                mesh.receive().await;
            }
            times.push(env.now() - start);
        }
        let (elapsed, busy) = (env.now() - begun.0, busy_time().expect("as above") - begun.1);
        Took::new(elapsed, busy, times)
    }
}

/// One measurement, in a process of its own.
fn measure_here(variant: usize) {
    let (_, way, sleeps) = VARIANTS[variant];
    let trips = TRIPS[usize::from(!sleeps)];
    let took = match way {
        Way::Bare(waking) => waking.measure(trips, [0, 1]).expect("rings are allowed here"),
        Way::Runtime(backend, idle_policy) => {
            let options =
                RuntimeOptions { shards: 2, backend, idle_policy, ..RuntimeOptions::default() };
            let runtime = Runtime::start(options, Messages { trips }).expect("it starts");
            let mut shards = runtime.join().into_iter();
            shards.next().expect("two shards").expect("no shard panics")
        }
    };
    let each = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{} {}", each(took.median), each(took.busy) / trips as f64);
}

fn measure(variant: usize) -> Figures {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .args(["--measure", &variant.to_string()])
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("no figures: {output:?}"));
    let mut number = || word().parse().expect("a number");
    Figures { median: number(), busy: number() }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, variant] = &arguments[..]
        && flag == "--measure"
    {
        return measure_here(variant.parse().expect("the number of a variant"));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let rounds = std::env::var("WOODCHUCK_BENCH_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(15).max(1);
    let variants: Vec<usize> = (0..VARIANTS.len()).collect();
    let figures = by_turns(&variants, rounds, measure);
    println!("| there and back | p50 us | ratio | CPU us | ratio |");
    println!("|---|---|---|---|---|");
    for ((name, ..), taken) in VARIANTS.iter().zip(&figures) {
        let middle = |of: fn(&Figures) -> f64| median(taken.iter().map(of));
        let ratio = |of: fn(&Figures) -> f64| {
            median(taken.iter().zip(&figures[1]).map(|(one, base)| of(one) / of(base)))
        };
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} |",
            middle(|one| one.median),
            ratio(|one| one.median),
            middle(|one| one.busy),
            ratio(|one| one.busy),
        );
    }
}
