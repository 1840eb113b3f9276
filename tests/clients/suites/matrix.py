"""Every producer with every consumer, over 1 and 12 partitions, with messages of all shapes."""

from __future__ import annotations

from support.clients import CLIENTS, CONFLUENT, Client, wait_for_topic
from support.messages import (
    Message,
    ProducerOptions,
    assorted,
    by_partition,
    require_equal,
    require_offsets,
    require_same,
)
from support.suite import Context, Test, Tests

TESTS = Tests()


def round_trip(
    context: Context,
    producer: Client,
    consumer: Client,
    messages: list[Message],
    partitions: int,
) -> None:
    """Produces, checks the acknowledged offsets, consumes, and compares."""
    address, topic = context.shared().address, context.fresh_topic("matrix")
    require_equal("creation", CONFLUENT.create_topic(address, topic, partitions), "")
    wait_for_topic(CONFLUENT, address, topic, partitions)
    offsets = producer.produce(address, topic, messages, ProducerOptions())
    require_offsets(messages, offsets)
    counts = {number: len(part) for number, part in by_partition(messages).items()}
    require_same(messages, consumer.consume(address, topic, counts))
    require_equal("end offsets", consumer.end_offsets(address, topic, list(counts)), counts)


def _combination(producer: Client, consumer: Client, partitions: int) -> Test:
    def run(context: Context) -> None:
        messages = assorted(partitions, context.settings.seed)
        round_trip(context, producer, consumer, messages, partitions)

    plural = "" if partitions == 1 else "s"
    name = f"{producer.name} to {consumer.name} over {partitions} partition{plural}"
    return Test(name, run)


for _producer in CLIENTS:
    for _consumer in CLIENTS:
        for _partitions in (1, 12):
            TESTS.listed.append(_combination(_producer, _consumer, _partitions))


@TESTS.test("confluent-kafka: a message with neither key nor value, and a header without a value")
def nothing_at_all(context: Context) -> None:
    messages = [
        Message(None),
        Message(None, headers=(("null", None), ("empty", b""))),
        Message(b""),
    ]
    round_trip(context, CONFLUENT, CONFLUENT, messages, 1)


@TESTS.test("a thousand messages without a partition land where both clients find them")
def partitioned_by_key(context: Context) -> str:
    """The clients choose the partition here, each from what metadata told it."""
    address, topic = context.shared().address, context.fresh_topic("by-key")
    require_equal("creation", CONFLUENT.create_topic(address, topic, 12), "")
    keys = [b"key %d" % number for number in range(1000)]
    anywhere = [Message(key, key=key, partition=-1) for key in keys]
    CONFLUENT.produce(address, topic, anywhere, ProducerOptions())
    found = []
    for client in CLIENTS:
        ends = client.end_offsets(address, topic, range(12))
        received = client.consume(address, topic, ends)
        values = sorted(message.value or b"" for part in received.values() for message in part)
        require_equal(f"values that {client.name} read", values, sorted(keys))
        found.append(ends)
    require_equal("the ends that both clients see", found[0], found[1])
    return f"{sum(1 for end in found[0].values() if end)} of 12 partitions used"
