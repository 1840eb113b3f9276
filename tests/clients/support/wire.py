"""The Kafka protocol by hand, as little of it as the tests need.

Real clients hide what is on the wire and refuse to send nonsense. Here every byte is ours: batches
are looked at as they are stored, and requests may be as wrong as a test wants them. Only classic
(not flexible) versions are spoken, all numbers big-endian:

    frame     length i32, header, body
    header    api key i16, version i16, correlation id i32, client id string
    string    length i16 (-1: null), bytes          bytes   length i32 (-1: null), bytes
    array     count i32 (-1: null), elements

The record batch, version 2, is laid out at the head of `stream/src/batch.rs`.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

TIMEOUT_S = 10.0
BATCH_HEADER_BYTES = 61
BATCH_PREFIX_BYTES = 12


class Api(IntEnum):
    """The APIs spoken here."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    INIT_PRODUCER_ID = 22


class Error(IntEnum):
    """The error codes that tests name."""

    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    INVALID_REQUIRED_ACKS = 21
    UNSUPPORTED_VERSION = 35
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REQUEST = 42
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    INVALID_RECORD = 87


class WireError(AssertionError):
    """The broker's bytes are not what they should be."""


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli). Slow: for headers and small batches."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC32C_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def string(text: str | None) -> bytes:
    """A nullable string."""
    if text is None:
        return struct.pack(">h", -1)
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def bytes_field(data: bytes | None) -> bytes:
    """Nullable bytes."""
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def array(elements: list[bytes]) -> bytes:
    """An array of encoded elements."""
    return struct.pack(">i", len(elements)) + b"".join(elements)


def varint(value: int) -> bytes:
    """A signed varint in zigzag encoding, as records use it."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header(api: int, version: int, correlation_id: int = 1, client: str | None = "raw") -> bytes:
    """A request's header."""
    return struct.pack(">hhi", api, version, correlation_id) + string(client)


def frame(payload: bytes) -> bytes:
    """A payload with its length in front."""
    return struct.pack(">i", len(payload)) + payload


class Cursor:
    """Reads a response field by field."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, code: str) -> int:
        """A number of this `struct` code."""
        size = struct.calcsize(">" + code)
        value: int = struct.unpack(">" + code, self.take(size))[0]
        return value

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count < 0 or self._at + count > len(self._data):
            have = len(self._data) - self._at
            raise WireError(f"a response ends early: {count} bytes wanted, {have} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def string(self) -> str | None:
        """A nullable string."""
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()

    def bytes(self) -> bytes | None:
        """Nullable bytes."""
        length = self.number("i")
        return None if length < 0 else self.take(length)

    def finish(self) -> None:
        """Fails if something is left over."""
        if self._at != len(self._data):
            raise WireError(f"{len(self._data) - self._at} bytes follow the end of a response")


class Connection:
    """A socket to the broker on which anything can be said."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout_s = timeout_s
        self.name = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self._correlation_id = 0

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes it at once."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def finish_sending(self) -> None:
        """Closes our half: the broker reads an end, and may still answer."""
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes."""
        parts, missing = [], count
        while missing:
            part = self.socket.recv(min(missing, 1 << 20))
            if not part:
                raise WireError(f"closed after {count - missing} of {count} bytes")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def receive_frame(self) -> bytes:
        """A response, without its length."""
        (length,) = struct.unpack(">i", self.receive(4))
        if not 4 <= length <= 256 << 20:
            raise WireError(f"a response claims {length} bytes")
        return self.receive(length)

    def receive_until_closed(self) -> bytes:
        """What still comes until the broker closes the connection, which it must."""
        parts = []
        try:
            while part := self.socket.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise WireError(
                f"the broker did not close {self.name} within {self.timeout_s:g} s"
            ) from None
        return b"".join(parts)

    def request(self, api: Api, version: int, body: bytes) -> Cursor:
        """Sends a request and reads its answer's body."""
        self._correlation_id += 1
        self.send(frame(header(api, version, self._correlation_id) + body))
        answer = Cursor(self.receive_frame())
        correlation_id = answer.number("i")
        if correlation_id != self._correlation_id:
            raise WireError(f"answer {correlation_id} to request {self._correlation_id}")
        return answer


@dataclass(frozen=True)
class StoredBatch:
    """A record batch as the broker keeps it."""

    base_offset: int
    last_offset: int
    codec: int
    producer_id: int
    base_sequence: int
    count: int
    raw: bytes


def split_batches(records: bytes) -> list[StoredBatch]:
    """The whole batches of a fetched record set. Checks each header and its checksum's presence."""
    batches, at = [], 0
    while at + BATCH_HEADER_BYTES <= len(records):
        (base, length, _, magic, _, attributes, delta) = struct.unpack_from(">qiibIhi", records, at)
        (producer_id, _, sequence, count) = struct.unpack_from(">qhii", records, at + 43)
        end = at + BATCH_PREFIX_BYTES + length
        if magic != 2:
            raise WireError(f"a batch at offset {base} has magic {magic}")
        if end > len(records):
            break
        raw = records[at:end]
        batches.append(
            StoredBatch(base, base + delta, attributes & 7, producer_id, sequence, count, raw)
        )
        at = end
    return batches


@dataclass(frozen=True)
class Fetched:
    """One partition of a fetch's answer."""

    error: int
    high_watermark: int
    log_start: int
    batches: list[StoredBatch]


def fetch_body(
    topic: str,
    offsets: list[tuple[int, int]],
    max_wait_ms: int = 0,
    max_bytes: int = 50 << 20,
    partition_max_bytes: int = 8 << 20,
) -> bytes:
    """The body of a Fetch, version 11, of (partition, offset) pairs of one topic."""
    partitions = [
        struct.pack(">iiqqi", partition, -1, offset, -1, partition_max_bytes)
        for partition, offset in offsets
    ]
    start = struct.pack(">iiiibii", -1, max_wait_ms, 1, max_bytes, 0, 0, -1)
    return start + array([string(topic) + array(partitions)]) + array([]) + string("")


def read_fetch(answer: Cursor) -> dict[int, Fetched]:
    """The partitions in the answer to a fetch of one topic."""
    answer.number("i")
    error = answer.number("h")
    if error:
        raise WireError(f"a fetch was answered with error {error}")
    answer.number("i")
    found: dict[int, Fetched] = {}
    for _ in range(answer.number("i")):
        answer.string()
        for _ in range(answer.number("i")):
            partition, code = answer.number("i"), answer.number("h")
            high_watermark, _, log_start = (answer.number("q") for _ in range(3))
            for _ in range(answer.number("i")):
                answer.take(16)
            answer.number("i")
            batches = split_batches(answer.bytes() or b"")
            found[partition] = Fetched(code, high_watermark, log_start, batches)
    answer.finish()
    return found


def fetch(connection: Connection, topic: str, offsets: list[tuple[int, int]]) -> dict[int, Fetched]:
    """Fetches from (partition, offset) pairs of one topic, without waiting for more."""
    return read_fetch(connection.request(Api.FETCH, 11, fetch_body(topic, offsets)))


def fetch_whole(connection: Connection, topic: str, partition: int) -> list[StoredBatch]:
    """Every batch of a partition from offset 0 on."""
    batches: list[StoredBatch] = []
    offset = 0
    while True:
        fetched = fetch(connection, topic, [(partition, offset)])[partition]
        if fetched.error:
            raise WireError(f"{topic}-{partition} at {offset}: error {fetched.error}")
        batches += fetched.batches
        if batches:
            offset = batches[-1].last_offset + 1
        if offset >= fetched.high_watermark:
            return batches
        if not fetched.batches:
            raise WireError(f"{topic}-{partition} at {offset}: nothing came, end is further on")


def record(value: bytes | None, key: bytes | None = None, offset_delta: int = 0) -> bytes:
    """One record of a batch, without headers."""
    body = b"\0" + varint(0) + varint(offset_delta)
    for field in (key, value):
        body += varint(-1) if field is None else varint(len(field)) + field
    body += varint(0)
    return varint(len(body)) + body


def batch(
    values: list[bytes],
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    count: int | None = None,
    timestamp_ms: int = 1_700_000_000_000,
) -> bytes:
    """A record batch with a correct checksum, and with whatever count a test claims."""
    records = b"".join(record(value, offset_delta=at) for at, value in enumerate(values))
    covered = struct.pack(
        ">hiqqqhii",
        0,
        len(values) - 1,
        timestamp_ms,
        timestamp_ms,
        producer_id,
        epoch,
        sequence,
        len(values) if count is None else count,
    )
    covered += records
    after_length = struct.pack(">ibI", -1, 2, crc32c(covered)) + covered
    return struct.pack(">qi", 0, len(after_length)) + after_length


def produce_body(topic: str, records: bytes | None, partition: int = 0, acks: int = -1) -> bytes:
    """The body of a Produce, version 3, of one record set."""
    partitions = array([struct.pack(">i", partition) + bytes_field(records)])
    return string(None) + struct.pack(">hi", acks, 10_000) + array([string(topic) + partitions])


@dataclass(frozen=True)
class Produced:
    """The answer for one batch."""

    error: int
    base_offset: int


def produce(
    connection: Connection, topic: str, records: bytes | None, partition: int = 0, acks: int = -1
) -> Produced:
    """Sends one record set and returns its answer."""
    body = produce_body(topic, records, partition, acks)
    answer = connection.request(Api.PRODUCE, 3, body)
    if answer.number("i") != 1:
        raise WireError("a produce of one topic was not answered with one topic")
    answer.string()
    if answer.number("i") != 1 or answer.number("i") != partition:
        raise WireError("a produce was answered for another partition")
    produced = Produced(answer.number("h"), answer.number("q"))
    answer.number("q")
    answer.number("i")
    answer.finish()
    return produced


def metadata_body(topics: list[str] | None) -> bytes:
    """The body of a Metadata, version 1; `None` asks for all topics."""
    return struct.pack(">i", -1) if topics is None else array([string(name) for name in topics])


def create_topic(connection: Connection, topic: str, partitions: int, replicas: int = 1) -> int:
    """Asks for a topic, in version 2, and returns the error's number."""
    wanted = string(topic) + struct.pack(">ih", partitions, replicas) + array([]) + array([])
    body = array([wanted]) + struct.pack(">i?", 10_000, False)
    answer = connection.request(Api.CREATE_TOPICS, 2, body)
    answer.number("i")
    if answer.number("i") != 1:
        raise WireError("the creation of one topic was not answered with one topic")
    answer.string()
    error = answer.number("h")
    answer.string()
    answer.finish()
    return error


def new_producer_id(connection: Connection) -> tuple[int, int]:
    """A producer's identity and epoch."""
    answer = connection.request(Api.INIT_PRODUCER_ID, 0, string(None) + struct.pack(">i", 60_000))
    answer.number("i")
    error = answer.number("h")
    if error:
        raise WireError(f"InitProducerId was answered with error {error}")
    return answer.number("q"), answer.number("h")


def is_alive(port: int) -> bool:
    """Whether a new connection is served: ApiVersions answered without an error."""
    with Connection(port) as connection:
        return connection.request(Api.API_VERSIONS, 0, b"").number("h") == 0
