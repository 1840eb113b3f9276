"""Where consumers may begin: at the start, at the end, at a time; and what lies outside."""

from __future__ import annotations

import time
from typing import Any

import confluent_kafka

from support import wire
from support.clients import (
    CLIENTS,
    CONFLUENT,
    Client,
    confluent_consumer_settings,
    from_confluent,
)
from support.messages import (
    Message,
    ProducerOptions,
    require,
    require_equal,
    require_same_partition,
)
from support.suite import Context, Test, Tests
from support.waiting import Deadline

TESTS = Tests()
BASE_MS = 1_700_000_000_000
COUNT = 300
STEP_MS = 1000
EOF_AT_COUNT = ("_PARTITION_EOF", COUNT)


def timed_topic(context: Context) -> tuple[str, list[Message]]:
    """A topic with a message a second, each request holding a few of them."""
    topic = context.fresh_topic("timed")
    messages = [Message(b"%d" % n, timestamp_ms=BASE_MS + n * STEP_MS) for n in range(COUNT)]
    options = ProducerOptions(extra={"batch.num.messages": 7})
    CONFLUENT.produce(context.shared().address, topic, messages, options)
    return topic, messages


def _ends(client: Client) -> Test:
    def run(context: Context) -> None:
        address = context.shared().address
        topic, _ = timed_topic(context)
        require_equal("first", client.beginning_offsets(address, topic, [0]), {0: 0})
        require_equal("end", client.end_offsets(address, topic, [0]), {0: COUNT})

    return Test(f"{client.name}: the first and the end offset", run)


def _times(client: Client) -> Test:
    def run(context: Context) -> None:
        address = context.shared().address
        topic, _ = timed_topic(context)
        last = BASE_MS + (COUNT - 1) * STEP_MS
        cases: list[tuple[int, int | None]] = [
            (0, 0),
            (BASE_MS, 0),
            (BASE_MS + 1, 1),
            (BASE_MS + 100 * STEP_MS, 100),
            (BASE_MS + 100 * STEP_MS + 1, 101),
            (last, COUNT - 1),
            (last + 1, None),
        ]
        for timestamp_ms, expected in cases:
            found = client.offset_for_time(address, topic, timestamp_ms)
            require_equal(f"the offset for {timestamp_ms - BASE_MS:+} ms", found, expected)

    return Test(f"{client.name}: the offset for a time", run)


def _middle(client: Client) -> Test:
    def run(context: Context) -> None:
        topic, messages = timed_topic(context)
        for start in (1, 7, 150, COUNT - 1):
            counts = {0: COUNT - start}
            received = client.consume(context.shared().address, topic, counts, start)
            require_same_partition(messages[start:], received[0], first_offset=start)

    return Test(f"{client.name}: reading from the middle, batches' middles included", run)


for _client in CLIENTS:
    for _make in (_ends, _times, _middle):
        TESTS.listed.append(_make(_client))


@TESTS.test("a consumer at the end waits there, and gets each new message at once")
def tailing(context: Context) -> str:
    address = context.shared().address
    topic, _ = timed_topic(context)
    waits_ms = 4_000
    settings = {
        **confluent_consumer_settings(address),
        "enable.partition.eof": True,
        "fetch.wait.max.ms": waits_ms,
    }
    consumer = confluent_kafka.Consumer(settings)
    sent = [Message(b"new %d" % number) for number in range(20)]
    slowest_s = 0.0
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_END)])
        # It says so when it has found the end, and then waits there for a long time.
        at_end = next_event(consumer)
        require_equal("reaching the end", (at_end.error().name(), at_end.offset()), EOF_AT_COUNT)
        for at, message in enumerate(sent):
            CONFLUENT.produce(address, topic, [message], ProducerOptions())
            began = time.monotonic()
            require_same_partition([message], [from_confluent(next_message(consumer))], COUNT + at)
            slowest_s = max(slowest_s, time.monotonic() - began)
    finally:
        consumer.close()
    require(slowest_s * 1000 < waits_ms / 4, f"a new message took {slowest_s:.1f} s to arrive")
    return f"the slowest took {slowest_s * 1000:.0f} ms after its acknowledgement"


def next_event(consumer: Any) -> Any:
    """What a consumer is told next, be it a message or an error."""
    deadline = Deadline(25.0, "a consumer to be told something")
    while (event := consumer.poll(0.5)) is None:
        deadline.check()
    return event


def next_message(consumer: Any) -> Any:
    """The next message, past the ends that are reached on the way."""
    while (event := next_event(consumer)).error() is not None:
        require_equal("an event", event.error().name(), "_PARTITION_EOF")
    return event


@TESTS.test("an offset out of range is refused, and told with the range")
def out_of_range(context: Context) -> None:
    broker = context.shared()
    topic, _ = timed_topic(context)
    with wire.Connection(broker.port) as connection:
        for offset in (COUNT + 1, 1 << 40, -5):
            found = wire.fetch(connection, topic, [(0, offset)])[0]
            require_equal(f"error at {offset}", found.error, wire.Error.OFFSET_OUT_OF_RANGE)
        at_end = wire.fetch(connection, topic, [(0, COUNT)])[0]
        require_equal("error at the end", (at_end.error, at_end.batches), (0, []))
        unknown = wire.fetch(connection, topic, [(1, 0)])[1]
        require_equal("partition 1", unknown.error, wire.Error.UNKNOWN_TOPIC_OR_PARTITION)
        nowhere = wire.fetch(connection, "no-such-topic", [(0, 0)])[0]
        require_equal("topic", nowhere.error, wire.Error.UNKNOWN_TOPIC_OR_PARTITION)
