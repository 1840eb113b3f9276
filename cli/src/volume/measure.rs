//! How fast a volume makes writes durable, by how many are in flight.
//!
//! Each size and depth is measured for a short time, all of them one after the other, and all of
//! that several times over, so that what disturbs the machine for a moment disturbs one round.
//! Blocks follow each other, as the log's frames do, over blocks that were written before, and hold
//! random bytes: there are volumes that do not store zeros, or nothing twice.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use woodchuck_io::{Buffer, Durability, Env, File};

use super::choice::Rates;
use crate::limits::{FLIGHT_BLOCK_BYTES, FLIGHT_DEPTHS, FLIGHT_ROUNDS, FLIGHT_SCRATCH_BYTES};

/// Measurements of a round.
const CELLS: usize = FLIGHT_BLOCK_BYTES.len() * FLIGHT_DEPTHS.len();

/// What was measured, again and again; at least once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rounds(Vec<Rates>);

impl Rounds {
    /// Of each size and depth, the middle one of its rates.
    pub(crate) fn medians(&self) -> Rates {
        let mut medians = self.0[0];
        for (size, row) in medians.0.iter_mut().enumerate() {
            for (depth, rate) in row.iter_mut().enumerate() {
                let mut all: Vec<f64> = self.0.iter().map(|round| round.0[size][depth]).collect();
                all.sort_unstable_by(f64::total_cmp);
                *rate = all[all.len() / 2];
            }
        }
        medians
    }

    /// Whether the rounds lead to choices that are neighbours at most. If not, something else had
    /// the volume or the CPU.
    pub(crate) fn agree(&self) -> bool {
        let chosen = || self.0.iter().map(Rates::frames_in_flight);
        chosen().max() <= chosen().min().map(|least| least * 2)
    }
}

/// Measures durable writes over the first [`FLIGHT_SCRATCH_BYTES`] of a file, which were written
/// before, in about `time`. Ends early when `is_over` says so, which no operation in flight is
/// interrupted for; `None` if not every size and depth was measured by then.
///
/// # Errors
/// If a write fails.
pub(crate) async fn measure<E: Env>(
    env: &E,
    file: &impl File,
    time: Duration,
    is_over: impl Fn() -> bool + Clone + 'static,
) -> io::Result<Option<Rounds>> {
    let each = time / u32::try_from(FLIGHT_ROUNDS * CELLS).unwrap_or(u32::MAX);
    let mut rounds = Vec::with_capacity(FLIGHT_ROUNDS);
    for _ in 0..FLIGHT_ROUNDS {
        let mut rates = Rates([[0.0; FLIGHT_DEPTHS.len()]; FLIGHT_BLOCK_BYTES.len()]);
        for (bytes, row) in FLIGHT_BLOCK_BYTES.into_iter().zip(&mut rates.0) {
            for (depth, rate) in FLIGHT_DEPTHS.into_iter().zip(row) {
                *rate = durable_rate(env, file, (bytes, depth), each, is_over.clone()).await?;
            }
        }
        // A round that was cut short says nothing.
        if is_over() {
            break;
        }
        rounds.push(rates);
    }
    Ok((!rounds.is_empty()).then_some(Rounds(rounds)))
}

/// Durable writes a second of so many bytes, so many in flight. Each of these is done at least once,
/// if it is not over before.
async fn durable_rate<E: Env>(
    env: &E,
    file: &impl File,
    (bytes, depth): (usize, usize),
    each: Duration,
    is_over: impl Fn() -> bool + Clone + 'static,
) -> io::Result<f64> {
    let begun = env.now();
    let end = begun + each;
    let (next, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0_u64)));
    let failed = Rc::new(Cell::new(false));
    let writing: Vec<_> = (0..depth)
        .map(|_| {
            let (clock, file, is_over) = (env.clone(), file.clone(), is_over.clone());
            let (next, done, failed) = (Rc::clone(&next), Rc::clone(&done), Rc::clone(&failed));
            let mut buffer = Buffer::zeroed(bytes);
            env.random("contents").fill(&mut buffer);
            env.spawn("measure", async move {
                while !is_over() && !failed.get() {
                    let offset = next.get();
                    next.set((offset + bytes as u64) % FLIGHT_SCRATCH_BYTES);
                    let (written, returned) =
                        file.write_at(buffer, offset, Durability::Durable).await;
                    buffer = returned;
                    if written.is_err() {
                        failed.set(true);
                        return written;
                    }
                    done.set(done.get() + 1);
                    if clock.now() >= end {
                        break;
                    }
                }
                Ok(())
            })
        })
        .collect();
    let mut outcome = Ok(());
    for task in writing {
        // All are awaited: what is in flight must not outlive the measurement.
        outcome = outcome.and(task.await);
    }
    let elapsed = (env.now() - begun).as_secs_f64();
    outcome.map(|()| done.get() as f64 / elapsed.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_that_was_disturbed_changes_nothing() {
        let round = |rate| Rates([[rate; FLIGHT_DEPTHS.len()]; FLIGHT_BLOCK_BYTES.len()]);
        assert_eq!(Rounds(vec![round(100.0), round(3.0), round(104.0)]).medians(), round(100.0));
        assert_eq!(Rounds(vec![round(7.0)]).medians(), round(7.0));
    }

    #[test]
    fn rounds_agree_if_their_choices_are_neighbours() {
        let choosing = |depth: usize| {
            let rates = FLIGHT_DEPTHS.map(|one| one.min(depth) as f64);
            Rates([rates; FLIGHT_BLOCK_BYTES.len()])
        };
        let agree = |depths: &[usize]| {
            let rounds: Vec<Rates> = depths.iter().map(|depth| choosing(*depth)).collect();
            Rounds(rounds).agree()
        };
        assert!(agree(&[1]) && agree(&[4, 4, 4]) && agree(&[8, 4, 8]) && agree(&[1, 2, 1]));
        assert!(!agree(&[4, 16, 8]) && !agree(&[1, 4, 4]) && !agree(&[2, 2, 8]));
    }
}
