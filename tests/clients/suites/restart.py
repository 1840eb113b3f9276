"""A broker that is stopped and started again: everything is still there, and goes on."""

from __future__ import annotations

import threading
from pathlib import Path

from support import wire
from support.broker import Broker
from support.clients import CLIENTS, CONFLUENT, Client
from support.messages import (
    Message,
    ProducerOptions,
    assorted,
    by_partition,
    require,
    require_equal,
    require_offsets,
    require_same,
    require_same_partition,
)
from support.suite import Context, Test, Tests

TESTS = Tests()
# A broker without clients has nothing to wait for; one with clients lets them finish for 5 s.
IDLE_STOP_S = 3.0
BUSY_STOP_S = 8.0


def stop(broker: Broker, limit_s: float = IDLE_STOP_S) -> float:
    """Stops a broker and requires that it is quick about it."""
    took = broker.stop()
    require(took <= limit_s, f"it took {took:.1f} s to stop, and {limit_s:g} s is the limit")
    return took


@TESTS.test("a restart keeps every message and every topic, and offsets go on")
def everything_is_still_there(context: Context) -> str:
    data = context.fresh_path("data")
    before = assorted(12, context.settings.seed)
    counts = {number: len(part) for number, part in by_partition(before).items()}
    topics = {client: f"from-{client.name}" for client in CLIENTS}
    with context.broker(data) as broker:
        for client, topic in topics.items():
            require_equal("creation", client.create_topic(broker.address, topic, 12), "")
            client.produce(broker.address, topic, before, ProducerOptions(codec="lz4"))
        for name in ("empty", "deleted"):
            require_equal("creation", CONFLUENT.create_topic(broker.address, name, 2), "")
        require_equal("deletion", CONFLUENT.delete_topic(broker.address, "deleted"), "")
        listed = CONFLUENT.list_topics(broker.address)
        took = [stop(broker)]
    for _ in range(2):
        with context.broker(data) as broker:
            require_equal("topics", CONFLUENT.list_topics(broker.address), listed)
            for client, topic in topics.items():
                require_same(before, client.consume(broker.address, topic, counts))
            took.append(stop(broker))
    with context.broker(data) as broker:
        for client, topic in topics.items():
            more = [Message(b"after %d" % n, partition=n) for n in range(12)]
            offsets = client.produce(broker.address, topic, more, ProducerOptions())
            require_equal("offsets go on", offsets, [counts[number] for number in range(12)])
            tail = client.consume(broker.address, topic, dict.fromkeys(range(12), 1), counts[0])
            for message in more:
                part = tail[message.partition]
                require_same_partition([message], part, first_offset=counts[0])
        require("deleted" not in CONFLUENT.list_topics(broker.address), "a deleted topic is back")
        took.append(stop(broker))
    return f"stopped within {max(took):.2f} s"


@TESTS.test("stopping with clients connected: waiting fetches are answered, and the exit code is 0")
def stopping_with_clients(context: Context) -> str:
    with context.broker() as broker:
        port = broker.port
        with wire.Connection(port) as idle, wire.Connection(port) as waiting:
            waiting.request(wire.Api.METADATA, 1, wire.metadata_body(["t"]))
            # Both in one write: once the first is answered, the broker has the second as well.
            first = wire.header(wire.Api.API_VERSIONS, 0, 98)
            body = wire.fetch_body("t", [(0, 0)], max_wait_ms=60_000)
            second = wire.header(wire.Api.FETCH, 11, 99) + body
            waiting.send(wire.frame(first) + wire.frame(second))
            waiting.receive_frame()
            answered: list[bytes] = []
            reader = threading.Thread(target=lambda: answered.append(waiting.receive_frame()))
            reader.start()
            took = stop(broker, BUSY_STOP_S)
            reader.join(timeout=10)
            require(len(answered) == 1, "a waiting fetch was not answered")
            require_equal("what an idle client is sent", idle.receive_until_closed(), b"")
    return f"stopped within {took:.2f} s"


@TESTS.test("idempotence survives a restart: a batch sent again is not stored again")
def idempotence_survives(context: Context) -> None:
    data = context.fresh_path("data")
    with context.broker(data) as broker, wire.Connection(broker.port) as connection:
        connection.request(wire.Api.METADATA, 1, wire.metadata_body(["t"]))
        producer_id, epoch = wire.new_producer_id(connection)
        batches = [wire.batch([b"%d" % n], producer_id, epoch, sequence=n) for n in range(8)]
        for number, batch in enumerate(batches):
            require_equal("first", wire.produce(connection, "t", batch), wire.Produced(0, number))
        connection.close()
        stop(broker)
    with context.broker(data) as broker, wire.Connection(broker.port) as connection:
        for number, batch in enumerate(batches[3:], start=3):
            again = wire.produce(connection, "t", batch)
            require_equal("again", again, wire.Produced(0, number))
        following = wire.batch([b"8"], producer_id, epoch, sequence=8)
        require_equal("the next", wire.produce(connection, "t", following), wire.Produced(0, 8))
        require_equal("kept", len(wire.fetch_whole(connection, "t", 0)), 9)
        other, _ = wire.new_producer_id(connection)
        require(other != producer_id, "a producer's id was given out a second time")


@TESTS.test("a client rides out a restart on the same port")
def clients_ride_it_out(context: Context) -> None:
    options = context.start_options()
    with Broker.start(options) as broker:
        address = broker.address
        messages = [Message(b"%d" % number) for number in range(100)]
        CONFLUENT.produce(address, "t", messages, ProducerOptions())
        moved: list[BaseException | list[int]] = []

        def produce() -> None:
            try:
                more = [Message(b"more %d" % number) for number in range(20_000)]
                settings = ProducerOptions(idempotent=True, extra={"linger.ms": 1})
                moved.append(CONFLUENT.produce(address, "t", more, settings))
            except BaseException as error:  # Handed to the test's own thread.
                moved.append(error)

        producer = threading.Thread(target=produce)
        producer.start()
        stop(broker, BUSY_STOP_S)
        again = type(options)(**{**vars(options), "port": broker.port})
        with Broker.start(again) as second:
            producer.join(timeout=90)
            require(len(moved) == 1, "the producer did not finish")
            if isinstance(moved[0], BaseException):
                raise moved[0]
            require_equal("offsets", moved[0], list(range(100, 20_100)))
            received = CONFLUENT.consume(address, "t", {0: 20_100})[0]
            require_equal("the last", received[-1].value, b"more 19999")
            stop(second, BUSY_STOP_S)


def _shards(shards: int) -> Test:
    def run(context: Context) -> None:
        data = context.fresh_path("data")
        messages = assorted(12, context.settings.seed + shards)
        counts = {number: len(part) for number, part in by_partition(messages).items()}
        with context.broker(data, shards) as broker:
            require_equal("shards on disk", shards_on_disk(data), shards)
            for client in CLIENTS:
                require_equal("", client.create_topic(broker.address, client.name, 12), "")
                offsets = client.produce(broker.address, client.name, messages, ProducerOptions())
                require_offsets(messages, offsets)
            check_from_all(broker, messages, counts)
            stop(broker)
        # The directory knows how many it has.
        with context.broker(data) as broker:
            require_equal("shards on disk", shards_on_disk(data), shards)
            check_from_all(broker, messages, counts)
            stop(broker)

    return Test(f"{shards} shard{'' if shards == 1 else 's'}: both clients, and a restart", run)


def shards_on_disk(data: Path) -> int:
    """How many shards a data directory has."""
    return len(list(data.glob("shard-*")))


def check_from_all(broker: Broker, messages: list[Message], counts: dict[int, int]) -> None:
    """Each client reads what each client wrote."""
    for producer in CLIENTS:
        for consumer in CLIENTS:
            check_one(broker, producer, consumer, messages, counts)


def check_one(
    broker: Broker,
    producer: Client,
    consumer: Client,
    messages: list[Message],
    counts: dict[int, int],
) -> None:
    """One of them reads what one of them wrote."""
    require_same(messages, consumer.consume(broker.address, producer.name, counts))


for _count in (1, 2, 3):
    TESTS.listed.append(_shards(_count))
