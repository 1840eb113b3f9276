//! For each kind: a history that shows it alone, and lawful ones close to it.

use super::*;

#[test]
fn lost_write() {
    // By a final read: values before and after it are there.
    assert_shows(
        Kind::LostWrite,
        "\"b\" at offset 1 is not in the final read; the final read at 40 ends with offset 2; \
         client 1 sent it at 20 and was told at 21 that it is stored",
        &[Acked(1, "a", 0), Acked(1, "b", 1), Acked(1, "c", 2), Final(0, &[(0, "a"), (2, "c")])],
    );
    // It was read once, so it was there; its sender does not matter.
    assert_shows(
        Kind::LostWrite,
        "\"b\" at offset 1 is not in the final read; the final read at 50 ends with offset 2; \
         client 1 sent it at 20, and it was polled by client 2 at 40",
        &[
            Acked(1, "a", 0),
            Sent(1, "b"),
            Acked(1, "c", 2),
            Poll(2, &[(0, "a"), (1, "b")]),
            Final(0, &[(0, "a"), (2, "c")]),
        ],
    );
    // Without a final read: nobody read it, though two read around it.
    assert_shows(
        Kind::LostWrite,
        "\"b\" at offset 1 was never read, and offset 2 was polled by client 3 at 50; client 1 \
         sent it at 20 and was told at 21 that it is stored",
        &[
            Acked(1, "a", 0),
            Acked(1, "b", 1),
            Acked(1, "c", 2),
            Poll(2, &[(0, "a")]),
            Poll(3, &[(2, "c")]),
        ],
    );
}

#[test]
fn no_lost_write() {
    // Never answered: it may be there or not.
    assert_holds(&[
        Acked(1, "a", 0),
        Sent(1, "b"),
        Acked(1, "c", 2),
        Final(0, &[(0, "a"), (2, "c")]),
    ]);
    // Deleted by retention.
    assert_holds(&[Acked(1, "a", 0), Acked(1, "b", 1), Acked(1, "c", 2), Final(2, &[(2, "c")])]);
    // Another one read it.
    assert_holds(&[
        Acked(1, "a", 0),
        Acked(1, "b", 1),
        Acked(1, "c", 2),
        Poll(2, &[(0, "a"), (1, "b")]),
        Poll(3, &[(2, "c")]),
    ]);
    // Nobody came so far.
    assert_holds(&[Acked(1, "a", 0), Acked(1, "b", 1), Poll(2, &[(0, "a")])]);
}

#[test]
fn unseen() {
    assert_shows(
        Kind::Unseen,
        "\"b\" at offset 1 was not seen; the final read at 30 ends with offset 0; client 1 sent \
         it at 20 and was told at 21 that it is stored",
        &[Acked(1, "a", 0), Acked(1, "b", 1), Final(0, &[(0, "a")])],
    );
    assert_shows(
        Kind::Unseen,
        "\"a\" at offset 0 was not seen; the final read at 20 is empty; client 1 sent it at 10 \
         and was told at 11 that it is stored",
        &[Acked(1, "a", 0), Final(0, &[])],
    );
    assert_shows(
        Kind::Unseen,
        "\"b\" at an unknown offset was not seen; the final read at 30 ends with offset 0; \
         client 1 sent it at 20 and was told at 21 that it is stored",
        &[Acked(1, "a", 0), AckedSomewhere(1, "b"), Final(0, &[(0, "a")])],
    );
    // One of two that were sent together was read, so both are committed.
    assert_shows(
        Kind::Unseen,
        "\"c\" at an unknown offset was not seen; the final read at 30 ends with offset 1; \
         client 1 sent it at 20 together with values that were read",
        &[Acked(1, "a", 0), SentTogether(1, &["b", "c"]), Final(0, &[(0, "a"), (1, "b")])],
    );
    assert_holds(&[Acked(1, "a", 0), Sent(1, "b"), Final(0, &[(0, "a")])]);
    assert_holds(&[Acked(1, "a", 0), SentTogether(1, &["b", "c"]), Final(0, &[(0, "a")])]);
    assert_holds(&[Acked(1, "a", 0), AckedSomewhere(1, "b"), Final(0, &[(0, "a"), (7, "b")])]);
}

#[test]
fn duplicate() {
    assert_shows(
        Kind::Duplicate,
        "\"a\" is at 2 offsets: 0 (acknowledged to client 1 at 11), 1 (polled by client 2 at 20)",
        &[Acked(1, "a", 0), Poll(2, &[(0, "a"), (1, "a")])],
    );
    // To have it twice at the same place is another thing.
    assert_holds(&[Acked(1, "a", 0), Poll(2, &[(0, "a")]), Poll(3, &[(0, "a")])]);
}

#[test]
fn inconsistent_offsets() {
    assert_shows(
        Kind::InconsistentOffsets,
        "offset 0 holds 2 values: \"a\" (acknowledged to client 1 at 11), \"b\" (polled by client \
         3 at 40)",
        &[Acked(1, "a", 0), Sent(1, "b"), Poll(2, &[(0, "a")]), Poll(3, &[(0, "b")])],
    );
    assert_holds(&[
        Acked(1, "a", 0),
        Sent(1, "b"),
        Poll(2, &[(0, "a")]),
        Poll(3, &[(0, "a"), (1, "b")]),
    ]);
}

#[test]
fn aborted_read() {
    assert_shows(
        Kind::AbortedRead,
        "\"b\" at offset 1 was polled by client 2 at 30; client 1 had sent it at 20 and was told \
         at 21 that it is not stored",
        &[Acked(1, "a", 0), Refused(1, "b"), Poll(2, &[(0, "a"), (1, "b")])],
    );
    assert_holds(&[Acked(1, "a", 0), Refused(1, "b"), Poll(2, &[(0, "a")])]);
    assert_holds(&[Acked(1, "a", 0), Sent(1, "b"), Poll(2, &[(0, "a"), (1, "b")])]);
    // Who rightly did not get it has skipped nothing, and it need not be kept.
    assert_shows(
        Kind::AbortedRead,
        "\"b\" at offset 1 was polled by client 2 at 40; client 1 had sent it at 20 and was told \
         at 21 that it is not stored",
        &[
            Acked(1, "a", 0),
            Refused(1, "b"),
            Acked(1, "c", 2),
            Poll(2, &[(0, "a"), (1, "b"), (2, "c")]),
            Poll(3, &[(0, "a"), (2, "c")]),
            Final(0, &[(0, "a"), (2, "c")]),
        ],
    );
}

#[test]
fn phantom() {
    assert_shows(
        Kind::Phantom,
        "\"x\" at offset 1 was polled by client 2 at 20 and never sent",
        &[Acked(1, "a", 0), Poll(2, &[(0, "a"), (1, "x")])],
    );
    assert_shows(
        Kind::Phantom,
        "\"b\" at offset 1 was polled by client 2 at 20, before client 1 sent it at 30",
        &[Acked(1, "a", 0), Poll(2, &[(0, "a"), (1, "b")]), Acked(1, "b", 1)],
    );
    // A value may be read before its sender has the answer.
    let mut history = History::new();
    let sending = history.send(1, 10, P, "a");
    history.poll(2, 20, [(P, 0, "a")]);
    history.acknowledged(sending, 30, [Some(0)]);
    assert!(history.judge().holds());
}

#[test]
fn poll_skip() {
    assert_shows(
        Kind::PollSkip,
        "client 2 polled offset 0 and then 4 in polls at 50 and 60, and 2 offsets between them \
         are known to hold a value, the first 1 with \"b\"",
        &[
            Acked(1, "a", 0),
            Acked(1, "b", 1),
            Acked(1, "c", 3),
            Acked(1, "d", 4),
            Poll(2, &[(0, "a")]),
            Poll(2, &[(4, "d")]),
            Poll(3, &[(0, "a"), (1, "b"), (3, "c")]),
        ],
    );
    // It is known by another poll alone.
    assert_shows(
        Kind::PollSkip,
        "client 2 polled offset 0 and then 2 in polls at 40 and 50, and 1 offset between them is \
         known to hold a value, the first 1 with \"b\"",
        &[
            Acked(1, "a", 0),
            Sent(1, "b"),
            Acked(1, "c", 2),
            Poll(2, &[(0, "a")]),
            Poll(2, &[(2, "c")]),
            Poll(3, &[(1, "b")]),
        ],
    );
}

#[test]
fn no_poll_skip() {
    // The place was moved.
    assert_holds(&[
        Acked(1, "a", 0),
        Acked(1, "b", 1),
        Acked(1, "c", 2),
        Poll(2, &[(0, "a")]),
        Moved(2),
        Poll(2, &[(2, "c")]),
        Poll(3, &[(1, "b")]),
    ]);
    // Offset 1 holds nothing.
    assert_holds(&[
        Acked(1, "a", 0),
        Acked(1, "c", 2),
        Poll(2, &[(0, "a")]),
        Poll(2, &[]),
        Poll(2, &[(2, "c")]),
    ]);
}

#[test]
fn nonmonotonic_poll() {
    for again in [Poll(2, &[(1, "b")]), Poll(2, &[(0, "a"), (1, "b")])] {
        let Poll(_, records) = again else { unreachable!() };
        let what = format!(
            "client 2 polled offset 1 and then {} in polls at 30 and 40, which is not after it",
            records[0].0
        );
        assert_shows(
            Kind::NonmonotonicPoll,
            &what,
            &[Acked(1, "a", 0), Acked(1, "b", 1), Poll(2, &[(0, "a"), (1, "b")]), again],
        );
    }
    assert_holds(&[
        Acked(1, "a", 0),
        Acked(1, "b", 1),
        Poll(2, &[(0, "a"), (1, "b")]),
        Moved(2),
        Poll(2, &[(0, "a")]),
        Poll(2, &[(1, "b")]),
        Poll(3, &[(0, "a")]),
    ]);
}

#[test]
fn int_poll_skip() {
    assert_shows(
        Kind::IntPollSkip,
        "client 2 polled offset 0 and then 2 in one poll at 40, and 1 offset between them is \
         known to hold a value, the first 1 with \"b\"",
        &[
            Acked(1, "a", 0),
            Acked(1, "b", 1),
            Acked(1, "c", 2),
            Poll(2, &[(0, "a"), (2, "c")]),
            Poll(3, &[(1, "b")]),
        ],
    );
    assert_holds(&[Acked(1, "a", 0), Acked(1, "c", 2), Poll(2, &[(0, "a"), (2, "c")])]);
}

#[test]
fn int_nonmonotonic_poll() {
    assert_shows(
        Kind::IntNonmonotonicPoll,
        "client 2 polled offset 1 and then 0 in one poll at 30, which is not after it",
        &[Acked(1, "a", 0), Acked(1, "b", 1), Poll(2, &[(1, "b"), (0, "a")])],
    );
    assert_shows(
        Kind::IntNonmonotonicPoll,
        "client 2 polled offset 0 and then 0 in one poll at 20, which is not after it",
        &[Acked(1, "a", 0), Poll(2, &[(0, "a"), (0, "a")])],
    );
    assert_shows(
        Kind::IntNonmonotonicPoll,
        "the final read at 30 gave offset 1 and then 0, which is not after it",
        &[Acked(1, "a", 0), Acked(1, "b", 1), Final(0, &[(1, "b"), (0, "a")])],
    );
    assert_holds(&[Acked(1, "a", 0), Acked(1, "b", 1), Poll(2, &[(0, "a"), (1, "b")])]);
}

#[test]
fn nonmonotonic_send() {
    let read = || Final(0, &[(0, "a"), (1, "b")]);
    assert_shows(
        Kind::NonmonotonicSend,
        "client 1 sent \"a\" at 20, after what it sent at 10, and it is at offset 0, not after \
         offset 1",
        &[Acked(1, "b", 1), Acked(1, "a", 0), read()],
    );
    // The acknowledgement did not tell the offset, the read did.
    assert_shows(
        Kind::NonmonotonicSend,
        "client 1 sent \"a\" at 20, after what it sent at 10, and it is at offset 0, not after \
         offset 1",
        &[Acked(1, "b", 1), AckedSomewhere(1, "a"), read()],
    );
    // Two clients, or one that had no answer and went on: anything may come first.
    assert_holds(&[Acked(1, "b", 1), Acked(2, "a", 0), read()]);
    assert_holds(&[Sent(1, "b"), Acked(1, "a", 0), read()]);
    assert_holds(&[Acked(1, "b", 1), Sent(1, "a"), read()]);
    assert_holds(&[Acked(1, "a", 0), Acked(1, "b", 1), read()]);
}

#[test]
fn int_send_skip() {
    let read = || Final(0, &[(0, "a"), (1, "b"), (2, "c")]);
    assert_shows(
        Kind::IntSendSkip,
        "client 1 sent \"a\" and then \"c\" in one send at 10, they are at offsets 0 and 2, and 1 \
         offset between them is known to hold a value, the first 1 with \"b\"",
        &[AckedTogether(1, &[("a", 0), ("c", 2)]), Acked(2, "b", 1), read()],
    );
    // Also without an answer, if it is seen to have happened.
    assert_shows(
        Kind::IntSendSkip,
        "client 1 sent \"a\" and then \"c\" in one send at 10, they are at offsets 0 and 2, and 1 \
         offset between them is known to hold a value, the first 1 with \"b\"",
        &[SentTogether(1, &["a", "c"]), Acked(2, "b", 1), read()],
    );
    assert_holds(&[AckedTogether(1, &[("a", 0), ("b", 1)]), Acked(2, "c", 2), read()]);
    assert_holds(&[
        AckedTogether(1, &[("a", 0), ("c", 2)]),
        Sent(2, "b"),
        Final(0, &[(0, "a"), (2, "c")]),
    ]);
}

#[test]
fn int_nonmonotonic_send() {
    let read = || Final(0, &[(0, "a"), (1, "b")]);
    assert_shows(
        Kind::IntNonmonotonicSend,
        "client 1 sent \"b\" and then \"a\" in one send at 10, they are at offsets 1 and 0",
        &[AckedTogether(1, &[("b", 1), ("a", 0)]), read()],
    );
    assert_holds(&[AckedTogether(1, &[("a", 0), ("b", 1)]), read()]);
    // After a send of several, the last one counts for the next.
    assert_shows(
        Kind::NonmonotonicSend,
        "client 1 sent \"b\" at 20, after what it sent at 10, and it is at offset 0, not after \
         offset 2",
        &[
            AckedTogether(1, &[("a", 1), ("c", 2)]),
            Acked(1, "b", 0),
            Final(0, &[(0, "b"), (1, "a"), (2, "c")]),
        ],
    );
}
