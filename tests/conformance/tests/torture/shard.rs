//! What each shard does: it starts operations and does with their futures what can be done.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use woodchuck_conformance::{pattern_of, patterned};
use woodchuck_io::{
    Buffer, Disk, Env, Group, Listener, Mesh, Net, Parcel, Program, RandomStream, Task,
};

use super::files::{BLOCK, Model, POISON, Target};
use super::ledger::Ledger;
use super::streams::{self, poll_times};

/// Futures that are kept without being waited for.
const KEPT: usize = 40;

/// Steps after which a shard takes a new file.
const STEPS_OF_A_FILE: u64 = 300;

/// What a shard says that ended because another did.
pub(crate) const ANOTHER_PANICKED: &str = "another shard panicked";

/// The torture of one runtime.
#[derive(Clone)]
pub(crate) struct Torture {
    directory: PathBuf,
    seed: u64,
    steps: u64,
    ledger: Ledger,
}

impl Torture {
    pub(crate) fn new(directory: &Path, seed: u64, steps: u64, ledger: Ledger) -> Self {
        Self { directory: directory.to_path_buf(), seed, steps, ledger }
    }
}

impl Program for Torture {
    /// What may stand in the files.
    type Output = Vec<Arc<Mutex<Model>>>;

    async fn run<E: Env>(self, env: E) -> Vec<Arc<Mutex<Model>>> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8] = env.mesh().shard() as u8;
        let random = RandomStream::from_seed(seed);
        let stopping = pin!(env.stopping());
        let torture = pin!(async { Shard::new(env.clone(), self, random).await.run().await });
        match select(torture, stopping).await {
            Either::Left((models, _)) => models,
            // Nobody else asks to stop. Not to wait for mail from a shard that is gone.
            Either::Right(_) => panic!("{}", ANOTHER_PANICKED),
        }
    }
}

/// A parcel between shards.
enum Mail {
    /// One of a sequence, with memory that goes with it.
    Numbered(u64, Buffer),
    /// The sender will send no more; what it sent for sure.
    Last(BTreeSet<u64>),
}

type Kept = Pin<Box<dyn Future<Output = ()>>>;

struct Shard<E: Env> {
    env: E,
    options: Torture,
    random: RandomStream,
    address: std::net::SocketAddr,
    file: Target<<E::Disk as Disk>::File>,
    /// Those it used before. Detached operations may still be at them.
    former_files: Vec<Target<<E::Disk as Disk>::File>>,
    /// Numbers writes.
    next_write: Rc<Cell<u64>>,
    connections: u64,
    kept: Vec<Kept>,
    tasks: Vec<Task<()>>,
    /// Buffers that must keep what they hold, and the number that fills them.
    canaries: Vec<(u64, Buffer)>,
    mail: Vec<Rc<SentMail>>,
    receiver: Task<()>,
    acceptor: Task<()>,
}

/// What went to one shard.
#[derive(Default)]
struct SentMail {
    next: Cell<u64>,
    completed: std::cell::RefCell<BTreeSet<u64>>,
}

impl<E: Env> Shard<E> {
    async fn new(env: E, options: Torture, mut random: RandomStream) -> Self {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = env.net().listen(any).await.expect("listening");
        let address = listener.local_address();
        let next_write = Rc::new(Cell::new(1));
        let path = options.directory.join(format!("{}-0", env.mesh().shard()));
        let file = Target::create(&env, &path, &next_write).await;
        let receiver = env.spawn("receive", receive_mail(env.clone(), split(&mut random)));
        let (ledger, draws) = (options.ledger.clone(), split(&mut random));
        let acceptor = env.spawn("accept", serve(env.clone(), listener, ledger, draws));
        let mail = (0..env.mesh().shards()).map(|_| Rc::default()).collect();
        Self {
            env,
            options,
            random,
            address,
            file,
            former_files: Vec::new(),
            next_write,
            connections: 0,
            kept: Vec::new(),
            tasks: Vec::new(),
            canaries: Vec::new(),
            mail,
            receiver,
            acceptor,
        }
    }

    async fn run(mut self) -> Vec<Arc<Mutex<Model>>> {
        for step in 1..=self.options.steps {
            self.step().await;
            if step % STEPS_OF_A_FILE == 0 {
                self.change_file().await;
            }
        }
        self.end().await
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..10 => {
                let future = self.operation();
                self.treat(future).await;
            }
            10..13 => self.poll_a_kept_one().await,
            13..15 => {
                self.drop_a_kept_one();
            }
            15 => {
                if !self.tasks.is_empty() {
                    let index = self.random.below(self.tasks.len() as u64) as usize;
                    drop(self.tasks.swap_remove(index));
                }
            }
            16..18 => self.watch_memory(),
            _ => self.env.yield_now().await,
        }
    }

    /// An operation that nobody has polled yet.
    fn operation(&mut self) -> Kept {
        let random = split(&mut self.random);
        let env = self.env.clone();
        match self.random.below(10) {
            0..5 => Box::pin(self.file.clone().operate(random)),
            5 | 6 => {
                self.connections += 1;
                let number = (env.mesh().shard() as u64) << 32 | self.connections;
                let ledger = self.options.ledger.clone();
                Box::pin(streams::send(env, self.address, number, ledger, random))
            }
            7 | 8 => self.send_mail(random),
            _ => {
                let pause = Duration::from_micros(self.random.below(300));
                Box::pin(async move { env.sleep(pause).await })
            }
        }
    }

    fn send_mail(&mut self, mut random: RandomStream) -> Kept {
        let to = self.random.below(self.mail.len() as u64) as usize;
        let (mesh, sent) = (self.env.mesh().clone(), Rc::clone(&self.mail[to]));
        Box::pin(async move {
            // Bursts fill mailboxes, now and then.
            let burst = if random.below(20) == 0 { 600 } else { 1 + random.below(8) };
            for _ in 0..burst {
                let number = sent.next.get();
                sent.next.set(number + 1);
                let parcel: Parcel = Box::new(Mail::Numbered(number, patterned(BLOCK, number)));
                mesh.send(to, parcel).await;
                sent.completed.borrow_mut().insert(number);
            }
        })
    }

    /// Does one of the things that can be done with a future.
    async fn treat(&mut self, future: Kept) {
        let alive = self.options.ledger.task();
        let future: Kept = Box::pin(async move {
            let _alive = alive;
            future.await;
        });
        match self.random.below(8) {
            0 => drop(future),
            1 => {
                let times = 1 + self.random.below(4);
                drop(poll_times(&self.env, future, times).await);
            }
            2..5 => {
                let times = self.random.below(3);
                if let Err(future) = poll_times(&self.env, future, times).await {
                    if self.kept.len() == KEPT {
                        self.drop_a_kept_one();
                    }
                    self.kept.push(future);
                }
            }
            5 => self.env.spawn("detached", future).detach(),
            6 => {
                let task = self.env.spawn("held", future);
                self.tasks.push(task);
                if self.tasks.len() > KEPT {
                    self.tasks.remove(0).await;
                }
            }
            _ => future.await,
        }
    }

    async fn poll_a_kept_one(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let index = self.random.below(self.kept.len() as u64) as usize;
        let future = self.kept.swap_remove(index);
        let again = match self.random.below(4) {
            // To its end.
            0 => poll_times(&self.env, future, u64::MAX).await,
            times => poll_times(&self.env, future, times).await,
        };
        self.kept.extend(again.err());
    }

    fn drop_a_kept_one(&mut self) {
        if !self.kept.is_empty() {
            let index = self.random.below(self.kept.len() as u64) as usize;
            drop(self.kept.swap_remove(index));
            // Whoever gets its memory next fills it with what must never reach a file.
            drop(patterned((1 + self.random.below(12) as usize) * BLOCK, POISON));
        }
    }

    /// Looks after buffers that nobody else may write into.
    fn watch_memory(&mut self) {
        let number = POISON - 1 - self.random.below(1000);
        let length = (1 + self.random.below(12) as usize) * BLOCK;
        self.canaries.push((number, patterned(length, number)));
        if self.canaries.len() > 24 {
            for (number, buffer) in self.canaries.drain(..12) {
                assert_eq!(pattern_of(&buffer), Some(number), "somebody wrote into a buffer");
            }
        }
    }

    async fn change_file(&mut self) {
        let name = format!("{}-{}", self.env.mesh().shard(), self.former_files.len() + 1);
        let path = self.options.directory.join(name);
        // The groups in turn, while operations on the file before still go on.
        let group = Group::ALL[(self.former_files.len() + 1) % Group::ALL.len()];
        let next = Target::create(&self.env.in_group(group), &path, &self.next_write).await;
        self.former_files.push(std::mem::replace(&mut self.file, next));
    }

    /// Ends what must end in good order, and leaves everything else as it is.
    async fn end(mut self) -> Vec<Arc<Mutex<Model>>> {
        self.kept.clear();
        self.tasks.clear();
        for (to, sent) in self.mail.iter().enumerate() {
            let completed = sent.completed.borrow().clone();
            self.env.mesh().send(to, Box::new(Mail::Last(completed))).await;
        }
        self.receiver.await;
        for (number, buffer) in self.canaries {
            assert_eq!(pattern_of(&buffer), Some(number), "somebody wrote into a buffer");
        }
        // The acceptor, its connections, and all that was detached end with the shard.
        self.acceptor.detach();
        self.former_files.push(self.file);
        self.former_files.iter().map(Target::shared_model).collect()
    }
}

/// A stream of its own for a part of the shard, drawn from the shard's.
fn split(random: &mut RandomStream) -> RandomStream {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    RandomStream::from_seed(seed)
}

/// Receives from every shard until its last parcel, with calls that are dropped on the way.
async fn receive_mail<E: Env>(env: E, mut random: RandomStream) {
    let mesh = env.mesh().clone();
    let mut arrived = vec![BTreeSet::new(); mesh.shards()];
    let mut open = mesh.shards();
    while open > 0 {
        let receive = Box::pin(mesh.receive());
        let received = match random.below(3) {
            0 => poll_times(&env, receive, random.below(3)).await.ok(),
            _ => Some(receive.await),
        };
        let Some((from, parcel)) = received else { continue };
        match *parcel.downcast::<Mail>().expect("what was sent") {
            Mail::Numbered(number, buffer) => {
                assert_eq!(pattern_of(&buffer), Some(number), "the parcel's memory");
                let latest = arrived[from].last().copied();
                assert!(latest < Some(number), "{number} after {latest:?} from shard {from}");
                arrived[from].insert(number);
            }
            Mail::Last(completed) => {
                open -= 1;
                let lost: Vec<_> = completed.difference(&arrived[from]).collect();
                assert!(lost.is_empty(), "{lost:?} from shard {from} never came");
            }
        }
        if random.below(100) == 0 {
            env.sleep(Duration::from_micros(random.below(400))).await;
        }
    }
}

/// Accepts for as long as the shard lives.
async fn serve<E: Env, L: Listener>(env: E, listener: L, ledger: Ledger, mut random: RandomStream) {
    loop {
        let stream = streams::accept(&env, &listener, &mut random).await;
        let draws = split(&mut random);
        let reading = streams::receive(env.clone(), stream, ledger.clone(), draws);
        env.spawn("stream", reading).detach();
    }
}
