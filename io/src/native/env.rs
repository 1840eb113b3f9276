//! The environment of a shard in production.

use std::future::Future;
use std::rc::Rc;
use std::time::SystemTime;

use super::calls;
use super::core::Core;
use super::disk::NativeDisk;
use super::driver::Driver;
use super::mesh::MeshEnd;
use super::net::NativeNet;
use super::timers::Sleep;
use crate::executor::YieldNow;
use crate::{Env, Group, Monotonic, RandomStream, Task, WallTime};

/// The world as a shard in production sees it, through the driver `D`.
pub(crate) struct NativeEnv<D: Driver> {
    core: Rc<Core<D>>,
    group: Group,
    disk: NativeDisk<D>,
    net: NativeNet<D>,
}

impl<D: Driver> NativeEnv<D> {
    pub(crate) fn new(core: &Rc<Core<D>>, group: Group) -> Self {
        let (disk, net) = (NativeDisk::new(core, group), NativeNet::new(core));
        Self { core: Rc::clone(core), group, disk, net }
    }
}

impl<D: Driver> Clone for NativeEnv<D> {
    fn clone(&self) -> Self {
        Self::new(&self.core, self.group)
    }
}

impl<D: Driver> Env for NativeEnv<D> {
    type Disk = NativeDisk<D>;
    type Net = NativeNet<D>;
    type Mesh = MeshEnd;

    fn disk(&self) -> &NativeDisk<D> {
        &self.disk
    }

    fn net(&self) -> &NativeNet<D> {
        &self.net
    }

    fn mesh(&self) -> &MeshEnd {
        &self.core.mesh
    }

    fn now(&self) -> Monotonic {
        self.core.timers.now()
    }

    fn wall(&self) -> WallTime {
        let milliseconds = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        WallTime::from_millis(milliseconds)
    }

    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static {
        Sleep::new(Rc::clone(&self.core.timers), deadline)
    }

    fn random(&self, _name: &'static str) -> RandomStream {
        RandomStream::from_seed(calls::random_seed())
    }

    fn spawn<F>(&self, _name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.core.executor.spawn_in(self.group, future)
    }

    fn in_group(&self, group: Group) -> Self {
        Self::new(&self.core, group)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        YieldNow::default()
    }

    fn stopping(&self) -> impl Future<Output = ()> + 'static {
        self.core.stopping()
    }
}
