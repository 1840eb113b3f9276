//! The tasks of an open log, and what they share.
//!
//! - The **slots** write frames, one each at a time: there are as many as frames may be in flight.
//! - The **body slots**, as many, write the bytes of large commits.
//! - The **keeper** prepares the segment that comes next before it is needed, and makes spares of
//!   segments that are no longer needed.
//! - The **witness** task waits until the log has been idle for a while, and has the watermark
//!   carried past the last group.
//!
//! No borrow of the state is held across an await or while a waker is called.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Task};

use crate::error::LogError;
use crate::format::Name;
use crate::limits::{FULL_RETRY_MS, SPARE_SEGMENTS};
use crate::segments::{Folder, Holds, Segment};
use crate::signal::Signal;
use crate::writer::{BodyWrite, Next, Shortage, State, Write};

pub(crate) type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// What the tasks and the handles of a log share.
pub(crate) struct Shared<E: Env, T> {
    pub(crate) env: E,
    pub(crate) folder: Folder<E::Disk>,
    pub(crate) state: RefCell<State<FileOf<E>, T>>,
    pub(crate) signals: Signals,
    /// Tasks that may have operations of the disk in flight.
    workers: Cell<usize>,
}

/// One signal for each kind of event.
#[derive(Default)]
pub(crate) struct Signals {
    /// There is something to write, or a segment to write it to.
    pub(crate) work: Signal,
    /// There is a body to write.
    pub(crate) bodies: Signal,
    /// Commits are ready to be handed out.
    pub(crate) ready: Signal,
    /// There is room in the queue, or the log ended.
    pub(crate) room: Signal,
    /// A segment is needed, or one can go.
    pub(crate) keeper: Signal,
    /// Nothing is in flight, or a witness may be wanted.
    pub(crate) idle: Signal,
}

impl Signals {
    /// The log ended: everybody looks.
    pub(crate) fn everybody(&self) {
        let Self { work, bodies, ready, room, keeper, idle } = self;
        for signal in [work, bodies, ready, room, keeper, idle] {
            signal.all();
        }
    }
}

/// What the keeper is to do.
enum Chore<F> {
    Retire(Rc<Segment<F>>),
    Shrink,
    Prepare(Holds),
    Exit,
}

/// Files that the keeper can make segments of.
pub(crate) struct Stock {
    pub(crate) spares: Vec<u64>,
    /// How many spares opening the log may keep.
    pub(crate) spares_max: usize,
    /// The generation of the segment that is prepared next.
    pub(crate) next_generation: u64,
    /// The number for the next spare or filling; above all in use.
    pub(crate) next_number: u64,
}

impl<E: Env, T: 'static> Shared<E, T> {
    pub(crate) fn new(env: E, folder: Folder<E::Disk>, state: State<FileOf<E>, T>) -> Self {
        let (state, signals) = (RefCell::new(state), Signals::default());
        Self { env, folder, state, signals, workers: Cell::new(0) }
    }

    /// Starts the tasks. They end when their handles are dropped.
    pub(crate) fn start(self: &Rc<Self>, stock: Stock) -> Vec<Task<()>> {
        let slots = self.state.borrow().options().frames_in_flight;
        // The slots and the keeper: all that touch the disk.
        self.workers.set(2 * slots + 1);
        let mut tasks: Vec<Task<()>> = Vec::with_capacity(2 * slots + 2);
        for _ in 0..slots {
            tasks.push(self.env.spawn("wal slot", slot(Rc::clone(self))));
            tasks.push(self.env.spawn("wal body slot", body_slot(Rc::clone(self))));
        }
        tasks.push(self.env.spawn("wal keeper", keeper(Rc::clone(self), stock)));
        tasks.push(self.env.spawn("wal witness", witness(Rc::clone(self))));
        tasks
    }

    /// Ends the log: nothing more is taken, what was not acknowledged is failed.
    pub(crate) fn poison(&self, cause: String) {
        self.state.borrow_mut().fail(cause);
        self.signals.everybody();
    }

    /// Waits until no task of this log has anything in flight. Only after the end of the log.
    pub(crate) async fn workers_ended(&self) {
        let ended = || (self.workers.get() == 0).then_some(());
        self.signals.idle.wait(ended).await;
    }

    fn worker_ended(&self) {
        self.workers.set(self.workers.get() - 1);
        self.signals.idle.all();
    }

    fn next_write(&self) -> Option<Option<Write<FileOf<E>>>> {
        let mut state = self.state.borrow_mut();
        let needed_segment = state.needs_segment();
        let next = state.next_write();
        let (more, used_segment) = (state.has_work(), state.needs_segment() && !needed_segment);
        drop(state);
        if used_segment {
            self.signals.keeper.all();
            self.signals.room.all();
        }
        match next {
            Next::Write(write) => {
                if more {
                    self.signals.work.one();
                }
                Some(Some(write))
            }
            Next::Wait => None,
            Next::Exit => Some(None),
        }
    }

    fn complete(&self, lsn: u64, buffer: Buffer) {
        let completion = self.state.borrow_mut().complete(lsn, buffer);
        if completion.ready {
            // All, as the one that waits longest may be a call that was dropped.
            self.signals.ready.all();
        }
        if completion.idle {
            self.signals.idle.all();
        }
        if completion.retired {
            self.signals.keeper.all();
        }
    }
}

async fn slot<E: Env, T: 'static>(shared: Rc<Shared<E, T>>) {
    write_frames(&shared).await;
    shared.worker_ended();
}

async fn write_frames<E: Env, T: 'static>(shared: &Shared<E, T>) {
    while let Some(write) = shared.signals.work.wait(|| shared.next_write()).await {
        let Write { lsn, segment, offset, buffer } = write;
        let (result, buffer) = segment.file.write_at(buffer, offset, Durability::Durable).await;
        match result {
            Ok(()) => {
                drop(segment);
                shared.complete(lsn, buffer);
            }
            Err(error) => shared.poison(format!(
                "the durable write of frame {lsn}, {} bytes at offset {offset} of segment \
                 {:016x}, failed: {error}",
                buffer.len(),
                segment.generation
            )),
        }
    }
}

async fn body_slot<E: Env, T: 'static>(shared: Rc<Shared<E, T>>) {
    write_bodies(&shared).await;
    shared.worker_ended();
}

async fn write_bodies<E: Env, T: 'static>(shared: &Shared<E, T>) {
    let next = || {
        let mut state = shared.state.borrow_mut();
        if state.has_ended() {
            return Some(None);
        }
        state.next_body().map(Some)
    };
    while let Some(body) = shared.signals.bodies.wait(next).await {
        let BodyWrite { number, file, offset, buffer } = body;
        let (result, buffer) = file.file.write_at(buffer, offset, Durability::Durable).await;
        match result {
            Ok(()) => {
                drop(file);
                shared.state.borrow_mut().complete_body(number, buffer);
                shared.signals.work.one();
            }
            Err(error) => shared.poison(format!(
                "the durable write of a large commit, {} bytes at offset {offset} of file \
                 {}, failed: {error}",
                buffer.len(),
                file.name()
            )),
        }
    }
}

async fn witness<E: Env, T: 'static>(shared: Rc<Shared<E, T>>) {
    let wanted = || {
        let state = shared.state.borrow();
        if state.has_ended() { Some(false) } else { state.wants_witness().then_some(true) }
    };
    while shared.signals.idle.wait(wanted).await {
        let delay = shared.state.borrow().options().witness_delay;
        if delay > Duration::ZERO {
            let written = shared.state.borrow().statistics.data_frames;
            shared.env.sleep(delay).await;
            if written != shared.state.borrow().statistics.data_frames {
                continue;
            }
        }
        shared.state.borrow_mut().request_witness();
        shared.signals.work.one();
    }
}

async fn keeper<E: Env, T: 'static>(shared: Rc<Shared<E, T>>, mut stock: Stock) {
    keep_segments(&shared, &mut stock).await;
    shared.worker_ended();
}

async fn keep_segments<E: Env, T: 'static>(shared: &Shared<E, T>, stock: &mut Stock) {
    loop {
        let chore = shared.signals.keeper.wait(|| next_chore(shared)).await;
        match chore {
            Chore::Exit => return,
            Chore::Retire(segment) => retire(shared, stock, &segment).await,
            Chore::Shrink => shrink(shared, stock).await,
            Chore::Prepare(holds) => match (holds, prepare(shared, stock, holds).await) {
                (Holds::Frames, Ok(segment)) => {
                    if shared.state.borrow_mut().set_prepared(segment).is_some() {
                        let log = shared.folder.path().display();
                        tracing::info!(%log, "there is a next segment again");
                    }
                    shared.signals.work.one();
                    shared.signals.room.all();
                }
                (Holds::Bodies, Ok(segment)) => {
                    shared.state.borrow_mut().set_prepared_bodies(segment);
                }
                (Holds::Frames, Err(LogError::Full { needed })) => {
                    set_short(shared, Shortage::Disk { needed });
                    wait_for_space(shared).await;
                }
                // Large commits stand in the log itself meanwhile.
                (Holds::Bodies, Err(LogError::Full { .. })) => {
                    shared.state.borrow_mut().give_up_bodies();
                }
                (_, Err(error)) => {
                    shared.poison(format!("the next segment could not be prepared: {error}"));
                }
            },
        }
    }
}

fn next_chore<E: Env, T>(shared: &Shared<E, T>) -> Option<Chore<FileOf<E>>> {
    let mut state = shared.state.borrow_mut();
    if state.has_ended() {
        return Some(Chore::Exit);
    }
    if let Some(segment) = state.take_retired() {
        return Some(Chore::Retire(segment));
    }
    if state.wants_shrinking() {
        return Some(Chore::Shrink);
    }
    if state.needs_segment() && !state.may_grow() {
        let capacity = state.options().capacity_bytes;
        drop(state);
        set_short(shared, Shortage::Capacity { capacity });
        return None;
    }
    if state.needs_segment() {
        return Some(Chore::Prepare(Holds::Frames));
    }
    state.needs_bodies().then_some(Chore::Prepare(Holds::Bodies))
}

/// Nobody can go on who needs the next segment, and some must be told so.
fn set_short<E: Env, T>(shared: &Shared<E, T>, shortage: Shortage) {
    let before = shared.state.borrow_mut().set_short(shortage);
    if before != Some(shortage) {
        let error = shortage.error();
        tracing::warn!(log = %shared.folder.path().display(), "no next segment: {error}");
        shared.signals.idle.all();
        shared.signals.room.all();
    }
}

/// The disk is full: waits a while, or until a segment of the log's own can be used again.
async fn wait_for_space<E: Env, T: 'static>(shared: &Shared<E, T>) {
    let relief = shared.signals.keeper.wait(|| {
        let state = shared.state.borrow();
        (state.has_ended() || state.has_retired() || state.wants_shrinking()).then_some(())
    });
    let pause = shared.env.sleep(Duration::from_millis(FULL_RETRY_MS));
    let (pause, relief) = (std::pin::pin!(pause), std::pin::pin!(relief));
    select(relief, pause).await;
}

/// Makes a spare of a segment, or removes it if it does not fit or there are enough.
async fn retire<E: Env, T>(shared: &Shared<E, T>, stock: &mut Stock, segment: &Segment<FileOf<E>>) {
    let name = segment.name();
    let keeps = {
        let state = shared.state.borrow();
        segment.bytes == state.options().segment_bytes
            && stock.spares.len() < SPARE_SEGMENTS
            && state.may_keep_spares(stock.spares.len() + 1)
    };
    let result = if keeps {
        let number = stock.take_number();
        let retired = shared.folder.retire(name, number).await;
        if retired.is_ok() {
            stock.spares.push(number);
            let statistics = &mut shared.state.borrow_mut().statistics;
            statistics.segments_recycled += 1;
            statistics.body_files_recycled += u64::from(segment.holds == Holds::Bodies);
        }
        retired
    } else {
        remove(shared, name).await
    };
    if let Err(error) = result {
        // Nobody needs the file; it stays until the log is opened again.
        tracing::warn!(%error, "a segment that is not needed could not be put away");
    }
}

/// Removes all spares. One that cannot be removed is not used again, and stays until the log is
/// opened again.
async fn shrink<E: Env, T>(shared: &Shared<E, T>, stock: &mut Stock) {
    let asked = shared.state.borrow().shrinks().asked;
    while let Some(number) = stock.spares.pop() {
        if let Err(error) = remove(shared, Name::Spare(number)).await {
            tracing::warn!(%error, "a spare segment could not be removed");
        }
    }
    shared.state.borrow_mut().set_shrunk(asked);
    shared.signals.idle.all();
}

async fn remove<E: Env, T>(shared: &Shared<E, T>, name: Name) -> Result<(), LogError> {
    shared.folder.remove(name).await?;
    shared.state.borrow_mut().statistics.segments_removed += 1;
    Ok(())
}

async fn prepare<E: Env, T>(
    shared: &Shared<E, T>,
    stock: &mut Stock,
    holds: Holds,
) -> Result<Segment<FileOf<E>>, LogError> {
    let bytes = shared.state.borrow().options().segment_bytes;
    stock.prepare(&shared.folder, holds, bytes, 0).await
}

impl Stock {
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Makes the next segment, of the usual length or what is `needed`: of a spare, or a fresh one.
    pub(crate) async fn prepare<D: Disk>(
        &mut self,
        folder: &Folder<D>,
        holds: Holds,
        usual: u64,
        needed: u64,
    ) -> Result<Segment<D::File>, LogError> {
        let bytes = usual.max(needed);
        let spare = if bytes == usual { self.spares.pop() } else { None };
        let source = match spare {
            Some(number) => Name::Spare(number),
            None => {
                let number = self.take_number();
                folder.fill(number, bytes).await?
            }
        };
        let generation = self.next_generation;
        self.next_generation += 1;
        let placed = folder.place(source, holds.name(generation)).await;
        if let Err(LogError::Full { .. }) = placed {
            match spare {
                Some(number) => self.spares.push(number),
                // The error that matters is the first; a file left behind is removed when opening.
                None => drop(folder.remove(source).await),
            }
        }
        Ok(Segment { holds, generation, first_lsn: 0, bytes, file: placed? })
    }
}
