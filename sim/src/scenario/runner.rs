//! Plays a scenario: lets the world and the plans take turns, and looks at the properties.

use std::ops::Range;
use std::time::Duration;

use futures_util::task::noop_waker_ref;

use super::director::Agenda;
use super::run::{Run, RunOptions, Verdict};
use super::stage::Stage;
use super::{Observer, Scenario, Violation};
use crate::limits::ALWAYS_EVENTS;
use crate::world::Advance;
use crate::{World, WorldOptions};

/// Lines of the trace that a run with a chronicle tells.
const TRACE_LINES: usize = 200;

/// Plays a scenario.
pub(super) fn run(scenario: &Scenario, options: &RunOptions) -> Run {
    play(scenario, options, None).0
}

/// Plays a scenario, and keeps all of a window of its events if there is one.
pub(super) fn play(
    scenario: &Scenario,
    options: &RunOptions,
    trace_window: Option<Range<u64>>,
) -> (Run, World) {
    let faults = options.faults();
    let world = World::with_options(WorldOptions {
        faults: faults.clone(),
        tape: options.tape.clone(),
        record: options.record,
        chronicle: options.chronicle,
        trace_window,
        ..WorldOptions::new(options.seed)
    });
    let mut stage = Stage::new(world.clone(), options.regime);
    (scenario.build)(&mut stage);
    let properties = stage
        .always
        .iter()
        .map(|(name, _)| *name)
        .chain(stage.eventually.iter().map(|(name, ..)| *name))
        .collect();
    let observer = stage.observer.clone();
    let stopped = Runner { until: options.until, looked: 0, idle: false, stage }.play().is_err();
    let told = observer.told();
    let verdict = match (told.violation, told.inconclusive) {
        (Some(violation), _) => Verdict::Failed(Box::new(violation)),
        (None, _) if stopped => Verdict::Stopped,
        (None, Some(why)) => Verdict::Inconclusive(why),
        (None, None) => Verdict::Passed,
    };
    let run = Run {
        scenario: scenario.name,
        seed: world.seed(),
        verdict,
        elapsed: world.now(),
        trace_hash: world.trace_hash(),
        faults,
        policy: world.policy(),
        drawn: told.drawn,
        marks: told.marks,
        counts: told.counts,
        properties,
        statistics: world.statistics(),
        tape: options.record.then(|| world.tape()),
        chronicle: options.chronicle.then(|| world.chronicle()),
        trace: if options.chronicle { world.trace(TRACE_LINES) } else { String::new() },
    };
    (run, world)
}

/// The run has come to its end before its time.
struct Ended;

struct Runner {
    stage: Stage,
    until: Option<Duration>,
    /// Events at the latest look at what always holds.
    looked: u64,
    /// Nothing would have happened any more when time was last let pass.
    idle: bool,
}

impl Runner {
    fn play(mut self) -> Result<(), Ended> {
        self.stage.set_links();
        self.stage.services.start_all(&self.stage.world);
        let limits = self.stage.limits;
        // Without plans, nothing has to be recovered from.
        let recovery = if self.stage.plans.is_empty() { limits.time } else { limits.recovery };
        self.play_plans()?;
        let services = std::rc::Rc::clone(&self.stage.services);
        if !self.pass(recovery, &mut || services.bots_are_done())? {
            if self.idle {
                return self.deadlocked();
            }
            let left = services.bots_left();
            let text = format!("{left} bots have not come to their end within {recovery:?}");
            return self.violated("bots-finish", text);
        }
        for (name, within, mut holds) in std::mem::take(&mut self.stage.eventually) {
            if !self.pass(within, &mut holds)? {
                return self.violated(name, format!("it has not come true within {within:?}"));
            }
        }
        self.look_always()?;
        for verification in std::mem::take(&mut self.stage.verifications) {
            verification(&self.stage.observer);
            self.check_observer()?;
        }
        Ok(())
    }

    /// Lets the plans and the world take turns until all plans have ended.
    fn play_plans(&mut self) -> Result<(), Ended> {
        let mut plans = std::mem::take(&mut self.stage.plans);
        let agenda = std::rc::Rc::clone(&self.stage.agenda);
        loop {
            let mut context = std::task::Context::from_waker(noop_waker_ref());
            plans.retain_mut(|plan| plan.as_mut().poll(&mut context).is_pending());
            self.check_observer()?;
            if plans.is_empty() {
                return Ok(());
            }
            let now = self.stage.world.now();
            let next = agenda.next().unwrap_or(Duration::MAX);
            self.pass_until(now, next, &agenda)?;
        }
    }

    /// Lets time pass until a plan can go on.
    fn pass_until(&mut self, now: Duration, next: Duration, agenda: &Agenda) -> Result<(), Ended> {
        self.pass(next.saturating_sub(now), &mut || agenda.look()).map(|_| ())
    }

    /// Lets time pass until a condition holds, but at most so long. Gives whether it holds.
    fn pass(
        &mut self,
        within: Duration,
        condition: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Ended> {
        let world = self.stage.world.clone();
        let start = world.now();
        let end = start.saturating_add(within);
        let last = self.until.unwrap_or(Duration::MAX).min(self.stage.limits.time);
        loop {
            let slice = world.steps() + ALWAYS_EVENTS;
            let observer: &Observer = &self.stage.observer;
            let advanced = world.advance(end.min(last), &mut || {
                condition() || observer.has_violation() || world.steps() >= slice
            });
            self.check_observer()?;
            self.idle = matches!(advanced, Ok(Advance::Idle));
            match advanced {
                Err(failure) => {
                    let violation = Violation::of(&failure, world.steps());
                    self.stage.observer.take(violation);
                    return Err(Ended);
                }
                Ok(Advance::Idle) if end >= last && self.until.is_none() => {
                    return self.deadlocked();
                }
                Ok(Advance::Idle | Advance::Time) if world.now() >= last => return self.cut(),
                Ok(Advance::Idle | Advance::Time) => return Ok(condition()),
                Ok(Advance::Met) => {
                    if world.steps() >= self.looked + ALWAYS_EVENTS {
                        self.looked = world.steps();
                        self.look_always()?;
                        self.check_limits()?;
                    }
                    if condition() {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Nothing can ever happen again.
    fn deadlocked<T>(&self) -> Result<T, Ended> {
        let world = &self.stage.world;
        let violation = Violation::of(&world.deadlock(), world.steps());
        self.stage.observer.take(violation);
        Err(Ended)
    }

    /// The run's time is over.
    fn cut(&self) -> Result<bool, Ended> {
        let limit = self.stage.limits.time;
        if self.until.is_none_or(|until| until > limit) {
            return self.violated("time-limit", format!("the run takes longer than {limit:?}"));
        }
        Err(Ended)
    }

    fn check_limits(&self) -> Result<(), Ended> {
        let limits = self.stage.limits;
        if self.stage.world.steps() > limits.steps {
            let text = format!("the run takes more than {} events", limits.steps);
            return self.violated("step-limit", text);
        }
        if let Some(inactivity) = limits.inactivity {
            let progressed = self.stage.observer.progressed();
            if self.stage.world.now() > progressed + inactivity {
                let text = format!("nothing was achieved since {progressed:?}");
                return self.violated("inactivity-limit", text);
            }
        }
        Ok(())
    }

    fn look_always(&self) -> Result<(), Ended> {
        for (name, holds) in &self.stage.always {
            if let Err(explanation) = holds() {
                return self.violated(name, explanation);
            }
        }
        Ok(())
    }

    fn check_observer(&self) -> Result<(), Ended> {
        if self.stage.observer.has_violation() { Err(Ended) } else { Ok(()) }
    }

    fn violated<T>(&self, property: &str, explanation: String) -> Result<T, Ended> {
        self.stage.observer.violated(property, explanation);
        Err(Ended)
    }
}
