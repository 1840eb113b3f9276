"""What no well-behaved client sends. It costs the sender the connection, and others nothing.

For each piece of bad input: the broker closes that connection within seconds, answers nothing it
was not asked, writes exactly one line that names the client, and goes on serving. Its memory
follows what was sent, never what was announced.

Bytes after the end of a request are not among it: librdkafka sends them (three, in Metadata 9 and
later, when it asks for all topics), and Kafka passes over them.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import confluent_kafka

from support import wire
from support.broker import Broker
from support.clients import CONFLUENT, confluent_producer_settings
from support.messages import (
    MEGABYTE,
    Message,
    Mismatch,
    ProducerOptions,
    require,
    require_equal,
    require_same,
)
from support.suite import Context, Tests
from support.waiting import Deadline, wait_for
from support.wire import Api, Connection

TESTS = Tests()

REQUEST_LIMIT_BYTES = 64 << 20
# What the connections of one shard may hold together for requests that are arriving.
RECEIVE_BUDGET_BYTES = 256 << 20
# A request that stops arriving is given up after 30 s.
STALL_S = 30.0
# What clients held has to be free so soon after they left.
FREED_S = 10.0
MIB = 1 << 20


def metadata_frame(topics: list[str] | None = None) -> bytes:
    """A request that nothing is wrong with."""
    return wire.frame(wire.header(Api.METADATA, 1) + wire.metadata_body(topics))


def counted(api: Api, version: int, before: bytes, count: int) -> bytes:
    """A frame whose body ends with the count of an array that is not there."""
    return wire.frame(wire.header(api, version) + before + struct.pack(">i", count))


@dataclass(frozen=True)
class Bad:
    """Bytes that end a connection, and how the client ends its side of it."""

    name: str
    data: bytes
    # Without an end the broker could only wait for the rest of a request that is cut off.
    then_ends: bool = False


def bad_inputs(seed: int) -> list[Bad]:
    """Everything that is not a request, in the order of how much of it looks like one."""
    numbers = random.Random(seed)
    huge, most = 2**31 - 1, REQUEST_LIMIT_BYTES
    whole = metadata_frame(["t"])
    fetch_start = struct.pack(">iiiib", -1, 0, 1, huge, 0)
    flexible_fetch = struct.pack(">hhi", Api.FETCH, 12, 1) + wire.string("raw") + b"\0"
    flexible_fetch += fetch_start + struct.pack(">ii", 0, -1)
    metadata, list_offsets = wire.header(Api.METADATA, 1), struct.pack(">i", -1)
    produce_start = wire.string(None) + struct.pack(">hi", 1, 1000)
    one_topic = struct.pack(">i", 1) + wire.string("t")
    produce_topic = produce_start + one_topic
    return [
        Bad("length 2^31-1", struct.pack(">i", huge)),
        Bad("length one above the limit", struct.pack(">i", most + 1)),
        Bad("length -1", struct.pack(">i", -1)),
        Bad("length -2^31", struct.pack(">i", -(2**31))),
        Bad("length 0", struct.pack(">i", 0)),
        Bad("lengths of 0, ten thousand times", struct.pack(">i", 0) * 10_000),
        Bad("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        Bad("the start of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 500),
        Bad("an SSH client's greeting", b"SSH-2.0-OpenSSH_9.2\r\n"),
        Bad("a kilobyte of garbage", numbers.randbytes(1024), then_ends=True),
        Bad("garbage in a frame", wire.frame(numbers.randbytes(1024))),
        Bad("zeros in a frame", wire.frame(bytes(1024))),
        Bad("half a length", whole[:2], then_ends=True),
        Bad("a length and no more", whole[:4], then_ends=True),
        Bad("half a header", whole[:9], then_ends=True),
        Bad("all but the last byte", whole[:-1], then_ends=True),
        Bad("a frame of one byte", wire.frame(b"\0")),
        Bad("a header cut short inside its frame", wire.frame(wire.header(3, 1)[:7])),
        Bad("a body cut short inside its frame", wire.frame(whole[4:-1])),
        Bad("API 77", wire.frame(wire.header(77, 0))),
        Bad("API -1", wire.frame(wire.header(-1, 0))),
        Bad("API 32767", wire.frame(wire.header(32767, 0))),
        Bad("JoinGroup, which is not served yet", wire.frame(wire.header(11, 0) + bytes(64))),
        Bad("Fetch version 13", wire.frame(wire.header(Api.FETCH, 13) + bytes(64))),
        Bad("Produce version 2", wire.frame(wire.header(Api.PRODUCE, 2) + bytes(64))),
        Bad("Metadata version 99", wire.frame(wire.header(Api.METADATA, 99) + bytes(64))),
        Bad("Metadata version -1", wire.frame(wire.header(Api.METADATA, -1) + bytes(64))),
        Bad("2^31-1 topics in Metadata", counted(Api.METADATA, 1, b"", huge)),
        Bad("-2 topics in Metadata", counted(Api.METADATA, 1, b"", -2)),
        Bad("2^31-1 topics in Produce", counted(Api.PRODUCE, 3, produce_start, huge)),
        Bad("2^31-1 partitions in Produce", counted(Api.PRODUCE, 3, produce_topic, huge)),
        Bad(
            "2^31-1 bytes of records in Produce",
            counted(Api.PRODUCE, 3, produce_topic + struct.pack(">ii", 1, 0), huge),
        ),
        Bad("2^31-1 topics in Fetch", counted(Api.FETCH, 4, fetch_start, huge)),
        Bad("2^31-1 partitions in Fetch", counted(Api.FETCH, 4, fetch_start + one_topic, huge)),
        Bad("2^32-1 topics in a Fetch", wire.frame(flexible_fetch + b"\xff\xff\xff\xff\x0f")),
        Bad("a varint without end in a Fetch", wire.frame(flexible_fetch + b"\xff" * 40)),
        Bad("2^31-1 topics in CreateTopics", counted(Api.CREATE_TOPICS, 2, b"", huge)),
        Bad("2^31-1 topics in ListOffsets", counted(Api.LIST_OFFSETS, 1, list_offsets, huge)),
        Bad(
            "a topic's name of 32767 bytes that are not there",
            wire.frame(metadata + struct.pack(">ih", 1, 32767) + b"t"),
        ),
        Bad(
            "a topic's name that is not UTF-8",
            wire.frame(metadata + struct.pack(">ih", 1, 4) + b"\xff\xfe\xc0\x80"),
        ),
        Bad(
            "a client's id of -2 bytes",
            wire.frame(struct.pack(">hhih", Api.METADATA, 1, 1, -2) + struct.pack(">i", -1)),
        ),
        Bad(
            "four million topics that are there",
            wire.frame(metadata + struct.pack(">i", 4 << 20) + wire.string("") * (4 << 20)),
        ),
    ]


def send_bad(port: int, bad: Bad) -> str:
    """Sends bad input, requires an end without an answer, and returns the sender's name."""
    with Connection(port) as connection:
        try:
            connection.send(bad.data)
            if bad.then_ends:
                connection.finish_sending()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The broker had seen enough.
        answered = connection.receive_until_closed()
        require_equal(f"{bad.name}: the answer", answered, b"")
        return connection.name


def require_one_line(broker: Broker, peer: str, what: str) -> str:
    """Requires exactly one line of the log about this client, and returns it."""
    lines = wait_for(lambda: broker.log_lines_naming(peer), 5.0, f"a line of the log about {what}")
    require_equal(f"{what}: lines of the log", len(lines), 1)
    return lines[0]


@TESTS.test("bad input: each kind ends its connection with one line in the log, and no other")
def each_kind(context: Context) -> str:
    with context.broker(shards=2) as broker, Connection(broker.port) as bystander:
        bystander.request(Api.METADATA, 1, wire.metadata_body(["t"]))
        before = broker.memory_bytes()
        kinds = bad_inputs(context.settings.seed)
        problems = []
        for bad in kinds:
            try:
                peer = send_bad(broker.port, bad)
                require_one_line(broker, peer, bad.name)
                broker.check_running()
            except AssertionError as problem:
                problems.append(f"{bad.name}: {problem}")
            if not broker.is_running():
                break
        require(not problems, "\n".join(problems))
        bystander.request(Api.METADATA, 1, wire.metadata_body(["t"]))
        produced = wire.produce(bystander, "t", wire.batch([b"still here"]))
        require_equal("the bystander's message", produced, wire.Produced(0, 0))
        grown = broker.memory_bytes() - before
        # The largest of them is a frame of 8 MiB.
        require(grown < 128 * MIB, f"memory grew by {grown // MIB} MiB")
        broker.stop()
    return f"{len(kinds)} kinds, memory {'+' if grown >= 0 else ''}{grown // MIB} MiB"


@TESTS.test("bad input: what was asked before it is answered first")
def answered_before(context: Context) -> None:
    broker = context.shared()
    good = wire.frame(wire.header(Api.API_VERSIONS, 0, 7))
    for bad in (b"\xff\xff\xff\xff", wire.frame(wire.header(77, 0, 8))):
        with Connection(broker.port) as connection:
            connection.send(good * 3 + bad + good)
            for _ in range(3):
                answer = wire.Cursor(connection.receive_frame())
                require_equal("correlation id", answer.number("i"), 7)
                require_equal("error", answer.number("h"), 0)
            require_equal("what follows", connection.receive_until_closed(), b"")


@TESTS.test("ApiVersions 99 is answered with error 35 in version 0, and the connection goes on")
def too_new_api_versions(context: Context) -> None:
    with Connection(context.shared().port) as connection:
        for version in (99, 4, 32767):
            connection.send(wire.frame(wire.header(Api.API_VERSIONS, version, 5) + b"\0\2x\2y\0"))
            answer = wire.Cursor(connection.receive_frame())
            require_equal("correlation id", answer.number("i"), 5)
            require_equal("error", answer.number("h"), wire.Error.UNSUPPORTED_VERSION)
            ranges = {}
            for _ in range(answer.number("i")):
                key, lowest, highest = (answer.number("h") for _ in range(3))
                ranges[key] = (lowest, highest)
            answer.finish()
            require_equal("versions of ApiVersions", ranges.get(18), (0, 3))
        require_equal("then", connection.request(Api.API_VERSIONS, 0, b"").number("h"), 0)


@TESTS.test("bad batches are answered with the right error, and the connection goes on")
def bad_batches(context: Context) -> None:
    broker, topic = context.shared(), context.fresh_topic("bad-batches")
    good = wire.batch([b"one", b"two"])
    flipped = bytearray(good)
    flipped[-1] ^= 1
    old = bytearray(good)
    old[16] = 1
    longer = bytearray(good)
    longer[8:12] = struct.pack(">i", len(good))
    cases = [
        ("no records", None, wire.Error.CORRUPT_MESSAGE),
        ("an empty record set", b"", wire.Error.CORRUPT_MESSAGE),
        ("less than a header", good[:40], wire.Error.CORRUPT_MESSAGE),
        ("a wrong checksum", bytes(flipped), wire.Error.CORRUPT_MESSAGE),
        ("an old format", bytes(old), wire.Error.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        ("a length beyond its bytes", bytes(longer), wire.Error.CORRUPT_MESSAGE),
        ("two batches", good + good, wire.Error.INVALID_RECORD),
        ("a count of 2^31-1", wire.batch([b"x"], count=2**31 - 1), wire.Error.INVALID_RECORD),
        ("a count of 0", wire.batch([], count=0), wire.Error.INVALID_RECORD),
        ("a count of -1", wire.batch([b"x"], count=-1), wire.Error.INVALID_RECORD),
    ]
    problems = []
    with Connection(broker.port) as connection:
        connection.request(Api.METADATA, 1, wire.metadata_body([topic]))
        for name, records, expected in cases:
            produced = wire.produce(connection, topic, records)
            if produced.error != expected:
                problems.append(f"{name}: error {produced.error}, should be {expected!r}")
        for acks in (2, -2, 32767):
            refused = wire.produce(connection, topic, good, acks=acks).error
            require_equal(f"acks {acks}", refused, wire.Error.INVALID_REQUIRED_ACKS)
        for partition in (1, -1, 2**31 - 1):
            refused = wire.produce(connection, topic, good, partition=partition).error
            require_equal(f"partition {partition}", refused, wire.Error.UNKNOWN_TOPIC_OR_PARTITION)
        require(not problems, "\n".join(problems))
        require_equal("a good one", wire.produce(connection, topic, good), wire.Produced(0, 0))
        stored = wire.fetch_whole(connection, topic, 0)
        require_equal("what is stored", [batch.count for batch in stored], [2])


@TESTS.test("bad input: a request that stops arriving is given up after 30 s")
def stalled(context: Context) -> str:
    broker = context.shared()
    with Connection(broker.port, timeout_s=STALL_S + 15) as connection, \
            Connection(broker.port, timeout_s=STALL_S + 15) as idle:  # fmt: skip
        began = time.monotonic()
        connection.send(metadata_frame(["t"])[:-1])
        require_equal("the answer", connection.receive_until_closed(), b"")
        took = time.monotonic() - began
        require(took > STALL_S / 2, f"it was given up after {took:.1f} s already")
        require_one_line(broker, connection.name, "a stalled request")
        # Between requests a client may take as long as it likes.
        idle.request(Api.METADATA, 1, wire.metadata_body(["t"]))
    return f"after {took:.1f} s"


@TESTS.test("memory: lengths that are only announced cost nothing")
def announced(context: Context) -> str:
    with context.broker(shards=2) as broker:
        connections = [Connection(broker.port) for _ in range(200)]
        before = broker.memory_bytes()
        try:
            for connection in connections:
                connection.send(struct.pack(">i", REQUEST_LIMIT_BYTES) + b"\0\3\0\1")
            require(wire.is_alive(broker.port), "others are not served")
            grown = broker.memory_bytes() - before
            require(grown < 64 * MIB, f"200 announcements of 64 MiB took {grown // MIB} MiB")
        finally:
            for connection in connections:
                connection.close()
        broker.stop()
    return f"{grown // MIB} MiB for 200 times 64 MiB"


@TESTS.test("memory: half-sent requests are held within a budget, and small requests still pass")
def half_sent(context: Context) -> str:
    shards, each, count = 2, 8 * MIB, 120
    with context.broker(shards=shards) as broker:
        before = broker.memory_bytes()
        broker.reset_peak_memory()
        connections = [Connection(broker.port) for _ in range(count)]
        try:
            sent = fill(connections, each)
            require(wire.is_alive(broker.port), "others are not served")
            produce_small(broker.address)
            grown = broker.memory_bytes("VmHWM") - before
        finally:
            for connection in connections:
                connection.close()
        allowed = shards * RECEIVE_BUDGET_BYTES + 128 * MIB
        require(grown < allowed, f"memory grew by {grown // MIB} MiB; {allowed // MIB} are allowed")
        began = time.monotonic()
        messages = [Message(b"m" * MEGABYTE, key=b"%d" % n) for n in range(20)]
        CONFLUENT.produce(broker.address, "after", messages, ProducerOptions())
        took = time.monotonic() - began
        require_same(messages, CONFLUENT.consume(broker.address, "after", {0: 20}))
        require(
            took < FREED_S, f"large requests waited {took:.1f} s for what clients held who had left"
        )
        broker.stop()
    return (
        f"{sent // MIB} MiB taken of {each * count // MIB}, broker at most +{grown // MIB} MiB, "
        f"large requests within {took:.1f} s afterwards"
    )


def fill(connections: list[Connection], each: int) -> int:
    """Sends each of them a part of a large request, as far as the broker takes it.

    A broker that has no more room stops reading, and after a while gives up those that wait.
    """
    announced = struct.pack(">i", REQUEST_LIMIT_BYTES)
    announced += wire.header(Api.PRODUCE, 3)
    left = dict.fromkeys(connections, each)
    for connection in connections:
        connection.send(announced)
        connection.socket.setblocking(False)
    chunk = b"\0" * (256 << 10)
    sent, moved_at = 0, time.monotonic()
    while left and time.monotonic() - moved_at < 1.0:
        for connection in list(left):
            try:
                count = connection.socket.send(chunk[: left[connection]])
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                del left[connection]
                continue
            sent += count
            moved_at = time.monotonic()
            left[connection] -= count
            if left[connection] <= 0:
                del left[connection]
        time.sleep(0.001)
    return sent


def produce_small(address: str) -> None:
    """A client with small requests works as if nothing happened."""
    messages = [Message(b"small %d" % number) for number in range(100)]
    CONFLUENT.produce(address, "small", messages, ProducerOptions())
    require_same(messages, CONFLUENT.consume(address, "small", {0: len(messages)}))


@TESTS.test("memory: answers that are not read are not piled up")
def unread_answers(context: Context) -> str:
    with context.broker(shards=1) as broker:
        messages = [Message(b"m" * MEGABYTE) for _ in range(8)]
        CONFLUENT.produce(broker.address, "t", messages, ProducerOptions())
        before = broker.memory_bytes()
        body = wire.fetch_body("t", [(0, 0)])
        request = wire.frame(wire.header(Api.FETCH, 11) + body)
        connections = [Connection(broker.port) for _ in range(10)]
        try:
            for connection in connections:
                connection.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.socket.send(request * 1000)
            produce_small(broker.address)
            grown = broker.memory_bytes() - before
        finally:
            for connection in connections:
                connection.close()
        # 10 times 8 MB are under way at a time, of 80 GB that were asked for.
        require(grown < 256 * MIB, f"memory grew by {grown // MIB} MiB")
        broker.stop()
    return f"+{grown // MIB} MiB for 10,000 fetches of 8 MB"


@TESTS.test("memory: one partition, named ten thousand times in one fetch")
def repeated_partition(context: Context) -> str:
    with context.broker(shards=1) as broker, Connection(broker.port, 60.0) as connection:
        messages = [Message(b"m" * MEGABYTE) for _ in range(8)]
        CONFLUENT.produce(broker.address, "t", messages, ProducerOptions())
        before = broker.memory_bytes()
        broker.reset_peak_memory()
        body = wire.fetch_body("t", [(0, 0)] * 10_000, max_bytes=2**31 - 1)
        connection.send(wire.frame(wire.header(Api.FETCH, 11) + body))
        answered = len(connection.receive_frame())
        require(wire.is_alive(broker.port), "others are not served")
        grown = broker.memory_bytes("VmHWM") - before
        require(grown < 512 * MIB, f"memory grew by {grown // MIB} MiB")
        broker.stop()
    return f"an answer of {answered // MIB} MiB, +{grown // MIB} MiB"


@dataclass
class Attack:
    """Two hundred connections that misbehave over and over, each in its own way."""

    port: int
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    tries: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self, number: int) -> None:
        """One attacker."""
        numbers = random.Random(self.seed * 1000 + number)
        kinds = [bad for bad in bad_inputs(self.seed) if len(bad.data) < MIB]
        while not self.stop.is_set():
            try:
                self._once(numbers, numbers.choice(kinds))
            except (ConnectionError, TimeoutError):
                pass
            except AssertionError as problem:
                self.problems.append(str(problem))
                return
            self.tries += 1

    def _once(self, numbers: random.Random, bad: Bad) -> None:
        way = numbers.randrange(3)
        if way == 0:
            send_bad(self.port, bad)
            return
        with Connection(self.port) as connection:
            good = metadata_frame(["t"])
            if way == 1:  # Half a request, and gone.
                connection.send(good[: numbers.randrange(1, len(good))])
            else:  # Requests whose answers are never read, and a reset.
                connection.send(good * numbers.randrange(1, 50))
                linger = struct.pack("ii", 1, 0)
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


class Bystander:
    """A well-behaved producer beside an attack: what it waited for each acknowledgement."""

    def __init__(self, address: str) -> None:
        options = ProducerOptions(extra={"linger.ms": 0})
        self._producer = confluent_kafka.Producer(confluent_producer_settings(address, options))
        self.sent: list[Message] = []
        self.slowest_s = 0.0

    def produce_one(self) -> None:
        """Produces a message and waits for it."""
        message = Message(b"bystander %d" % len(self.sent))
        failures: list[str] = []
        began = time.monotonic()
        self._producer.produce(
            "bystander",
            message.value,
            partition=0,
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )
        if self._producer.flush(20.0) or failures:
            raise Mismatch(f"a bystander's message failed: {failures}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.sent.append(message)


def under_attack(broker: Broker, seed: int, seconds: float) -> tuple[Attack, Bystander]:
    """Lets 200 connections misbehave at once while a client works."""
    attack, bystander = Attack(broker.port, seed), Bystander(broker.address)
    bystander.produce_one()
    threads = [threading.Thread(target=attack.run, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            bystander.produce_one()
            broker.check_running()
    finally:
        attack.stop.set()
        deadline = Deadline(60.0, "the attackers to end")
        for thread in threads:
            thread.join(deadline.remaining())
    return attack, bystander


@TESTS.test("200 connections misbehave at once while a client works")
def attack(context: Context) -> str:
    with context.broker(shards=2) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"x")], ProducerOptions())
        before = broker.memory_bytes()
        attack, bystander = under_attack(broker, context.settings.seed, 10.0)
        require(not attack.problems, "\n".join(attack.problems[:5]))
        require_same(
            bystander.sent, CONFLUENT.consume(broker.address, "bystander", {0: len(bystander.sent)})
        )
        grown = broker.memory_bytes() - before
        require(grown < 256 * MIB, f"memory grew by {grown // MIB} MiB")
        # The attackers are Python threads that share the processors with the client: what is shown
        # is that it is not locked out, not how fast it could be.
        require(bystander.slowest_s < 5.0, f"a message took {bystander.slowest_s:.1f} s")
        require_closings_are_logged_once(broker)
        broker.stop()
    return (
        f"{attack.tries} misdeeds, {len(bystander.sent)} messages, the slowest "
        f"{bystander.slowest_s * 1000:.0f} ms, memory {grown // MIB:+} MiB"
    )


def require_closings_are_logged_once(broker: Broker) -> None:
    """Requires one line for each connection: no more lines than peers, ports being used again."""
    lines = [line for line in broker.log_text().splitlines() if "closing connection" in line]
    require(bool(lines), "no line of the log tells of a closed connection")
    require(all("127.0.0.1:" in line for line in lines), "a closing's line does not name the peer")
