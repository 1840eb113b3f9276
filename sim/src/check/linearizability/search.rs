//! The search for an order (Wing and Gong, with Lowe's memory), for the operations of one key.
//!
//! Two lists hold what is not yet placed. The answered operations stand in a list of *entries*, two
//! for each, its call and its return, sorted by time: what may come next is each call before the
//! first return. The unanswered ones stand in a second list, sorted by call, and are tried only when
//! no answered one fits: in a lawful history most of them are not needed, and a write placed early
//! on suspicion is missing later.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};

use super::{Model, Operation};

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Linearization {
    /// The operations in an order that explains all answers, as indices into the history. Every
    /// answered operation is among them; an unanswered one that is not may never have happened.
    Found {
        /// The order.
        order: Vec<usize>,
        /// How many steps of the model it took to find it.
        steps: u64,
    },
    /// There is no such order.
    Impossible(Explanation),
    /// The budget ended first, or the history makes no sense.
    Unknown {
        /// The reason, as a sentence.
        why: String,
    },
}

/// How far the search came where it came furthest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The longest beginning that could be ordered, as indices into the history.
    pub order: Vec<usize>,
    /// The answered operations of which one would have to come next, and none can.
    pub stuck: Vec<usize>,
    /// The state after `order`, as its `Debug` shows it.
    pub state: String,
}

/// How many of the last placed operations an explanation tells.
const TOLD: usize = 5;

impl Explanation {
    /// A sentence about it, with the operations of the history it came from.
    #[must_use]
    pub fn describe<I: Debug, O: Debug>(&self, operations: &[Operation<I, O>]) -> String {
        let list = |indices: &[usize]| {
            let told: Vec<_> =
                indices.iter().filter_map(|&index| Some(tell(operations.get(index)?))).collect();
            told.join(", ")
        };
        let mut text =
            format!("{} of {} operations can be ordered", self.order.len(), operations.len());
        if !self.order.is_empty() {
            let last = &self.order[self.order.len().saturating_sub(TOLD)..];
            let _ = write!(text, ", the last of them {}", list(last));
        }
        let _ = write!(
            text,
            "; the state is then {}, and none of these can come next: {}",
            self.state,
            list(&self.stuck)
        );
        text
    }
}

/// One operation for the reader.
fn tell<I: Debug, O: Debug>(operation: &Operation<I, O>) -> String {
    let Operation { client, input, invoked, completion } = operation;
    match completion {
        Some(completion) => format!(
            "client {client}: {input:?} -> {:?} [{invoked} to {}]",
            completion.output, completion.at
        ),
        None => format!("client {client}: {input:?} without an answer [from {invoked}]"),
    }
}

/// Looks for an order of the operations of one key, in at most `budget` steps of the model.
///
/// Memory grows with the steps: each may leave one state and one small set of operations behind.
pub fn search<M: Model>(
    model: &M,
    operations: &[Operation<M::Input, M::Output>],
    budget: u64,
) -> Linearization {
    let backwards = operations.iter().position(|operation| {
        operation.completion.as_ref().is_some_and(|completion| completion.at < operation.invoked)
    });
    if let Some(index) = backwards {
        let told = tell(&operations[index]);
        return Linearization::Unknown {
            why: format!("operation {index} was answered before it was asked: {told}"),
        };
    }
    Search::new(model, operations).run(budget)
}

/// The position in the list of entries that stands before the first and after the last.
const HEAD: usize = 0;

/// A call or a return of an answered operation.
struct Entry {
    time: u64,
    /// The operation's place among the answered ones, by call.
    rank: usize,
    is_return: bool,
    /// The other entries that are still in the list.
    previous: usize,
    next: usize,
}

/// An operation that may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Candidate {
    /// The call at this position of the entries.
    Answered(usize),
    /// The unanswered operation of this rank.
    Unanswered(usize),
}

/// An operation that was placed, and how to take it back.
struct Placed<S> {
    candidate: Candidate,
    state_before: S,
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Input, M::Output>],
    /// Position 0 is [`HEAD`].
    entries: Vec<Entry>,
    /// Rank to operation, in order of call.
    answered: Vec<usize>,
    /// Rank to position of the return among the entries.
    returns: Vec<usize>,
    /// Rank to operation, in order of call.
    unanswered: Vec<usize>,
    /// One bit for each rank: placed or not.
    answered_placed: Vec<u64>,
    unanswered_placed: Vec<u64>,
    /// How many answered operations are placed. The search is over when all are.
    count: usize,
    state: M::State,
    stack: Vec<Placed<M::State>>,
    /// What was visited: the operations placed, and the state after them.
    visited: BTreeSet<(Box<[u64]>, M::State)>,
    steps: u64,
    furthest: Option<Explanation>,
    /// How many answered operations were placed there.
    furthest_count: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [Operation<M::Input, M::Output>]) -> Self {
        let (mut answered, mut unanswered): (Vec<_>, Vec<_>) =
            (0..operations.len()).partition(|&index| operations[index].completion.is_some());
        answered.sort_by_key(|&index| operations[index].invoked);
        unanswered.sort_by_key(|&index| operations[index].invoked);
        let mut search = Self {
            model,
            operations,
            entries: entries(operations, &answered),
            returns: vec![HEAD; answered.len()],
            answered_placed: vec![0; answered.len().div_ceil(64)],
            unanswered_placed: vec![0; unanswered.len().div_ceil(64)],
            answered,
            unanswered,
            count: 0,
            state: model.initial(),
            stack: Vec::new(),
            visited: BTreeSet::new(),
            steps: 0,
            furthest: None,
            furthest_count: 0,
        };
        for (position, entry) in search.entries.iter().enumerate().skip(1) {
            if entry.is_return {
                search.returns[entry.rank] = position;
            }
        }
        search
    }

    fn run(mut self, budget: u64) -> Linearization {
        let mut next = self.candidate_from(self.entries[HEAD].next);
        while self.count < self.answered.len() {
            next = match next {
                Some(_) if self.steps == budget => {
                    let (placed, all) = (self.count, self.answered.len());
                    return Linearization::Unknown {
                        why: format!(
                            "the budget of {budget} steps ended with {placed} of {all} answered \
                             operations placed"
                        ),
                    };
                }
                Some(candidate) if self.place(candidate) => {
                    self.candidate_from(self.entries[HEAD].next)
                }
                Some(candidate) => self.candidate_after(candidate),
                None => {
                    self.note_dead_end();
                    let Some(candidate) = self.take_back() else {
                        let explanation = self.furthest.expect("a dead end was just noted");
                        return Linearization::Impossible(explanation);
                    };
                    self.candidate_after(candidate)
                }
            };
        }
        Linearization::Found { order: self.order(), steps: self.steps }
    }

    /// The first candidate at or after this position of the entries, or the first unanswered one.
    fn candidate_from(&self, position: usize) -> Option<Candidate> {
        if position != HEAD && !self.entries[position].is_return {
            return Some(Candidate::Answered(position));
        }
        self.unanswered_from(0)
    }

    fn candidate_after(&self, candidate: Candidate) -> Option<Candidate> {
        match candidate {
            Candidate::Answered(position) => self.candidate_from(self.entries[position].next),
            Candidate::Unanswered(rank) => self.unanswered_from(rank + 1),
        }
    }

    /// The first unanswered operation of this rank or a later one that may come next.
    fn unanswered_from(&self, rank: usize) -> Option<Candidate> {
        let deadline = self.first_return();
        (rank..self.unanswered.len())
            .take_while(|&rank| self.operations[self.unanswered[rank]].invoked <= deadline)
            .find(|&rank| !bit(&self.unanswered_placed, rank))
            .map(Candidate::Unanswered)
    }

    /// When the first answered operation that is not placed was answered.
    fn first_return(&self) -> u64 {
        let mut position = self.entries[HEAD].next;
        while position != HEAD && !self.entries[position].is_return {
            position = self.entries[position].next;
        }
        self.entries[position].time
    }

    /// Places the candidate if the model allows it and that was not tried before.
    fn place(&mut self, candidate: Candidate) -> bool {
        self.steps += 1;
        let operation = &self.operations[self.operation(candidate)];
        let output = operation.completion.as_ref().map(|completion| &completion.output);
        let Some(state) = self.model.step(&self.state, &operation.input, output) else {
            return false;
        };
        // An unanswered operation that changes nothing helps nobody.
        if matches!(candidate, Candidate::Unanswered(_)) && state == self.state {
            return false;
        }
        self.lift(candidate);
        if !self.visited.insert((self.key(), state.clone())) {
            self.unlift(candidate);
            return false;
        }
        let state_before = std::mem::replace(&mut self.state, state);
        self.stack.push(Placed { candidate, state_before });
        true
    }

    /// Takes the last placed operation back.
    fn take_back(&mut self) -> Option<Candidate> {
        let Placed { candidate, state_before } = self.stack.pop()?;
        self.state = state_before;
        self.unlift(candidate);
        Some(candidate)
    }

    /// Takes the candidate out of its list.
    fn lift(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Answered(position) => {
                let rank = self.entries[position].rank;
                for position in [position, self.returns[rank]] {
                    let Entry { previous, next, .. } = self.entries[position];
                    self.entries[previous].next = next;
                    self.entries[next].previous = previous;
                }
                flip(&mut self.answered_placed, rank);
                self.count += 1;
            }
            Candidate::Unanswered(rank) => flip(&mut self.unanswered_placed, rank),
        }
    }

    /// Undoes the last [`Self::lift`] that is not yet undone.
    fn unlift(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Answered(position) => {
                let rank = self.entries[position].rank;
                for position in [self.returns[rank], position] {
                    let Entry { previous, next, .. } = self.entries[position];
                    self.entries[previous].next = position;
                    self.entries[next].previous = position;
                }
                flip(&mut self.answered_placed, rank);
                self.count -= 1;
            }
            Candidate::Unanswered(rank) => flip(&mut self.unanswered_placed, rank),
        }
    }

    /// The set of placed operations, shortened: most of a long history is either all placed or not
    /// placed at all, and only the words between are kept.
    fn key(&self) -> Box<[u64]> {
        let first = self.entries[HEAD].next;
        // The first entry that is left is a call, and every call before it is placed.
        let low = if first == HEAD { self.answered.len() } else { self.entries[first].rank } / 64;
        let mut left = self.count - low * 64;
        let mut key = Vec::with_capacity(4 + self.unanswered_placed.len());
        key.push(low as u64);
        for &word in &self.answered_placed[low..] {
            if left == 0 {
                break;
            }
            left -= word.count_ones() as usize;
            key.push(word);
        }
        key.extend(&self.unanswered_placed);
        key.into_boxed_slice()
    }

    /// Remembers where the search is stuck if it never came further. There no answered candidate
    /// fits: one that did would have led further.
    fn note_dead_end(&mut self) {
        if self.furthest.is_some() && self.count <= self.furthest_count {
            return;
        }
        let mut stuck = Vec::new();
        let mut position = self.entries[HEAD].next;
        while position != HEAD && !self.entries[position].is_return {
            stuck.push(self.answered[self.entries[position].rank]);
            position = self.entries[position].next;
        }
        self.furthest_count = self.count;
        self.furthest =
            Some(Explanation { order: self.order(), stuck, state: format!("{:?}", self.state) });
    }

    fn order(&self) -> Vec<usize> {
        self.stack.iter().map(|placed| self.operation(placed.candidate)).collect()
    }

    /// The index of the candidate in the history.
    fn operation(&self, candidate: Candidate) -> usize {
        match candidate {
            Candidate::Answered(position) => self.answered[self.entries[position].rank],
            Candidate::Unanswered(rank) => self.unanswered[rank],
        }
    }
}

/// The list of calls and returns, sorted by time; at equal times calls come first, so that the
/// operations overlap.
fn entries<I, O>(operations: &[Operation<I, O>], answered: &[usize]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(1 + 2 * answered.len());
    for (rank, &index) in answered.iter().enumerate() {
        let operation = &operations[index];
        let returned = operation.completion.as_ref().map_or(u64::MAX, |completion| completion.at);
        for (time, is_return) in [(operation.invoked, false), (returned, true)] {
            entries.push(Entry { time, rank, is_return, previous: HEAD, next: HEAD });
        }
    }
    entries.sort_by_key(|entry| (entry.time, entry.is_return, entry.rank));
    entries.insert(
        HEAD,
        Entry { time: u64::MAX, rank: 0, is_return: true, previous: HEAD, next: HEAD },
    );
    let last = entries.len() - 1;
    for (position, entry) in entries.iter_mut().enumerate() {
        entry.previous = position.checked_sub(1).unwrap_or(last);
        entry.next = if position == last { HEAD } else { position + 1 };
    }
    entries
}

fn bit(words: &[u64], index: usize) -> bool {
    words[index / 64] >> (index % 64) & 1 == 1
}

fn flip(words: &mut [u64], index: usize) {
    words[index / 64] ^= 1 << (index % 64);
}
