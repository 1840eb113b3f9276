//! The seam, simulated: one shard's view of the world.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use woodchuck_io::{Env, Group, Monotonic, RandomStream, Task, WallTime};

use crate::choice::scramble;
use crate::disk::SimDisk;
use crate::mesh::SimMesh;
use crate::net::SimNet;
use crate::shard::{Handle, Yield};
use crate::slab::Key;

/// One shard's view of the simulated world.
///
/// It may outlive its process, if a test keeps it; then clocks still tell the time, and everything
/// else never completes.
#[derive(Clone)]
pub struct SimEnv {
    pub(crate) handle: Rc<Handle>,
    disk: SimDisk,
    net: SimNet,
    mesh: SimMesh,
}

impl SimEnv {
    pub(crate) fn new(handle: Rc<Handle>) -> Self {
        Self {
            disk: SimDisk(Rc::clone(&handle)),
            net: SimNet(Rc::clone(&handle)),
            mesh: SimMesh(Rc::clone(&handle)),
            handle,
        }
    }
}

impl SimEnv {
    /// Says with which code the process exits once all its shards have returned. The first code
    /// that is not 0 counts; a process that says nothing exits with 0.
    pub fn set_exit_code(&self, code: i32) {
        self.handle.process(|process, _| {
            if process.code == 0 {
                process.code = code;
            }
        });
    }
}

impl Env for SimEnv {
    type Disk = SimDisk;
    type Net = SimNet;
    type Mesh = SimMesh;

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn net(&self) -> &SimNet {
        &self.net
    }

    fn mesh(&self) -> &SimMesh {
        &self.mesh
    }

    fn now(&self) -> Monotonic {
        self.handle.local.count_visit();
        let (machine, node) = (self.handle.machine as usize, self.handle.node);
        let alive = self.handle.alive();
        self.handle.with(|core| {
            let clock = &mut core.machines[machine].clock;
            if alive {
                clock.read_monotonic(&mut core.kernel, node)
            } else {
                clock.monotonic(core.kernel.now)
            }
        })
    }

    fn wall(&self) -> WallTime {
        let (machine, node) = (self.handle.machine as usize, self.handle.node);
        let alive = self.handle.alive();
        self.handle.with(|core| {
            let clock = &mut core.machines[machine].clock;
            if alive {
                clock.read_wall(&mut core.kernel, node)
            } else {
                clock.wall(core.kernel.now)
            }
        })
    }

    fn sleep_until(&self, deadline: Monotonic) -> impl Future<Output = ()> + 'static {
        Sleep { handle: Rc::clone(&self.handle), deadline, timer: None }
    }

    fn random(&self, name: &'static str) -> RandomStream {
        let Handle { shared, local, machine, shard, .. } = &*self.handle;
        let mut streams = local.streams.borrow_mut();
        let count = streams.entry(name).or_default();
        *count += 1;
        let starts = shared.with(|core| core.machines[*machine as usize].starts);
        let parts = [u64::from(*machine), u64::from(starts), *shard as u64, *count];
        let name = name.bytes().map(u64::from);
        let mut state = parts.into_iter().chain(name).fold(shared.seed, |state, part| {
            scramble(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ part)
        });
        let mut seed = [0; 32];
        for word in seed.chunks_exact_mut(8) {
            state = scramble(state.wrapping_add(0x9E37_79B9_7F4A_7C15));
            word.copy_from_slice(&state.to_le_bytes());
        }
        RandomStream::from_seed(seed)
    }

    fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.handle.local.spawn(name, future)
    }

    /// Groups are about time, and here any order may happen.
    fn in_group(&self, _group: Group) -> Self {
        self.clone()
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        Yield::new(Rc::clone(&self.handle.local))
    }

    fn stopping(&self) -> impl Future<Output = ()> + 'static {
        let handle = Rc::clone(&self.handle);
        async move {
            let Handle { stop, local, .. } = &*handle;
            while !stop.asked.get() {
                // Nothing runs between the check and the listening: there is one thread.
                let mut asked = pin!(stop.signal.listen());
                poll_fn(|context| local.waits("being asked to stop", asked.as_mut().poll(context)))
                    .await;
            }
        }
    }
}

/// A sleeping task. Always waits at least once, so that a loop around it cannot hold the core.
struct Sleep {
    handle: Rc<Handle>,
    deadline: Monotonic,
    timer: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let (node, machine) = (this.handle.node, this.handle.machine as usize);
        let fired = this.handle.if_alive(|core| {
            if let Some(timer) = this.timer {
                let state = core.kernel.timers.get_mut(timer).expect("a sleeper has its timer");
                if !state.fired {
                    state.waker.clone_from(&Some(context.waker().clone()));
                }
                return state.fired;
            }
            let (clock, waker) = (&core.machines[machine].clock, context.waker().clone());
            this.timer = Some(core.kernel.start_timer(node, this.deadline, clock, waker));
            false
        });
        if fired == Some(true) {
            return Poll::Ready(());
        }
        this.handle.local.note_wait("a timer", Some(this.deadline.as_nanos()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.handle.with(|core| core.kernel.drop_timer(timer));
        }
    }
}
