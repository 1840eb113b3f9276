//! What services, bots and plans say about a run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::Violation;
use crate::check;
use crate::chronicle::OperationId;
use crate::machine::MachineId;
use crate::world::WeakWorld;

/// Trace lines kept with a violation.
const TRACE_LINES: usize = 60;

/// Hears what services, bots and plans have to say about a run. Clones are the same observer. Tasks
/// may hold it: it does not keep the world alive.
#[derive(Clone)]
pub struct Observer(Rc<Observed>);

struct Observed {
    world: WeakWorld,
    violated: Cell<bool>,
    progressed: Cell<Duration>,
    told: RefCell<Told>,
}

/// All that an observer was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) violation: Option<Violation>,
    /// How often each declared mark was hit.
    pub(super) marks: BTreeMap<&'static str, u64>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) drawn: BTreeMap<&'static str, u64>,
    pub(super) inconclusive: Option<String>,
}

impl Observer {
    pub(super) fn new(world: WeakWorld) -> Self {
        Self(Rc::new(Observed {
            world,
            violated: Cell::new(false),
            progressed: Cell::new(Duration::ZERO),
            told: RefCell::default(),
        }))
    }

    /// A mark was hit.
    ///
    /// # Panics
    /// If the stage did not declare it: then nobody would notice that it is never hit.
    pub fn hit(&self, mark: &'static str) {
        let mut told = self.0.told.borrow_mut();
        let Some(count) = told.marks.get_mut(mark) else {
            panic!("no mark \"{mark}\" is declared")
        };
        *count += 1;
    }

    /// Adds to a number that the run's result tells.
    pub fn count(&self, what: &'static str, by: u64) {
        *self.0.told.borrow_mut().counts.entry(what).or_default() += by;
    }

    /// Tells the chronicle, if one is kept, that a client begins something. Give the text as
    /// `format_args!`: without a chronicle it is not even made.
    pub fn operation(
        &self,
        machine: MachineId,
        client: u32,
        text: impl fmt::Display,
    ) -> OperationId {
        let world = self.0.world.upgrade();
        world.map_or_else(OperationId::default, |world| world.operation(machine, client, text))
    }

    /// Tells what came of a client's operation. Reports go by its first word: `ok` and `answered` are
    /// good, `unknown` says that it may or may not have happened, and anything else that it did not.
    pub fn operation_ended(&self, operation: OperationId, outcome: impl fmt::Display) {
        if let Some(world) = self.0.world.upgrade() {
            world.operation_ended(operation, outcome);
        }
    }

    /// Something was achieved: not before [`Limits::inactivity`](super::Limits) from now is the run
    /// called stuck.
    pub fn progress(&self) {
        if let Some(world) = self.0.world.upgrade() {
            self.0.progressed.set(world.now());
        }
    }

    /// A property does not hold. The run ends with the first violation.
    pub fn violated(&self, property: &str, explanation: impl Into<String>) {
        self.report(property, None, explanation.into());
    }

    /// A property does not hold, as seen on a machine.
    pub fn violated_on(&self, machine: &str, property: &str, explanation: impl Into<String>) {
        self.report(property, Some(machine.to_owned()), explanation.into());
    }

    /// Reports a violation unless `holds`.
    pub fn require(&self, property: &str, holds: bool, explanation: impl FnOnce() -> String) {
        if !holds {
            self.report(property, None, explanation());
        }
    }

    /// The run cannot say whether a property holds: a checker ran out of its budget.
    pub fn inconclusive(&self, why: impl Into<String>) {
        self.0.told.borrow_mut().inconclusive.get_or_insert(why.into());
    }

    /// What a checker says. A violation tells all anomalies; without a name for the property, that
    /// of the first one's kind stands for it.
    pub fn judge(&self, property: &str, verdict: &check::Verdict) {
        match verdict {
            check::Verdict::Holds => {}
            check::Verdict::Violated(anomalies) => {
                let kind = anomalies.first().map_or("violated", |anomaly| anomaly.kind);
                let property = if property.is_empty() { kind } else { property };
                self.violated(property, lines(anomalies));
            }
            check::Verdict::Inconclusive { why } if property.is_empty() => {
                self.inconclusive(why.as_str());
            }
            check::Verdict::Inconclusive { why } => {
                self.inconclusive(format!("{property}: {why}"));
            }
        }
    }

    /// A property holds if all of these comparisons do. A violation tells those that do not.
    pub fn verify(&self, property: &str, checks: &[check::Check]) {
        let failed = checks.iter().filter(|check| !check.passed());
        let explanation = lines(failed);
        self.require(property, explanation.is_empty(), || explanation);
    }

    fn report(&self, property: &str, machine: Option<String>, explanation: String) {
        self.0.violated.set(true);
        let world = self.0.world.upgrade();
        let now = world.as_ref().map_or(Duration::ZERO, crate::World::now);
        let step = world.as_ref().map_or(0, crate::World::steps);
        let trace = world.map_or_else(String::new, |world| world.trace(TRACE_LINES));
        let property = property.to_owned();
        let violation = Violation { property, time: now, step, machine, explanation, trace };
        self.0.told.borrow_mut().violation.get_or_insert(violation);
    }

    pub(super) fn take(&self, violation: Violation) {
        self.0.violated.set(true);
        self.0.told.borrow_mut().violation.get_or_insert(violation);
    }

    /// Whether any property was violated.
    #[must_use]
    pub fn has_violation(&self) -> bool {
        self.0.violated.get()
    }

    pub(super) fn progressed(&self) -> Duration {
        self.0.progressed.get()
    }

    pub(super) fn declare(&self, mark: &'static str) {
        self.0.told.borrow_mut().marks.entry(mark).or_default();
    }

    pub(super) fn drew(&self, name: &'static str, value: u64) {
        self.0.told.borrow_mut().drawn.insert(name, value);
    }

    pub(super) fn told(&self) -> Told {
        self.0.told.take()
    }
}

fn lines(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let lines: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    lines.join("\n")
}
