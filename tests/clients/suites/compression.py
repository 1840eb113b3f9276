"""Every codec with every client, and that the broker keeps what the client compressed."""

from __future__ import annotations

from support import wire
from support.clients import CLIENTS, Client
from support.messages import (
    CODECS,
    MEGABYTE,
    Message,
    ProducerOptions,
    require,
    require_equal,
    require_offsets,
    require_same,
)
from support.suite import Context, Test, Tests

TESTS = Tests()
# What the attributes of a batch say of its codec.
CODEC_NUMBERS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def compressible() -> list[Message]:
    """Messages that every codec makes smaller, among them one of a megabyte."""
    lines = [Message(b"the same words, line %4d; " % number * 8) for number in range(500)]
    large = (b"a megabyte of the same words; " * (MEGABYTE // 30 + 1))[:MEGABYTE]
    return [*lines, Message(large, key=b"large"), *lines[:10]]


def _compressed(producer: Client, codec: str) -> Test:
    def run(context: Context) -> str:
        broker, topic = context.shared(), context.fresh_topic(codec)
        messages = compressible()
        options = ProducerOptions(codec=codec)
        require_offsets(messages, producer.produce(broker.address, topic, messages, options))
        for consumer in CLIENTS:
            require_same(messages, consumer.consume(broker.address, topic, {0: len(messages)}))
        with wire.Connection(broker.port) as connection:
            batches = wire.fetch_whole(connection, topic, 0)
        require_stored_as(codec, batches)
        stored = sum(len(batch.raw) for batch in batches)
        sent = sum(len(message.value or b"") for message in messages)
        require(codec == "none" or stored < sent // 2, f"{sent} bytes are stored as {stored}")
        return f"{sent} bytes stored as {stored} in {len(batches)} batches"

    return Test(f"{producer.name} with {codec}, read by both", run)


def require_stored_as(codec: str, batches: list[wire.StoredBatch]) -> None:
    """Fails unless every batch has this codec and covers the offsets that follow the last."""
    number, offset = CODEC_NUMBERS[codec], 0
    for batch in batches:
        require_equal(f"the codec of the batch at {batch.base_offset}", batch.codec, number)
        require_equal("a batch's first offset", batch.base_offset, offset)
        require_equal("a batch's count", batch.count, batch.last_offset + 1 - batch.base_offset)
        offset = batch.last_offset + 1


for _producer in CLIENTS:
    for _codec in CODECS:
        TESTS.listed.append(_compressed(_producer, _codec))


@TESTS.test("all codecs in one partition, one after the other")
def mixed(context: Context) -> None:
    broker, topic = context.shared(), context.fresh_topic("mixed")
    sent: list[Message] = []
    for codec in CODECS:
        for producer in CLIENTS:
            messages = [Message(f"{codec} {producer.name} {n} ".encode() * 20) for n in range(20)]
            producer.produce(broker.address, topic, messages, ProducerOptions(codec=codec))
            sent += messages
    for consumer in CLIENTS:
        require_same(sent, consumer.consume(broker.address, topic, {0: len(sent)}))
