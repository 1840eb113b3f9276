"""A million messages of 100 bytes, exactly and in order."""

from __future__ import annotations

import time
from typing import Any

import confluent_kafka

from support.clients import (
    CONFLUENT,
    confluent_consumer_settings,
    confluent_producer_settings,
)
from support.messages import Mismatch, ProducerOptions, require, require_equal
from support.suite import Context, Test, Tests
from support.waiting import Deadline

TESTS = Tests()
VALUE_BYTES = 100
FILLER = b"." * (VALUE_BYTES - 12)
# For each direction, on a slow machine that does other things too.
TIMEOUT_S = 300.0


def value_of(number: int) -> bytes:
    """The value of message `number`: 100 bytes that no other message has."""
    return b"%012d" % number + FILLER


def produce_all(address: str, topic: str, count: int, partitions: int, idempotent: bool) -> None:
    """Produces message n to partition n modulo `partitions`, for n from 0."""
    options = ProducerOptions(idempotent=idempotent, extra={"delivery.report.only.error": True})
    errors: list[str] = []

    def failed(error: Any, _: Any) -> None:
        errors.append(str(error))

    settings = confluent_producer_settings(address, options)
    settings["message.timeout.ms"] = int(TIMEOUT_S * 1000)
    producer = confluent_kafka.Producer(settings)
    deadline = Deadline(TIMEOUT_S, f"{count} messages to be produced")
    for number in range(count):
        while True:
            try:
                producer.produce(
                    topic, value_of(number), partition=number % partitions, on_delivery=failed
                )
                break
            except BufferError:
                deadline.check()
                producer.poll(0.05)
        if errors:
            break
    left = producer.flush(deadline.remaining())
    if left or errors:
        raise Mismatch(f"{left} messages not delivered; errors {errors[:3]} ({len(errors)})")


def consume_all(address: str, topic: str, count: int, partitions: int) -> None:
    """Reads all of it, and fails at the first message that is not the one that must come."""
    consumer: Any = confluent_kafka.Consumer(confluent_consumer_settings(address))
    deadline = Deadline(TIMEOUT_S, f"{count} messages to be consumed")
    following = [0] * partitions
    left = count
    try:
        consumer.assign(
            [confluent_kafka.TopicPartition(topic, number, 0) for number in range(partitions)]
        )
        while left:
            messages = consumer.consume(10_000, timeout=0.5)
            for message in messages:
                if message.error():
                    raise Mismatch(f"reading {topic}: {message.error()}")
                partition, offset = message.partition(), message.offset()
                if offset != following[partition]:
                    raise Mismatch(f"{partition}: offset {offset} after {following[partition] - 1}")
                if message.value() != value_of(offset * partitions + partition):
                    raise Mismatch(f"{partition}@{offset} is {message.value()!r}")
                following[partition] = offset + 1
            left -= len(messages)
            deadline.check(f"{left} are missing")
    finally:
        consumer.close()
    expected = [len(range(number, count, partitions)) for number in range(partitions)]
    require_equal("messages of each partition", following, expected)


def _volume(partitions: int, idempotent: bool) -> Test:
    def run(context: Context) -> str:
        broker, count = context.shared(), context.settings.million
        topic = context.fresh_topic("volume")
        require_equal("creation", CONFLUENT.create_topic(broker.address, topic, partitions), "")
        began = time.monotonic()
        produce_all(broker.address, topic, count, partitions, idempotent)
        produced = time.monotonic()
        consume_all(broker.address, topic, count, partitions)
        consumed = time.monotonic()
        ends = CONFLUENT.end_offsets(broker.address, topic, range(partitions))
        require(sum(ends.values()) == count, f"the partitions end at {ends}")
        memory = broker.memory_bytes() >> 20
        return (
            f"{count / (produced - began):,.0f}/s in, {count / (consumed - produced):,.0f}/s out, "
            f"broker {memory} MiB"
        )

    plural = "" if partitions == 1 else "s"
    how = "idempotent" if idempotent else "plain"
    return Test(f"volume: messages of 100 bytes over {partitions} partition{plural}, {how}", run)


for _partitions, _idempotent in ((1, False), (12, True)):
    TESTS.listed.append(_volume(_partitions, _idempotent))
