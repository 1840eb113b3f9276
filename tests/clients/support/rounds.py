"""Rounds that load the real broker, end it without notice, and check what it kept.

Each round starts a broker on the data of all rounds before, and loads it with:

* one *plain* producer (acks all, no retries): a message of its is either acknowledged, or may or
  may not be there, but never twice;
* one *idempotent* producer that lives through the end and goes on with the next broker: each of
  its messages must be there exactly once, in order;
* one consumer that remembers the batches it was given, byte for byte.

How a round ends the broker, and what happens before the next start, is for those who inherit
`Rounds` to say. Then a broker is started on the same data and port, and everything is read back:

1. the offsets of each partition are 0, 1, 2, … without a gap;
2. whatever was ever acknowledged stands at the offset that was acknowledged;
3. no message is there twice, and each producer's messages are in the order they were sent in;
4. every batch that a consumer ever read is still what it was, in its place;
5. every message of the idempotent producer is there.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

try:
    import confluent_kafka
except ImportError as missing:
    folder = Path(__file__).resolve().parent.parent
    sys.exit(
        f"{missing}; run this with the Python of a virtual environment that has "
        f"{folder / 'requirements.txt'} installed"
    )

from . import wire
from .broker import Broker, StartOptions
from .clients import CONFLUENT, QUIET, confluent_consumer_settings
from .messages import Mismatch, require, require_equal
from .suite import Outcome, problem_of
from .waiting import Deadline, wait_for

TOPIC = "rounds"
PARTITIONS = 6
# Messages a producer keeps waiting for their acknowledgement: enough to have several requests under
# way at any moment, few enough that the end finds most of them not yet acknowledged.
IN_FLIGHT = 2000
# What a producer sends in a second at most, so that reading everything back twenty times is quick.
MESSAGES_PER_SECOND = 15_000
# What survives the end must be served again so soon.
DELIVERY_TIMEOUT_S = 60.0

# A message's id is its producer's name and its number; its place a partition and an offset.
Id = tuple[str, int]
Place = tuple[int, int]


def value_of(identity: Id) -> bytes:
    """The value of a message: its id, filler that depends on it, and a checksum of both.

    Sizes vary from tens of bytes to a few kilobytes, so that batches end anywhere in a block.
    """
    name, number = identity
    label = f"{name}:{number}:".encode()
    mixed = zlib.crc32(label)
    body = label + bytes([mixed & 0xFF]) * (mixed % 300 if mixed % 50 else 4000)
    return body + b"%08x" % zlib.crc32(body)


def identity_of(value: bytes) -> Id:
    """The id of a message; fails if it is not one of ours, whole."""
    body = value[:-8]
    if len(value) < 8 or b"%08x" % zlib.crc32(body) != value[-8:]:
        raise Mismatch(f"a message is damaged: {value[:60]!r} ({len(value)} bytes)")
    name, number, _ = body.split(b":", 2)
    return name.decode(), int(number)


def partition_of(number: int) -> int:
    """Where a producer sends its message of this number."""
    return number % PARTITIONS


@dataclass
class Memory:
    """What has to be true for ever after."""

    acknowledged: dict[Place, Id] = field(default_factory=dict)
    # The CRC-32 of the bytes of each batch that a consumer was given, with the batch's last offset.
    read: dict[Place, tuple[int, int]] = field(default_factory=dict)
    # How many messages each idempotent producer sent.
    promised: dict[str, int] = field(default_factory=dict)


class Producer:
    """A producer in a thread of its own that remembers what was acknowledged."""

    def __init__(self, address: str, name: str, memory: Memory, idempotent: bool) -> None:
        self.name = name
        self._memory = memory
        settings: dict[str, Any] = {
            "bootstrap.servers": address,
            "acks": "all",
            "enable.idempotence": idempotent,
            "linger.ms": 1,
            "batch.num.messages": 200,
            "queue.buffering.max.messages": IN_FLIGHT,
            "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "retry.backoff.ms": 20,
            **QUIET,
        }
        if not idempotent:
            settings["retries"] = 0
        self._producer = confluent_kafka.Producer(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self.sent = 0
        self.acknowledged = 0
        self.problem: str | None = None
        self.failures: list[str] = []

    def start(self) -> None:
        """Begins to produce."""
        self._thread.start()

    def stop_sending(self) -> None:
        """Ends the sending. What was sent may still be acknowledged."""
        self._stop.set()
        self._thread.join(timeout=30)
        require(not self._thread.is_alive(), f"{self.name} does not stop")
        require(self.problem is None, f"{self.name}: {self.problem}")

    def flush(self, seconds: float) -> int:
        """Waits for what is under way, and returns how many messages are left."""
        left: int = self._producer.flush(seconds)
        return left

    def give_up(self) -> None:
        """Drops what is under way. It may be there or not."""
        self._producer.purge()
        self._producer.flush(10.0)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            while not self._stop.is_set():
                allowed = int((time.monotonic() - began) * MESSAGES_PER_SECOND)
                if self.sent >= allowed or not self._send_one():
                    self._producer.poll(0.002)
                elif self.sent % 64 == 0:
                    self._producer.poll(0)
        except Exception as error:  # Told by the main thread.
            self.problem = f"{type(error).__name__}: {error}"

    def _send_one(self) -> bool:
        number = self.sent
        try:
            self._producer.produce(
                TOPIC,
                value_of((self.name, number)),
                partition=partition_of(number),
                on_delivery=lambda error, report: self._delivered(number, error, report),
            )
        except BufferError:
            return False
        self.sent += 1
        return True

    def _delivered(self, number: int, error: Any, report: Any) -> None:
        if error is not None:
            self.failures.append(f"message {number}: {error}")
            return
        place, identity = (report.partition(), report.offset()), (self.name, number)
        before = self._memory.acknowledged.setdefault(place, identity)
        if before != identity and self.problem is None:
            self.problem = f"{identity} is acknowledged at {place}, where {before} is already"
        self.acknowledged += 1


class Consumer:
    """A consumer in a thread of its own: raw fetches, to see batches as they are stored."""

    def __init__(self, port: int, ends: dict[int, int], memory: Memory) -> None:
        self._offsets = dict(ends)
        self._connection = wire.Connection(port)
        self._memory = memory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer")
        self.batches = 0
        self.problem: str | None = None

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the reading."""
        self._stop.set()
        self._thread.join(timeout=30)
        self._connection.close()
        require(not self._thread.is_alive(), "the consumer does not stop")
        require(self.problem is None, f"consumer: {self.problem}")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._fetch()
        except (OSError, EOFError):
            pass  # The broker has ended.
        except wire.WireError as error:
            # Its end may cut an answer; anything else is wrong.
            if "closed after" not in str(error):
                self.problem = str(error)
        except Exception as error:  # Told by the main thread.
            self.problem = f"{type(error).__name__}: {error}"

    def _fetch(self) -> None:
        body = wire.fetch_body(TOPIC, list(self._offsets.items()), max_wait_ms=50)
        fetched = wire.read_fetch(self._connection.request(wire.Api.FETCH, 11, body))
        for partition, part in fetched.items():
            require_equal(f"the error of a fetch from {partition}", part.error, 0)
            for batch in part.batches:
                expected = self._offsets[partition]
                if batch.base_offset != expected:
                    raise Mismatch(f"{partition}: a batch at {batch.base_offset}, not {expected}")
                self._offsets[partition] = batch.last_offset + 1
                place = (partition, batch.base_offset)
                self._memory.read[place] = (zlib.crc32(batch.raw), batch.last_offset)
                self.batches += 1


def verify(address: str, port: int, memory: Memory) -> int:
    """Reads everything back, checks 1 to 5 of the head, and returns how many messages there are."""
    ends = CONFLUENT.end_offsets(address, TOPIC, range(PARTITIONS))
    stored = read_all(address, ends)
    check_acknowledged(stored, memory)
    check_order_and_repetition(stored)
    check_read(port, ends, memory)
    check_promised(stored, memory)
    return sum(ends.values())


def read_all(address: str, ends: dict[int, int]) -> dict[int, list[Id]]:
    """The ids of all messages of each partition. Their offsets are checked to be 0, 1, 2, …"""
    stored: dict[int, list[Id]] = {partition: [] for partition in ends}
    left = sum(ends.values())
    deadline = Deadline(120.0, f"{left} messages to be read back")
    consumer: Any = confluent_kafka.Consumer(confluent_consumer_settings(address))
    try:
        consumer.assign([confluent_kafka.TopicPartition(TOPIC, number, 0) for number in ends])
        while left:
            deadline.check(f"{left} are missing")
            for message in consumer.consume(10_000, timeout=0.5):
                if message.error():
                    raise Mismatch(f"reading back: {message.error()}")
                part = stored[message.partition()]
                if message.offset() != len(part):
                    raise Mismatch(
                        f"{message.partition()}: offset {message.offset()} comes after "
                        f"{len(part) - 1}"
                    )
                part.append(identity_of(message.value()))
                left -= 1
    finally:
        consumer.close()
    return stored


def check_acknowledged(stored: dict[int, list[Id]], memory: Memory) -> None:
    """Whatever was acknowledged stands where that was said."""
    lost = []
    for (partition, offset), identity in memory.acknowledged.items():
        part = stored[partition]
        found = part[offset] if offset < len(part) else None
        if found != identity:
            lost.append(f"{identity} acknowledged at {partition}@{offset}, where now is {found}")
    require(not lost, f"{len(lost)} acknowledged messages are lost: " + "; ".join(lost[:5]))


def check_order_and_repetition(stored: dict[int, list[Id]]) -> None:
    """Each producer's messages come in the order they were sent in, so none comes twice."""
    for partition, part in stored.items():
        last: dict[str, int] = defaultdict(lambda: -1)
        for offset, (name, number) in enumerate(part):
            require(
                number > last[name] and partition_of(number) == partition,
                f"{name}:{number} at {partition}@{offset} comes after {name}:{last[name]}",
            )
            last[name] = number


def check_read(port: int, ends: dict[int, int], memory: Memory) -> None:
    """Every batch that was ever read is still there, byte for byte."""
    wrong = []
    left = dict(memory.read)
    with wire.Connection(port, 60.0) as connection:
        for partition in ends:
            for batch in wire.fetch_whole(connection, TOPIC, partition):
                before = left.pop((partition, batch.base_offset), None)
                if before not in (None, (zlib.crc32(batch.raw), batch.last_offset)):
                    wrong.append(f"{partition}@{batch.base_offset} has changed")
    wrong += [f"{partition}@{offset} is gone" for partition, offset in left]
    require(not wrong, f"{len(wrong)} batches that were read: " + "; ".join(wrong[:5]))


def check_promised(stored: dict[int, list[Id]], memory: Memory) -> None:
    """Every message of an idempotent producer that has finished is there."""
    counts: dict[str, int] = defaultdict(int)
    for part in stored.values():
        for name, _ in part:
            counts[name] += 1
    for name, sent in memory.promised.items():
        require_equal(f"messages of {name}", counts[name], sent)


class Rounds(ABC):
    """The rounds of one run, all on the same data."""

    def __init__(self, options: StartOptions, seed: int) -> None:
        self._options = options
        self._numbers = random.Random(seed)
        self._memory = Memory()
        self._broker: Broker | None = None

    def run_all(self, count: int, outcome: Outcome) -> None:
        """Runs so many rounds. The first that fails is the last: the data is suspect from then on."""
        for number in range(1, count + 1):
            began = time.monotonic()
            problem, note = problem_of(functools.partial(self.run, number))
            outcome.report(f"round {number}", problem, time.monotonic() - began, note)
            if problem:
                print(self._options.log.read_text(errors="replace")[-4000:], flush=True)
                return

    def run(self, number: int) -> str:
        """One round. What it returns is what it did."""
        broker = self._start()
        ends = self._prepare(broker, number)
        plain = Producer(broker.address, f"plain-{number}", self._memory, idempotent=False)
        steady = Producer(broker.address, f"steady-{number}", self._memory, idempotent=True)
        consumer = Consumer(broker.port, ends, self._memory)
        for worker in (plain, steady, consumer):
            worker.start()
        try:
            wait_for(
                lambda: plain.acknowledged > 0 and steady.acknowledged > 0,
                30.0,
                "the first acknowledgements",
            )
            ended = self._end(broker)
        finally:
            steady.stop_sending()
            plain.stop_sending()
            consumer.stop()
        acknowledged = plain.acknowledged + steady.acknowledged
        plain.give_up()
        interrupted = self._interrupt_starts()
        began = time.monotonic()
        broker = self._start()
        recovered_s = time.monotonic() - began
        self._finish(steady)
        total = verify(broker.address, broker.port, self._memory)
        broker.check_running()
        return (
            f"{ended}, {acknowledged} acknowledged, {consumer.batches} batches read, recovered in "
            f"{recovered_s:.2f} s{interrupted}, {total} messages"
        )

    def close(self) -> None:
        """Ends what is running."""
        if self._broker is not None:
            self._broker.kill()

    @abstractmethod
    def _end(self, broker: Broker) -> str:
        """Ends the broker under load. Returns how."""

    @abstractmethod
    def _interrupt_starts(self) -> str:
        """Readies the data for a start, and may cut some short. Returns what, to be appended."""

    def _start(self) -> Broker:
        """The broker; a new one on the same data and port if it is not running."""
        if self._broker is None or not self._broker.is_running():
            if self._broker is not None:
                self._broker.kill()
            self._broker = Broker.start(self._options)
            # Clients that live through a kill look for the broker where it was.
            self._options = replace(self._options, port=self._broker.port)
        return self._broker

    def _prepare(self, broker: Broker, number: int) -> dict[int, int]:
        if number == 1:
            outcome = CONFLUENT.create_topic(broker.address, TOPIC, PARTITIONS)
            require_equal("creating the topic", outcome, "")
        return CONFLUENT.end_offsets(broker.address, TOPIC, range(PARTITIONS))

    def _finish(self, steady: Producer) -> None:
        """Lets the idempotent producer deliver the rest to the new broker."""
        left = steady.flush(DELIVERY_TIMEOUT_S)
        require(
            left == 0 and not steady.failures,
            f"{steady.name}: {left} messages not delivered, failures {steady.failures[:3]}",
        )
        self._memory.promised[steady.name] = steady.sent
