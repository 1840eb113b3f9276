//! The handle of an open log, and opening.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use woodchuck_io::limits::BLOCK_BYTES;
use woodchuck_io::{Buffer, Disk, Durability, Env, File, Task};

use crate::error::LogError;
use crate::format::{HEADER_BYTES, Name};
use crate::limits::FRAMES_IN_FLIGHT;
use crate::options::LogOptions;
use crate::reader::read_whole;
use crate::recovery::{Inventory, Leftover, recover, replay_carried, take_inventory};
use crate::segments::{Folder, Holds};
use crate::tasks::{Shared, Stock};
use crate::writer::{Beginning, Carried, Purpose, State, Taken, Write};
use crate::{Committed, Lane, Location, Lsn, Recovered, Recovery, Statistics};

/// An open log; see the crate's text. Clones are the same log. When the last is dropped, the
/// log's tasks end; what was not acknowledged by then may or may not be found by the next opening.
/// Operations in flight go on: a process that means to open the log again must
/// [`close`](Self::close) it first.
pub struct Log<E: Env, T: 'static> {
    handle: Rc<Handle<E, T>>,
}

/// Holds the tasks of a log, which hold `shared`, but not this.
struct Handle<E: Env, T: 'static> {
    shared: Rc<Shared<E, T>>,
    /// Dropped, and so cancelled, with the last clone of the log.
    _tasks: Vec<Task<()>>,
}

impl<E: Env, T: 'static> Clone for Log<E, T> {
    fn clone(&self) -> Self {
        Self { handle: Rc::clone(&self.handle) }
    }
}

impl<E: Env, T: 'static> Log<E, T> {
    /// Opens the log in `directory`, creating it if the directory is missing or empty.
    ///
    /// Every surviving commit that is not below the newest trim point is given to `replay`, in
    /// order. Nothing that was given to `replay` may be acted
    /// upon before `open` succeeds: only then is all of it durable, and known to be complete.
    ///
    /// Only one process may have a log open; the caller holds a lock for that.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if acknowledged data is damaged or missing. [`LogError::WrongVersion`]
    /// and [`LogError::NotOurs`] if something else stands in the directory. [`LogError::Replay`] if
    /// `replay` refused a commit. [`LogError::Full`] if there is no room for a segment. In none of
    /// these cases has anything been lost.
    pub async fn open(
        env: E,
        directory: PathBuf,
        options: LogOptions,
        mut replay: impl FnMut(Recovered) -> Result<(), String>,
    ) -> Result<(Self, Recovery), LogError> {
        options.check()?;
        let folder = Folder::new(env.disk().clone(), directory);
        folder.create().await?;
        let inventory = take_inventory(&folder).await?;
        let survey = recover(&folder, &inventory, options.carried_bytes(), &mut replay).await?;
        let mut recovery = Recovery {
            verdict: survey.verdict,
            frames: survey.frames,
            commits: survey.commits,
            bytes: survey.bytes,
            segments: survey.live.len() as u64,
            unreadable_blocks: survey.unreadable_blocks,
            next_lsn: Lsn::new(survey.next_lsn),
            trim: Lsn::new(survey.trim),
        };
        let created = survey.identity.is_none();
        let carried = survey.carried;
        let beginning = Beginning {
            identity: survey.identity.unwrap_or_else(|| env.random("wal identity").next_u128()),
            next_lsn: survey.next_lsn - carried.len() as u64,
            previous: survey.previous,
            trim: survey.trim,
            live: survey.live,
            bodies: survey.bodies,
        };
        let live = beginning.live.iter().map(|(segment, _)| segment.bytes);
        let bodies = beginning.bodies.iter().map(|file| file.segment.bytes);
        let mut stock = Stock {
            spares: Vec::new(),
            spares_max: options.spare_segments(live.chain(bodies).sum()),
            next_generation: survey.highest_generation + 1,
            next_number: inventory.next_number(),
        };
        let leftovers = survey.leftovers;
        let kept = first_stock(&folder, &options, &inventory, &leftovers, &mut stock, created);
        let leftovers = kept.await?;
        let (state, places) = begin(&folder, options, beginning, &carried, &mut stock).await?;
        put_away(&folder, &options, &leftovers, &mut stock).await?;
        for (frame, place) in carried.iter().zip(places) {
            if frame.lsn >= survey.trim {
                recovery.commits += u64::from(frame.commits);
                recovery.bytes += replay_carried(frame, place, &mut replay)?;
            }
        }
        let shared = Rc::new(Shared::new(env, folder, state));
        let tasks = shared.start(stock);
        Ok((Self { handle: Rc::new(Handle { shared, _tasks: tasks }) }, recovery))
    }

    /// Appends a commit made of `parts`. This fixes its place in the log's order; it is durable
    /// when [`committed`](Self::committed) hands out `context` with it.
    ///
    /// # Errors
    /// With the context given back, nothing taken: [`LogError::Busy`] if the queue is full
    /// ([`room`](Self::room) waits until it is not), [`LogError::Full`] if the disk is and
    /// [`LogError::AtCapacity`] if the log has all it may have ([`space`](Self::space) waits until
    /// that is over), [`LogError::TooLarge`], [`LogError::Poisoned`], [`LogError::Closed`].
    pub fn submit(&self, parts: &[&[u8]], context: T) -> Result<(), (LogError, T)> {
        self.submit_for(Purpose::Any, parts, context)
    }

    /// As [`submit`](Self::submit), for a small commit that will let something be trimmed. A full
    /// disk and the capacity leave room for some of them.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_from_reserve(&self, parts: &[&[u8]], context: T) -> Result<(), (LogError, T)> {
        self.submit_for(Purpose::MakesRoom, parts, context)
    }

    /// As [`submit`](Self::submit), for a commit of a lane. Commits of one lane are handed out, and
    /// found by the next opening, in the order of their submission. If it has at least
    /// [`LogOptions::indirect_bytes`], its bytes may be written beside the frames, and its place in
    /// the log's order is fixed only when they are durable: commits of other lanes do not wait for
    /// it, and nor do those that were submitted in none.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_in(&self, lane: Lane, parts: &[&[u8]], context: T) -> Result<(), (LogError, T)> {
        let Shared { state, signals, .. } = &*self.handle.shared;
        let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let mut state = state.borrow_mut();
        let taken = state.take(lane, parts, bytes, context)?;
        let needs_bodies = state.needs_bodies();
        drop(state);
        match taken {
            Taken::Gathers => signals.work.one(),
            Taken::HasBody => signals.bodies.one(),
            Taken::Waits => {}
        }
        if needs_bodies {
            signals.keeper.all();
        }
        Ok(())
    }

    fn submit_for(
        &self,
        purpose: Purpose,
        parts: &[&[u8]],
        context: T,
    ) -> Result<(), (LogError, T)> {
        let shared = &self.handle.shared;
        let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let mut state = shared.state.borrow_mut();
        if let Some(error) = state.refusal(bytes, purpose) {
            return Err((error, context));
        }
        state.gather(parts, bytes, context);
        drop(state);
        shared.signals.work.one();
        Ok(())
    }

    /// Waits while [`submit`](Self::submit) of so many bytes answers `Busy`.
    pub async fn room(&self, bytes: usize) {
        let shared = &self.handle.shared;
        let look = || shared.state.borrow().has_room(bytes).then_some(());
        shared.signals.room.wait(look).await;
    }

    /// Waits while [`submit`](Self::submit) of so many bytes answers `Full` or `AtCapacity`.
    pub async fn space(&self, bytes: usize) {
        let shared = &self.handle.shared;
        let look = || shared.state.borrow().has_space(bytes).then_some(());
        shared.signals.room.wait(look).await;
    }

    /// The next commits that became durable: in the order of submission, each once, at least one.
    /// May be dropped and called again without losing any.
    ///
    /// # Errors
    /// [`LogError::Poisoned`], for ever, once all that was durable before has been handed out;
    /// [`take_failed`](Self::take_failed) then gives the contexts of the commits that were lost.
    /// [`LogError::Closed`] after [`close`](Self::close), likewise.
    pub async fn committed(&self) -> Result<Vec<Committed<T>>, LogError> {
        let shared = &self.handle.shared;
        let look = || {
            let mut state = shared.state.borrow_mut();
            if let Some(taken) = state.take_ready() {
                return Some(Ok(taken));
            }
            if state.has_ended() { state.end().map(Err) } else { None }
        };
        let taken = shared.signals.ready.wait(look).await;
        shared.signals.room.all();
        taken
    }

    /// The contexts of commits that were submitted and never became durable because the log was
    /// poisoned, in order, each once. Their commits may or may not be found by the next opening.
    #[must_use]
    pub fn take_failed(&self) -> Vec<T> {
        self.handle.shared.state.borrow_mut().take_failed()
    }

    /// Reads an acknowledged commit, or a part of one, back from the disk. The bytes are as the
    /// disk gives them: only a reader of a whole frame could check the frame's checksum, so what
    /// is read must carry its own.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] if the location is not in the log any more; [`LogError::Io`] if the
    /// disk cannot read it; [`LogError::Poisoned`].
    pub async fn read(&self, location: Location) -> Result<Bytes, LogError> {
        let shared = &self.handle.shared;
        let segment = {
            let state = shared.state.borrow();
            if let Some(cause) = state.poison() {
                return Err(LogError::Poisoned { cause: cause.clone() });
            }
            state.segment(location.segment)
        };
        let segment =
            segment.map_err(|oldest_segment| LogError::Trimmed { location, oldest_segment })?;
        let block = BLOCK_BYTES as u64;
        let start = location.offset / block * block;
        let skip = (location.offset - start) as usize;
        let bytes = (skip + location.length as usize).next_multiple_of(BLOCK_BYTES);
        let result = if location.length == 0 {
            Ok(Bytes::new())
        } else {
            read_whole(&segment.file, start, bytes)
                .await
                .map(|buffer| {
                    Bytes::from_owner(buffer).slice(skip..skip + location.length as usize)
                })
                .map_err(|error| LogError::io(format!("reading {location}"), error))
        };
        // The segment may have been waiting for this reader before it can be used again.
        drop(segment);
        if shared.state.borrow().has_retired() {
            shared.signals.keeper.all();
        }
        result
    }

    /// Says that no frame below `below` is needed any more; at most, every frame that is durable.
    /// Segments wholly below are used again once this is itself durable.
    pub fn trim(&self, below: Lsn) {
        let shared = &self.handle.shared;
        let mut state = shared.state.borrow_mut();
        let (wants_witness, may_grow) = (state.trim_to(below.get()), state.is_at_capacity());
        drop(state);
        if wants_witness {
            shared.signals.idle.all();
        }
        if may_grow {
            shared.signals.keeper.all();
            shared.signals.room.all();
        }
    }

    /// Gives back to the disk what the log keeps and does not need: removes all spare segments. What
    /// is trimmed later is kept for use again as before.
    ///
    /// # Errors
    /// [`LogError::Closed`], [`LogError::Poisoned`].
    pub async fn shrink(&self) -> Result<(), LogError> {
        let shared = &self.handle.shared;
        let asked = shared.state.borrow_mut().ask_to_shrink();
        shared.signals.keeper.all();
        let done = || {
            let state = shared.state.borrow();
            if state.shrinks().done >= asked {
                return Some(Ok(()));
            }
            if state.has_ended() { state.end().map(Err) } else { None }
        };
        shared.signals.idle.wait(done).await
    }

    /// The oldest frame whose commits can be read.
    #[must_use]
    pub fn oldest(&self) -> Lsn {
        Lsn::new(self.handle.shared.state.borrow().oldest())
    }

    /// The first frame that is not known durable: every frame below it is, and was acknowledged.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn::new(self.handle.shared.state.borrow().watermark())
    }

    /// Bytes of the frames that the log keeps, trimmed ones included until their segment goes.
    #[must_use]
    pub fn bytes_retained(&self) -> u64 {
        self.handle.shared.state.borrow().bytes_retained()
    }

    /// What the log has done since it was opened, and what is waiting now.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let state = self.handle.shared.state.borrow();
        Statistics { bytes_waiting: state.waiting_bytes() as u64, ..state.statistics }
    }

    /// Takes nothing more, waits until all that was submitted is durable, and writes the witness.
    /// When it returns, nothing of this log is in flight.
    ///
    /// What is durable is still handed out by [`committed`](Self::committed) of other clones.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] if not all became durable; [`LogError::Full`] if there is no room for
    /// what was submitted.
    pub async fn close(self) -> Result<(), LogError> {
        let shared = &self.handle.shared;
        shared.state.borrow_mut().begin_closing();
        shared.signals.room.all();
        let settled = || {
            let state = shared.state.borrow();
            if let Some(cause) = state.poison() {
                return Some(Err(LogError::Poisoned { cause: cause.clone() }));
            }
            if state.is_idle() {
                return Some(Ok(()));
            }
            state.is_stuck().map(|shortage| Err(shortage.error()))
        };
        let mut result = shared.signals.idle.wait(settled).await;
        if result.is_ok() {
            shared.state.borrow_mut().request_witness();
            shared.signals.work.one();
            result = match shared.signals.idle.wait(settled).await {
                // Everything is durable; only its witness found no room.
                Err(LogError::Full { .. } | LogError::AtCapacity { .. }) => Ok(()),
                witnessed => witnessed,
            };
        }
        shared.state.borrow_mut().close();
        shared.signals.everybody();
        shared.workers_ended().await;
        result
    }
}

impl Inventory {
    /// A number above those of all spares and fillings.
    fn next_number(&self) -> u64 {
        let newest = self.spares.iter().chain(&self.fillings).max();
        newest.map_or(0, |number| number.saturating_add(1))
    }
}

/// Collects the files that can become segments before the new start frame is durable. Returns the
/// leftovers that cannot.
async fn first_stock<D: Disk>(
    folder: &Folder<D>,
    options: &LogOptions,
    inventory: &Inventory,
    leftovers: &[Leftover],
    stock: &mut Stock,
    created: bool,
) -> Result<Vec<Leftover>, LogError> {
    for &number in &inventory.fillings {
        folder.remove(Name::Filling(number)).await?;
    }
    for &number in &inventory.spares {
        let name = Name::Spare(number);
        let length = folder.open(name).await?.length().await;
        let length =
            length.map_err(|error| folder.problem("measuring", &folder.file(name), error))?;
        if length == options.segment_bytes && stock.spares.len() < stock.spares_max {
            stock.spares.push(number);
        } else {
            folder.remove(name).await?;
        }
    }
    let mut rest = Vec::new();
    for &leftover in leftovers {
        // While there is no log, nothing in its files is needed. They must not keep their names:
        // a write of the process that died may still reach them.
        if leftover.unused || created {
            put_away(folder, options, &[leftover], stock).await?;
        } else {
            rest.push(leftover);
        }
    }
    Ok(rest)
}

/// Makes spares of files that are no longer needed, or removes them.
async fn put_away<D: Disk>(
    folder: &Folder<D>,
    options: &LogOptions,
    leftovers: &[Leftover],
    stock: &mut Stock,
) -> Result<(), LogError> {
    for leftover in leftovers {
        let name = leftover.holds.name(leftover.generation);
        let fits = leftover.length == options.segment_bytes && leftover.sound;
        if fits && stock.spares.len() < stock.spares_max {
            let number = stock.next_number;
            stock.next_number += 1;
            folder.retire(name, number).await?;
            stock.spares.push(number);
        } else {
            folder.remove(name).await?;
        }
    }
    Ok(())
}

/// Step 11 of recovery: begins a new segment behind what survived, and waits until what survived
/// and the start frame are durable. Returns where the payloads of the `carried` are now.
///
/// Copies prove nothing before the start frame is there, so they may become durable in any order.
/// When this returns, also with an error, none of its writes is in flight.
async fn begin<D: Disk, T>(
    folder: &Folder<D>,
    options: LogOptions,
    beginning: Beginning<D::File>,
    carried: &[Carried],
    stock: &mut Stock,
) -> Result<(State<D::File, T>, Vec<(u64, u64)>), LogError> {
    // Usually far less than a segment, but frames and segments may have been larger before.
    let bytes: usize = carried.iter().map(Carried::frame_bytes).sum();
    let needed = (2 * BLOCK_BYTES + bytes) as u64;
    let segment = stock.prepare(folder, Holds::Frames, options.segment_bytes, needed).await?;
    let path = folder.file(segment.name());
    let mut state = State::new(options, beginning);
    let problem = |error| folder.problem("writing the first frames of", &path, error);
    let mut copies = state.begin(segment, carried);
    let start = copies.pop();
    let place = |copy: &Write<_>| (copy.segment.generation, copy.offset + HEADER_BYTES as u64);
    let places = copies.iter().map(place).collect();
    let copies = copies.into_iter().map(|copy| write(copy, Durability::Volatile));
    let written: Vec<_> = stream::iter(copies).buffered(FRAMES_IN_FLIGHT).collect().await;
    let mut durable = Vec::with_capacity(written.len() + 1);
    for copy in written {
        durable.push(copy.map_err(problem)?);
    }
    if let Some(start) = start {
        // The start frame must not be durable before the copies.
        if !durable.is_empty() {
            start.segment.file.sync_data().await.map_err(problem)?;
        }
        durable.push(write(start, Durability::Durable).await.map_err(problem)?);
    }
    for (lsn, buffer) in durable {
        let completion = state.complete(lsn, buffer);
        assert!(!completion.ready, "nothing was submitted yet");
    }
    Ok((state, places))
}

/// Writes a frame; gives back its number and its bytes.
async fn write<F: File>(frame: Write<F>, durability: Durability) -> io::Result<(u64, Buffer)> {
    let Write { lsn, segment, offset, buffer } = frame;
    let (result, buffer) = segment.file.write_at(buffer, offset, durability).await;
    result.map(|()| (lsn, buffer))
}
