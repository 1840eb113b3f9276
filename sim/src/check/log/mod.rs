//! The anomalies of a partitioned log: did it lose, repeat, reorder, hide or invent anything?
//!
//! A log here has *partitions*; clients *send* values to them, and the log keeps each value at an
//! *offset* that only grows. Offsets may have gaps. Clients *poll*: each poll gives the records that
//! follow those of the poll before. Every value is sent to a partition only once, so that it can be
//! recognised.
//!
//! The names of the anomalies are those of Jepsen's test of Kafka (`jepsen.tests.kafka`, after
//! Elle: Kingsbury and Alvaro, 2020). [`Kind`] defines each, and says why a real system shows it.
//!
//! # Algorithm
//!
//! 1. Everything that is known about each partition is collected: which values are said to be at
//!    which offset, by acknowledgements and by polls, and who first read each value.
//! 2. A value is *committed* if its send was acknowledged, or if any value sent together with it was
//!    read: a send is all or nothing.
//! 3. What is at each offset, and where each value is, must be unique; what was read must have been
//!    sent and not refused.
//! 4. What is committed must have been read: in the final read of its partition if there is one;
//!    otherwise by anybody, up to the highest offset that was read at all.
//! 5. Each client's polls and sends are followed one by one, and may not go back or leave out an
//!    offset that is known to hold a value.
//!
//! The time is near-linear in the number of records, the memory is linear.
//!
//! # What the history must tell
//!
//! * What a client did, in the order in which it did it. A client that sends from several places
//!   without an order between them is several clients.
//! * Each time a client's place was moved on purpose: a seek, a new assignment, a rebalance
//!   ([`History::moved`]).
//! * A final read of each partition, from beginning to end, when all is quiet
//!   ([`History::final_read`]). Without it, losses at the end stay unknown, and a log of which nobody
//!   was meant to read all seems to have lost what was left out.
//!
//! Transactions are not modelled, and so there is no `precommitted-read` here (a transaction that
//! polls what it is just sending): without transactions, a value may well be read before its sender
//! is told that it is stored.
//!
//! # Example
//!
//! ```
//! use woodchuck_sim::check::log::History;
//!
//! let mut history = History::new();
//! for (value, offset) in [("a", 0), ("b", 1), ("c", 2)] {
//!     let sending = history.send(1, 10 + offset, "orders/0", value);
//!     history.acknowledged(sending, 20 + offset, [Some(offset)]);
//! }
//! history.poll(2, 30, [("orders/0", 0, "a"), ("orders/0", 1, "b"), ("orders/0", 2, "c")]);
//! assert!(history.judge().holds());
//!
//! history.moved(2, ["orders/0"]);
//! history.poll(2, 50, [("orders/0", 0, "a"), ("orders/0", 2, "c")]);
//! assert_eq!(
//!     history.judge().to_string(),
//!     "violated:\n  int-poll-skip: \"orders/0\": client 2 polled offset 0 and then 2 in one poll at \
//!      50, and 1 offset between them is known to hold a value, the first 1 with \"b\"",
//! );
//! ```

mod content;
mod history;
mod kind;
mod order;
mod progress;

#[cfg(test)]
mod tests;

pub use history::{History, Sending};
pub use kind::Kind;
