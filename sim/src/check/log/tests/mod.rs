//! Each anomaly by hand, beside a history that is like it and lawful; then random logs.

mod kinds;
mod random;

use super::*;
use crate::check::Verdict;

/// The only partition of most histories here.
const P: &str = "p";

/// What happens in a history: a shorter way to write it down. Times count up.
enum Event {
    /// Client, value, and the offset that was told.
    Acked(u64, &'static str, u64),
    /// Acknowledged, without an offset.
    AckedSomewhere(u64, &'static str),
    /// Never answered.
    Sent(u64, &'static str),
    Refused(u64, &'static str),
    /// Client, and values with offsets that were sent together.
    AckedTogether(u64, &'static [(&'static str, u64)]),
    SentTogether(u64, &'static [&'static str]),
    Poll(u64, &'static [(u64, &'static str)]),
    Moved(u64),
    /// Start and records.
    Final(u64, &'static [(u64, &'static str)]),
}
use Event::*;

fn history(events: &[Event]) -> History<&'static str, &'static str> {
    let mut history = History::new();
    for (event, at) in events.iter().zip((10..).step_by(10)) {
        match *event {
            Acked(client, value, offset) => {
                let sending = history.send(client, at, P, value);
                history.acknowledged(sending, at + 1, [Some(offset)]);
            }
            AckedSomewhere(client, value) => {
                let sending = history.send(client, at, P, value);
                history.acknowledged(sending, at + 1, []);
            }
            Sent(client, value) => {
                let _ = history.send(client, at, P, value);
            }
            Refused(client, value) => {
                let sending = history.send(client, at, P, value);
                history.failed(sending, at + 1);
            }
            AckedTogether(client, values) => {
                let records = values.iter().map(|&(value, _)| (P, value));
                let sending = history.send_together(client, at, records);
                let offsets = values.iter().map(|&(_, offset)| Some(offset));
                history.acknowledged(sending, at + 1, offsets);
            }
            SentTogether(client, values) => {
                let _ = history.send_together(client, at, values.iter().map(|&value| (P, value)));
            }
            Poll(client, records) => {
                let records = records.iter().map(|&(offset, value)| (P, offset, value));
                history.poll(client, at, records);
            }
            Moved(client) => history.moved(client, [P]),
            Final(start, records) => history.final_read(P, at, start, records.iter().copied()),
        }
    }
    history
}

/// The history shows this kind once, and nothing else.
#[track_caller]
fn assert_shows(kind: Kind, what: &str, events: &[Event]) {
    let mut history = history(events);
    let verdict = history.judge();
    let told: Vec<_> = verdict.anomalies().iter().map(|anomaly| anomaly.to_string()).collect();
    assert_eq!(told, [format!("{}: \"p\": {what}", kind.name())]);
    history.allow(kind);
    assert!(!history.judge().is_violated(), "it is allowed");
}

#[track_caller]
fn assert_holds(events: &[Event]) {
    assert_eq!(history(events).judge(), Verdict::Holds);
}

#[test]
fn names_are_kebab_case_and_unique() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
}

#[test]
fn what_proves_nothing_is_no_success() {
    let inconclusive = |events: &[Event]| history(events).judge().to_string();
    assert_eq!(
        inconclusive(&[Sent(1, "a"), Poll(2, &[(0, "a")])]),
        "inconclusive: nothing was acknowledged, so nothing had to be kept"
    );
    assert_eq!(inconclusive(&[Acked(1, "a", 0), Poll(2, &[])]), "inconclusive: nothing was read");
    assert_eq!(
        inconclusive(&[Acked(1, "a", 0), Refused(2, "b"), Sent(2, "b"), Poll(2, &[(0, "a")])]),
        "inconclusive: \"p\": the value \"b\" was sent twice and cannot be recognised"
    );
}

#[test]
fn partitions_are_judged_apart() {
    let mut history = History::new();
    let sending = history.send_together(1, 1, [(0, "a"), (1, "a"), (0, "b")]);
    history.acknowledged(sending, 2, [Some(4), Some(2), Some(5)]);
    history.poll(2, 5, [(0, 4, "a"), (1, 2, "a"), (0, 5, "b")]);
    assert!(history.judge().holds());
    history.poll(3, 6, [(1, 3, "b")]);
    assert_eq!(
        history.judge().to_string(),
        "violated:\n  phantom: 1: \"b\" at offset 3 was polled by client 3 at 6 and never sent"
    );
}

#[test]
fn a_place_may_be_moved_in_one_partition_or_in_all() {
    let judge = |moved: fn(&mut History<u8, char>)| {
        let mut history = History::new();
        let sending = history.send_together(1, 1, [(0, 'a'), (1, 'b')]);
        history.acknowledged(sending, 2, [Some(0), Some(0)]);
        history.poll(2, 3, [(0, 0, 'a'), (1, 0, 'b')]);
        moved(&mut history);
        history.poll(2, 4, [(0, 0, 'a'), (1, 0, 'b')]);
        history.judge().anomalies().len()
    };
    assert_eq!(judge(|_| {}), 2);
    assert_eq!(judge(|history| history.moved(2, [1])), 1);
    assert_eq!(judge(|history| history.moved(3, [0, 1])), 2, "another client");
    assert_eq!(judge(|history| history.moved_everywhere(2)), 0);
}
