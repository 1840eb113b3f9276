//! The stage: what a scenario sets for one seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Env as _, Program};

use super::Observer;
use super::director::{Agenda, Director, Plan};
use crate::choice::scramble;
use crate::env::SimEnv;
use crate::faults::Regime;
use crate::site::Site;
use crate::{LinkProfile, MachineId, World};

/// When a run is called too long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// World time of a run.
    pub time: Duration,
    /// Events of a run.
    pub steps: u64,
    /// World time without [`Observer::progress`], if anything is to be seen as being stuck.
    pub inactivity: Option<Duration>,
    /// World time that bots may take to come to their ends once the plans have ended.
    pub recovery: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(24 * 3600),
            steps: 200_000_000,
            inactivity: None,
            recovery: Duration::from_secs(300),
        }
    }
}

/// Starts a process of a world.
type Start = Rc<dyn Fn(&World)>;

/// What a bot does.
type Bot = Rc<dyn Fn(SimEnv) -> Pin<Box<dyn Future<Output = ()>>>>;

/// All that runs on machines.
#[derive(Default)]
pub(super) struct Services {
    starts: RefCell<BTreeMap<MachineId, Start>>,
    bots: RefCell<BTreeMap<MachineId, Vec<(&'static str, Bot)>>>,
    bots_done: Rc<Cell<usize>>,
}

impl Services {
    pub(super) fn start(&self, world: &World, machine: MachineId) {
        let start = self.starts.borrow().get(&machine).cloned();
        let start = start.unwrap_or_else(|| panic!("no service was set for this machine"));
        start(world);
    }

    /// Starts all services and then all bots.
    pub(super) fn start_all(&self, world: &World) {
        let starts: Vec<Start> = self.starts.borrow().values().cloned().collect();
        starts.iter().for_each(|start| start(world));
        for (&machine, bots) in &*self.bots.borrow() {
            let (bots, done) = (Rc::new(bots.clone()), Rc::clone(&self.bots_done));
            world.start(machine, 1, move |env| {
                for (name, bot) in &*bots {
                    let (running, done) = (bot(env.clone()), Rc::clone(&done));
                    let task = async move {
                        running.await;
                        done.set(done.get().saturating_add(1));
                    };
                    env.spawn(name, task).detach();
                }
                std::future::pending()
            });
        }
    }

    pub(super) fn bots_left(&self) -> usize {
        let all: usize = self.bots.borrow().values().map(Vec::len).sum();
        all.saturating_sub(self.bots_done.get())
    }

    pub(super) fn dismiss_bots(&self) {
        self.bots_done.set(usize::MAX);
    }

    pub(super) fn bots_are_done(&self) -> bool {
        self.bots_left() == 0
    }
}

/// A property that always holds.
pub(super) type Always = Box<dyn Fn() -> Result<(), String>>;

/// A property that comes to hold: its name, within which time, and whether it does.
pub(super) type Eventually = (&'static str, Duration, Box<dyn FnMut() -> bool>);

/// What is looked at in the end.
pub(super) type Verification = Box<dyn FnOnce(&Observer)>;

/// What a scenario sets for one seed.
pub struct Stage {
    pub(super) world: World,
    pub(super) observer: Observer,
    pub(super) regime: Regime,
    pub(super) services: Rc<Services>,
    pub(super) agenda: Rc<Agenda>,
    pub(super) plans: Vec<Plan>,
    pub(super) always: Vec<(&'static str, Always)>,
    pub(super) eventually: Vec<Eventually>,
    pub(super) verifications: Vec<Verification>,
    pub(super) limits: Limits,
    networks: BTreeMap<&'static str, Vec<MachineId>>,
    links: Vec<(&'static str, &'static str, LinkProfile)>,
}

impl Stage {
    pub(super) fn new(world: World, regime: Regime) -> Self {
        Self {
            observer: Observer::new(world.downgrade()),
            world,
            regime,
            services: Rc::default(),
            agenda: Rc::default(),
            plans: Vec::new(),
            always: Vec::new(),
            eventually: Vec::new(),
            verifications: Vec::new(),
            limits: Limits::default(),
            networks: BTreeMap::new(),
            links: Vec::new(),
        }
    }

    /// The world. Nothing that runs in it may hold it.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Which faults there may be.
    #[must_use]
    pub const fn regime(&self) -> Regime {
        self.regime
    }

    /// Hears what services and bots have to say. Tasks may hold it.
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// A number below `range`, drawn for this name, and told in the run's result. 0 should be the
    /// simplest one. Names do not move each other.
    #[must_use]
    pub fn draw(&self, name: &'static str, range: u64) -> u64 {
        let value = self.draw_nth(name, 0, range);
        self.observer.drew(name, value);
        value
    }

    /// As [`draw`](Self::draw), for one of several things that are alike.
    #[must_use]
    pub fn draw_nth(&self, name: &'static str, nth: u64, range: u64) -> u64 {
        let node = name.bytes().fold(nth, |hash, byte| scramble(hash ^ u64::from(byte)));
        self.world.choose(Site::Workload, node as u32, range)
    }

    /// The machine with this name, made when first named.
    #[must_use]
    pub fn machine(&self, name: &str) -> MachineId {
        self.world.machine(name)
    }

    /// Puts machines into a network, which is made when first named.
    pub fn network(&mut self, name: &'static str, machines: &[MachineId]) {
        self.networks.entry(name).or_default().extend(machines);
    }

    /// Links every machine of one network with every one of another, or with the others of its own,
    /// both ways. It is done when the run begins, so the order does not matter.
    pub fn link(&mut self, one: &'static str, other: &'static str, profile: LinkProfile) {
        self.links.push((one, other, profile));
    }

    /// Links the networks.
    pub(super) fn set_links(&self) {
        let of = |name| {
            let network = self.networks.get(name);
            network.unwrap_or_else(|| panic!("no machine was put into a network \"{name}\""))
        };
        for &(one, other, profile) in &self.links {
            for &from in of(one) {
                for &to in of(other).iter().filter(|&&to| to != from) {
                    self.world.set_link(from, to, profile);
                }
            }
        }
    }

    /// Sets what a machine runs. It is started when the run begins, and by plans.
    pub fn service<M, F>(&mut self, machine: MachineId, shards: usize, main: M)
    where
        M: Fn(SimEnv) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        let main = Rc::new(main);
        let start: Start = Rc::new(move |world: &World| {
            let main = Rc::clone(&main);
            world.start(machine, shards, move |env| main(env));
        });
        self.services.starts.borrow_mut().insert(machine, start);
    }

    /// Sets what a machine runs. `judge` is told what each shard returned, and says what is wrong
    /// with that.
    pub fn program<P: Program>(
        &mut self,
        machine: MachineId,
        shards: usize,
        program: P,
        judge: impl Fn(usize, P::Output) + 'static,
    ) {
        let judge = Rc::new(judge);
        let start: Start = Rc::new(move |world: &World| {
            let judge = Rc::clone(&judge);
            world.start_program(machine, shards, program.clone(), move |shard, output| {
                judge(shard, output);
            });
        });
        self.services.starts.borrow_mut().insert(machine, start);
    }

    /// Adds a bot. All bots of a machine run as tasks of one process with one shard.
    pub fn bot<F>(
        &mut self,
        machine: MachineId,
        name: &'static str,
        bot: impl Fn(SimEnv) -> F + 'static,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let bot: Bot = Rc::new(move |env| Box::pin(bot(env)));
        self.services.bots.borrow_mut().entry(machine).or_default().push((name, bot));
    }

    /// Adds a plan. Plans run beside each other.
    pub fn plan<F>(&mut self, plan: impl FnOnce(Director) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let director = Director {
            world: self.world.clone(),
            observer: self.observer.clone(),
            agenda: Rc::clone(&self.agenda),
            services: Rc::clone(&self.services),
            plan: self.plans.len() as u32,
        };
        self.plans.push(Box::pin(plan(director)));
    }

    /// Adds a property that always holds. The error says what is the case instead.
    pub fn always(&mut self, name: &'static str, holds: impl Fn() -> Result<(), String> + 'static) {
        self.always.push((name, Box::new(holds)));
    }

    /// Adds a property that comes to hold within a time after the last plan has ended.
    pub fn eventually(
        &mut self,
        name: &'static str,
        within: Duration,
        holds: impl FnMut() -> bool + 'static,
    ) {
        self.eventually.push((name, within, Box::new(holds)));
    }

    /// Declares a mark that some world of a campaign must hit.
    pub fn sometimes(&mut self, mark: &'static str) {
        self.observer.declare(mark);
    }

    /// Adds what is looked at once everything is over.
    pub fn verify(&mut self, verification: impl FnOnce(&Observer) + 'static) {
        self.verifications.push(Box::new(verification));
    }

    /// Says when a run is too long.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }
}
