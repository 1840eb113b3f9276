"""What producers may ask for: acknowledgements of three kinds, and idempotence."""

from __future__ import annotations

from support import wire
from support.clients import CLIENTS, Client
from support.messages import (
    Message,
    ProducerOptions,
    require,
    require_equal,
    require_offsets,
    require_same,
)
from support.suite import Context, Test, Tests

TESTS = Tests()


def _acks(client: Client, acks: str) -> Test:
    def run(context: Context) -> None:
        broker, topic = context.shared(), context.fresh_topic(f"acks-{acks}")
        messages = [Message(b"message %d" % number) for number in range(2000)]
        offsets = client.produce(broker.address, topic, messages, ProducerOptions(acks=acks))
        if acks != "0":
            require_offsets(messages, offsets)
        require_same(messages, client.consume(broker.address, topic, {0: len(messages)}))

    return Test(f"{client.name} with acks {acks}", run)


def _idempotence(client: Client, idempotent: bool) -> Test:
    def run(context: Context) -> None:
        broker, topic = context.shared(), context.fresh_topic("idempotence")
        messages = [Message(b"message %d" % number) for number in range(2000)]
        options = ProducerOptions(idempotent=idempotent)
        require_offsets(messages, client.produce(broker.address, topic, messages, options))
        require_same(messages, client.consume(broker.address, topic, {0: len(messages)}))
        with wire.Connection(broker.port) as connection:
            batches = wire.fetch_whole(connection, topic, 0)
        numbered = {batch.producer_id >= 0 for batch in batches}
        require_equal("batches with a producer's id", numbered, {idempotent})
        if idempotent:
            sequence = 0
            for batch in batches:
                require_equal("a batch's sequence number", batch.base_sequence, sequence)
                sequence += batch.count

    return Test(f"{client.name} with idempotence {'on' if idempotent else 'off'}", run)


for _client in CLIENTS:
    for _word in ("0", "1", "all"):
        TESTS.listed.append(_acks(_client, _word))
    for _flag in (False, True):
        TESTS.listed.append(_idempotence(_client, _flag))


@TESTS.test("idempotence: the same batch again is answered with its first offset, and kept once")
def same_batch_twice(context: Context) -> None:
    broker, topic = context.shared(), context.fresh_topic("twice")
    with wire.Connection(broker.port) as connection:
        connection.request(wire.Api.METADATA, 1, wire.metadata_body([topic]))
        producer_id, epoch = wire.new_producer_id(connection)
        batches = [
            wire.batch([b"%d" % number], producer_id, epoch, sequence=number) for number in range(5)
        ]
        for number, batch in enumerate(batches):
            require_equal("first", wire.produce(connection, topic, batch), wire.Produced(0, number))
        for number, batch in enumerate(batches):
            again = wire.produce(connection, topic, batch)
            require_equal("again", again, wire.Produced(0, number))
        gap = wire.batch([b"gap"], producer_id, epoch, sequence=7)
        refused = wire.produce(connection, topic, gap)
        require_equal("a gap", refused.error, wire.Error.OUT_OF_ORDER_SEQUENCE_NUMBER)
        stored = wire.fetch_whole(connection, topic, 0)
        require_equal("batches kept", len(stored), 5)


@TESTS.test("producers' ids are never the same")
def producer_ids(context: Context) -> None:
    broker = context.shared()
    ids = set()
    for _ in range(20):
        with wire.Connection(broker.port) as connection:
            ids |= {wire.new_producer_id(connection) for _ in range(5)}
    require_equal("different ids", len(ids), 100)
    require(all(epoch == 0 for _, epoch in ids), "a new producer begins with epoch 0")
