//! The kinds of anomalies, with their definitions.

/// What can be wrong with a partitioned log.
///
/// "Known to hold a value" means: an acknowledgement or a poll said so, of a value that was sent and
/// not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `lost-write`: a committed value is not in the final read of its partition, though values
    /// after it are. Where there was no final read: nobody ever read it, though somebody read beyond
    /// it.
    ///
    /// Seen when a broker acknowledges before it has stored or replicated, when a leader is elected
    /// that lacks the last records, or when recovery cuts a log too early.
    LostWrite,
    /// `unseen`: a committed value lies beyond the end of the final read of its partition, or is not
    /// in it and nobody knows its offset.
    ///
    /// The tail is lost, or it is there and consumers do not get it: a high watermark that no longer
    /// moves, a fetch that waits for ever.
    Unseen,
    /// `duplicate`: one value is at several offsets of its partition.
    ///
    /// Seen when a send is tried again and the first try did arrive after all, and the producer's
    /// sequence numbers were forgotten or never checked.
    Duplicate,
    /// `inconsistent-offsets`: one offset holds several values, according to different
    /// acknowledgements or polls.
    ///
    /// Seen when two leaders hand out the same offsets, or when a log was cut and written again
    /// after its records had been acknowledged or read.
    InconsistentOffsets,
    /// `aborted-read` (G1a): a value was read of which the log had said that it is not stored.
    ///
    /// Seen when a failure is reported as certain while the write is still on its way.
    AbortedRead,
    /// `phantom`: a value was read that was never sent to this partition, or before it was sent.
    ///
    /// Seen after corruption, when a read is answered with another partition's or another time's
    /// bytes, or when a buffer is used again too early. (Jepsen's test stops here instead.)
    Phantom,
    /// `poll-skip`: between the last record of a client's poll and the first of its next, an offset
    /// is known to hold a value, and the client's place was not moved.
    ///
    /// Seen when a fetch is answered from a wrong position: an index that is off, a segment that is
    /// missed at its border, an offset committed too early.
    PollSkip,
    /// `nonmonotonic-poll`: the first record of a client's poll is not after the last of its poll
    /// before, and the client's place was not moved.
    ///
    /// Seen when a fetch begins at the start of a batch and the client does not drop what it has, or
    /// when a consumer falls back to an older committed offset.
    NonmonotonicPoll,
    /// `int-poll-skip` (internal): the same as `poll-skip`, between two records of one poll.
    ///
    /// Seen when an answer is put together from several segments or caches and a part is left out.
    IntPollSkip,
    /// `int-nonmonotonic-poll` (internal): the same as `nonmonotonic-poll`, within one poll.
    IntNonmonotonicPoll,
    /// `nonmonotonic-send`: a client's value was acknowledged at an offset that is not after that of
    /// a value which the client had sent before, and which was acknowledged as well.
    ///
    /// Seen when requests of one producer overtake each other, on two connections or by a retry, or
    /// when a log was cut in between. Lawful, and to be allowed, where a client may have several
    /// sends on their way and the log does not promise their order.
    NonmonotonicSend,
    /// `int-send-skip` (internal): between two values that were sent together, an offset is known to
    /// hold something else.
    ///
    /// A batch that was torn apart. Lawful, and to be [allowed](super::History::allow), where what is
    /// sent together need not lie together, as in a Kafka transaction.
    IntSendSkip,
    /// `int-nonmonotonic-send` (internal): of two values sent together, the second is not after the
    /// first.
    IntNonmonotonicSend,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::LostWrite,
        Self::Unseen,
        Self::Duplicate,
        Self::InconsistentOffsets,
        Self::AbortedRead,
        Self::Phantom,
        Self::PollSkip,
        Self::NonmonotonicPoll,
        Self::IntPollSkip,
        Self::IntNonmonotonicPoll,
        Self::NonmonotonicSend,
        Self::IntSendSkip,
        Self::IntNonmonotonicSend,
    ];

    /// The name in anomalies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost-write",
            Self::Unseen => "unseen",
            Self::Duplicate => "duplicate",
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::AbortedRead => "aborted-read",
            Self::Phantom => "phantom",
            Self::PollSkip => "poll-skip",
            Self::NonmonotonicPoll => "nonmonotonic-poll",
            Self::IntPollSkip => "int-poll-skip",
            Self::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Self::NonmonotonicSend => "nonmonotonic-send",
            Self::IntSendSkip => "int-send-skip",
            Self::IntNonmonotonicSend => "int-nonmonotonic-send",
        }
    }
}
