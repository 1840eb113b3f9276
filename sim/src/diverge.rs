//! Where two runs of one thing part.
//!
//! Two runs of one seed that differ are a defect of the product or of the world: something that the
//! seed does not decide got in. That they differ is told by their [hashes](crate::World::trace_hash);
//! this finds the first event, or the first choice, that is not the same in both. Bytes that are
//! written or sent are compared too if [`trace_contents`](crate::WorldOptions::trace_contents) says
//! so.
//!
//! # How
//!
//! 1. Run twice. The first checkpoint that differs names a window of [`CHECKPOINT_EVENTS`] events.
//! 2. Run again, twice, keeping all events and choices of that window, and compare them one by one.
//! 3. What got in need not come again in the same way. If the new runs part in an earlier window,
//!    go on with that one; if they do not part in this one, run once more and compare that run with
//!    all that were kept. After a number of runs the answer is the window alone.

use std::fmt;
use std::ops::Range;

use crate::limits::{CHECKPOINT_EVENTS, DIVERGING_RUNS};
use crate::trace::{TraceEntry, TraceRun};

/// Entries told from before the first difference, and from it on.
const CONTEXT: usize = 8;

/// Two runs that should have been the same and were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The events among which the first differs, by number.
    pub events: Range<u64>,
    /// The first difference. `None` if it did not come again while the window was kept.
    pub difference: Option<Difference>,
    /// How many runs it took.
    pub runs: usize,
}

/// The first difference of two runs, and what is around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How many events happened in both runs before it.
    pub event: u64,
    /// What came last in both.
    pub before: Vec<TraceEntry>,
    /// What one run did then; the first of these differs. Empty if that run was over.
    pub first: Vec<TraceEntry>,
    /// What the other did.
    pub second: Vec<TraceEntry>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events: Range { start, end }, difference, runs } = self;
        let Some(difference) = difference else {
            return write!(
                formatter,
                "two runs part somewhere between events {start} and {end}; they did not part \
                 there again in {runs} runs"
            );
        };
        writeln!(formatter, "two runs part at event {}; both had:", difference.event)?;
        list(formatter, "  ", &difference.before)?;
        writeln!(formatter, "then one run had:")?;
        list(formatter, "< ", &difference.first)?;
        writeln!(formatter, "and the other:")?;
        list(formatter, "> ", &difference.second)
    }
}

fn list(formatter: &mut fmt::Formatter<'_>, mark: &str, lines: &[TraceEntry]) -> fmt::Result {
    if lines.is_empty() {
        return writeln!(formatter, "{mark}nothing more");
    }
    lines.iter().try_for_each(|line| writeln!(formatter, "{mark}{line}"))
}

/// Runs something several times and tells where its runs first part; `None` if two runs are the
/// same. `run` makes its world with the given
/// [`trace_window`](crate::WorldOptions::trace_window), runs it, failing or not, and gives its
/// [`trace_run`](crate::World::trace_run).
pub fn compare(mut run: impl FnMut(Option<Range<u64>>) -> TraceRun) -> Option<Divergence> {
    let (first, second) = (run(None), run(None));
    let mut events = first_window(&first, &second)?;
    let mut kept: Vec<TraceRun> = Vec::new();
    let mut runs = 2;
    while runs < DIVERGING_RUNS {
        let latest = run(Some(events.clone()));
        runs += 1;
        // What was kept may part from the latest run in several places. The earliest wins.
        let parted = kept.iter().filter_map(|other| first_window(other, &latest));
        let earliest = parted.min_by_key(|window| window.start);
        if let Some(earlier) = earliest.filter(|window| window.start < events.start) {
            events = earlier;
            kept.clear();
            continue;
        }
        let differences = kept.iter().filter_map(|other| difference(other, &latest));
        if let Some(difference) = differences.min_by_key(|difference| difference.event) {
            return Some(Divergence { events, difference: Some(difference), runs });
        }
        kept.push(latest);
    }
    Some(Divergence { events, difference: None, runs })
}

/// The window in which two runs first part.
fn first_window(one: &TraceRun, two: &TraceRun) -> Option<Range<u64>> {
    let same = one.checkpoints.iter().zip(&two.checkpoints).take_while(|(one, two)| one == two);
    let index = same.count();
    let parted = one.checkpoints.len().max(two.checkpoints.len()) > index
        || (one.events, one.hash) != (two.events, two.hash);
    let start = index as u64 * CHECKPOINT_EVENTS;
    parted.then_some(start..start + CHECKPOINT_EVENTS)
}

/// The first difference in the window that two runs kept.
fn difference(one: &TraceRun, two: &TraceRun) -> Option<Difference> {
    let (one, two) = (&one.window, &two.window);
    let same = one.iter().zip(two).take_while(|(one, two)| one == two).count();
    let differing = one.get(same).into_iter().chain(two.get(same));
    let event = differing.map(|entry| entry.event).min()?;
    let after = |entries: &[TraceEntry]| entries[same..].iter().take(CONTEXT).cloned().collect();
    let before = one[same.saturating_sub(CONTEXT)..same].to_vec();
    Some(Difference { event, before, first: after(one), second: after(two) })
}
