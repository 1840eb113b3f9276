//! Plans: what strikes a world, as code that waits and acts.
//!
//! A plan is a future that is not part of the world: it holds it. Its waits are kept in an agenda
//! that the runner looks at between two events.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Observer;
use super::stage::Services;
use crate::site::Site;
use crate::{MachineId, World};

/// A plan under way.
pub(super) type Plan = Pin<Box<dyn Future<Output = ()>>>;

/// What plans wait for.
#[derive(Default)]
pub(super) struct Agenda {
    wants: RefCell<Vec<Rc<Want>>>,
}

/// One thing that a plan waits for: a time or a condition, whichever comes first.
struct Want {
    at: Duration,
    condition: RefCell<Box<dyn FnMut() -> bool>>,
    met: Cell<bool>,
}

impl Agenda {
    /// Looks at all conditions. Whether any plan can go on.
    pub(super) fn look(&self) -> bool {
        let mut any = false;
        for want in &*self.wants.borrow() {
            if !want.met.get() && (want.condition.borrow_mut())() {
                want.met.set(true);
            }
            any |= want.met.get();
        }
        any
    }

    /// The time at which the first plan can go on whatever happens.
    pub(super) fn next(&self) -> Option<Duration> {
        self.wants.borrow().iter().map(|want| want.at).min()
    }
}

/// Waits for a time or a condition. Gives whether the condition came first.
struct Wait {
    agenda: Rc<Agenda>,
    world: World,
    want: Rc<Want>,
}

impl Future for Wait {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<bool> {
        if self.want.met.get() {
            return Poll::Ready(true);
        }
        if self.world.now() >= self.want.at { Poll::Ready(false) } else { Poll::Pending }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.agenda.wants.borrow_mut().retain(|want| !Rc::ptr_eq(want, &self.want));
    }
}

/// What a plan acts through. Clones are the same director.
#[derive(Clone)]
pub struct Director {
    pub(super) world: World,
    pub(super) observer: Observer,
    pub(super) agenda: Rc<Agenda>,
    pub(super) services: Rc<Services>,
    /// Tells the choices of several plans apart.
    pub(super) plan: u32,
}

impl Director {
    /// The world, with all that may be done to it.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Hears what the plan has to say.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.observer
    }

    /// A number below `range`; 0 should be the harmless one.
    #[must_use]
    pub fn choose(&self, range: u64) -> u64 {
        self.world.choose(Site::Plan, self.plan, range)
    }

    /// A duration in this range, to the microsecond.
    #[must_use]
    pub fn duration(&self, range: Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start).as_micros();
        let span = u64::try_from(span).unwrap_or(u64::MAX).clamp(1, 1 << 32);
        range.start + Duration::from_micros(self.choose(span))
    }

    fn wait(&self, at: Duration, condition: impl FnMut() -> bool + 'static) -> Wait {
        let condition = RefCell::new(Box::new(condition) as Box<dyn FnMut() -> bool>);
        let want = Rc::new(Want { at, condition, met: Cell::new(false) });
        self.agenda.wants.borrow_mut().push(Rc::clone(&want));
        Wait { agenda: Rc::clone(&self.agenda), world: self.world.clone(), want }
    }

    /// Lets time pass.
    pub async fn sleep(&self, duration: Duration) {
        self.wait(self.world.now() + duration, || false).await;
    }

    /// Lets time pass until `condition` holds, but at most so long. Gives whether it holds.
    pub async fn until(&self, within: Duration, condition: impl FnMut() -> bool + 'static) -> bool {
        self.wait(self.world.now() + within, condition).await
    }

    /// As [`until`](Self::until), and a violation of `property` if the condition does not come to
    /// hold.
    pub async fn expect(
        &self,
        property: &'static str,
        within: Duration,
        condition: impl FnMut() -> bool + 'static,
    ) {
        if !self.until(within, condition).await {
            self.observer.violated(property, format!("it has not come true within {within:?}"));
            self.halt().await;
        }
    }

    /// Waits for the run to end, which it does after a violation.
    pub async fn halt(&self) {
        std::future::pending().await
    }

    /// Waits until every bot has come to its end, within `within`; else liveness is violated.
    pub async fn expect_bots(&self, within: Duration) {
        let services = Rc::clone(&self.services);
        if !self.until(within, move || services.bots_are_done()).await {
            let left = self.services.bots_left();
            self.observer.violated(
                "bots-finish",
                format!("{left} bots have not come to their end within {within:?} without faults"),
            );
            self.halt().await;
        }
    }

    /// Says that nobody is to wait for the bots any more.
    pub fn dismiss_bots(&self) {
        self.services.dismiss_bots();
    }

    /// Starts the machine's service, if it does not run.
    pub fn start(&self, machine: MachineId) {
        if !self.world.is_running(machine) {
            self.services.start(&self.world, machine);
        }
    }

    /// Stops the machine's process as an administrator does, and waits until it is gone, which it
    /// must be within `grace`.
    pub async fn stop(&self, machine: MachineId, grace: Duration) {
        self.world.stop(machine);
        let world = self.world.clone();
        if !self.until(grace, move || !world.is_running(machine)).await {
            let name = self.world.name(machine);
            self.observer.violated_on(
                &name,
                "stops-gracefully",
                format!("asked to stop, it still runs after {grace:?}"),
            );
            self.halt().await;
        }
    }
}
