"""What is produced, what comes back, and how the two are compared."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Headers = tuple[tuple[str, bytes | None], ...]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MEGABYTE = 1_000_000
# The timestamp of the first message that has one of its own.
FIRST_MS = 1_700_000_000_000


class Mismatch(AssertionError):
    """What came back is not what was sent."""


@dataclass(frozen=True)
class Message:
    """A message to be produced."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int = 0
    timestamp_ms: int | None = None


@dataclass(frozen=True)
class Received:
    """A message that a consumer was given."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class ProducerOptions:
    """How a producer is set up, in words that every client has."""

    codec: str = "none"
    acks: str = "all"
    idempotent: bool = False
    extra: dict[str, object] = field(default_factory=dict)


def shorten(data: bytes | None) -> str:
    """Bytes for an error message."""
    if data is None or len(data) <= 40:
        return repr(data)
    return f"{data[:24]!r}… ({len(data)} bytes)"


def describe(message: Message | Received) -> str:
    """A message for an error message."""
    where = f"{message.partition}@{message.offset} " if isinstance(message, Received) else ""
    headers = [(name, shorten(value)) for name, value in message.headers]
    return f"{where}key {shorten(message.key)} value {shorten(message.value)} headers {headers}"


def by_partition(messages: Iterable[Message]) -> dict[int, list[Message]]:
    """The messages of each partition, in the order in which they were sent."""
    parted: dict[int, list[Message]] = defaultdict(list)
    for message in messages:
        parted[message.partition].append(message)
    return dict(parted)


def require_same(sent: Iterable[Message], received: dict[int, list[Received]]) -> None:
    """Fails unless each partition gave back exactly what it was sent, in order, from offset 0."""
    for partition, messages in by_partition(sent).items():
        require_same_partition(messages, received.get(partition, []))


def require_same_partition(
    sent: Sequence[Message], received: Sequence[Received], first_offset: int = 0
) -> None:
    """The same for one partition, whose first message has this offset."""
    if len(sent) != len(received):
        raise Mismatch(f"{len(sent)} messages were sent and {len(received)} came back")
    for at, (message, got) in enumerate(zip(sent, received, strict=True)):
        if got.offset != first_offset + at:
            raise Mismatch(f"message {at} has offset {got.offset}, not {first_offset + at}")
        same = (message.key, message.value, message.headers) == (got.key, got.value, got.headers)
        if not same:
            raise Mismatch(f"sent {describe(message)}, came back as {describe(got)}")
        if message.timestamp_ms is not None and message.timestamp_ms != got.timestamp_ms:
            raise Mismatch(f"sent at {message.timestamp_ms}, came back as {got.timestamp_ms}")


def require_offsets(messages: Iterable[Message], offsets: Sequence[int]) -> None:
    """Fails unless a producer was told the offsets 0, 1, 2, … for each partition."""
    following: dict[int, int] = defaultdict(int)
    for message, offset in zip(messages, offsets, strict=True):
        expected = following[message.partition]
        if offset != expected:
            raise Mismatch(f"{describe(message)} was acknowledged at {offset}, not at {expected}")
        following[message.partition] += 1


def require_equal(what: str, actual: object, expected: object) -> None:
    """Fails unless both are equal, and says what was compared."""
    if actual != expected:
        raise Mismatch(f"{what}: is {actual!r}, should be {expected!r}")


def require(condition: bool, what: str) -> None:
    """Fails with these words unless the condition holds."""
    if not condition:
        raise Mismatch(what)


def assorted(partitions: int, seed: int) -> list[Message]:
    """Messages of all shapes for every partition: empty, small and large values, null and empty
    keys, null values, headers with repeated names and empty values.

    Null values always have a key, and no header's value is null, because kafka-python takes no
    others; librdkafka's are tested on their own.
    """
    numbers = random.Random(seed)
    repeated: Headers = (("one", b"1"), ("none", b""), ("one", b"2"))
    unusual: Headers = (("n\u00e4me", bytes(range(256))),)
    messages = []
    for partition in range(partitions):
        noise = numbers.randbytes(MEGABYTE)
        shapes = [
            Message(b"", partition=partition),
            Message(b"", key=b"", partition=partition),
            Message(numbers.randbytes(100), key=b"hundred", partition=partition),
            Message(None, key=b"tombstone", partition=partition),
            Message(noise, key=numbers.randbytes(9), partition=partition),
            Message(b"x", headers=repeated, partition=partition),
            Message(b"y", key=b"k" * 1000, headers=unusual, partition=partition),
        ]
        shapes += [
            Message(b"%d" % at, key=b"small", partition=partition, timestamp_ms=FIRST_MS + at)
            for at in range(50)
        ]
        messages.append(shapes)
    # Interleaved, so that every request carries several partitions.
    return [message for row in zip(*messages, strict=True) for message in row]
