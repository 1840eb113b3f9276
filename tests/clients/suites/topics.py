"""Topics: created, listed, deleted, created again, and refused with the right error."""

from __future__ import annotations

from collections.abc import Callable

from support import wire
from support.clients import CLIENTS, CONFLUENT, KAFKA_PYTHON, Client, wait_for_topic
from support.messages import Message, ProducerOptions, require, require_equal, require_same
from support.suite import Context, Test, Tests

TESTS = Tests()
# The same refusals in the words of each client.
EXISTS = {CONFLUENT.name: "TOPIC_ALREADY_EXISTS", KAFKA_PYTHON.name: "TopicAlreadyExistsError"}
UNKNOWN = {
    CONFLUENT.name: "UNKNOWN_TOPIC_OR_PART",
    KAFKA_PYTHON.name: "UnknownTopicOrPartitionError",
}
INVALID_NAME = {CONFLUENT.name: "TOPIC_EXCEPTION", KAFKA_PYTHON.name: "InvalidTopicError"}


def life_of_a_topic(context: Context, client: Client) -> None:
    """Created, filled, deleted; created again with other partitions, and empty."""
    address, topic = context.shared().address, context.fresh_topic("life")
    require_equal("creation", client.create_topic(address, topic, 3), "")
    wait_for_topic(client, address, topic, 3)
    require_equal("creation again", client.create_topic(address, topic, 3), EXISTS[client.name])
    first = [Message(b"first life %d" % n, partition=n % 3) for n in range(30)]
    client.produce(address, topic, first, ProducerOptions())
    require_equal("deletion", client.delete_topic(address, topic), "")
    require(topic not in client.list_topics(address), "a deleted topic is still listed")
    require_equal("deletion again", client.delete_topic(address, topic), UNKNOWN[client.name])
    require_equal("second creation", client.create_topic(address, topic, 2), "")
    wait_for_topic(client, address, topic, 2)
    require_equal("ends", client.end_offsets(address, topic, [0, 1]), {0: 0, 1: 0})
    second = [Message(b"second life %d" % n, partition=n % 2) for n in range(10)]
    client.produce(address, topic, second, ProducerOptions())
    require_same(second, client.consume(address, topic, {0: 5, 1: 5}))


def refusals(context: Context, client: Client) -> None:
    """Names that no topic may have, and a topic that is not there."""
    address, name = context.shared().address, client.name
    for invalid in ("no spaces", "..", "a" * 250, "sla/sh"):
        outcome = client.create_topic(address, invalid, 1)
        require_equal(f"creation of {invalid[:20]!r}", outcome, INVALID_NAME[name])
    require_equal("deletion", client.delete_topic(address, "never-was"), UNKNOWN[name])


def listing(context: Context, client: Client) -> None:
    """What one client created, each client lists."""
    address = context.shared().address
    expected = {context.fresh_topic("listed"): count for count in (1, 2, 12, 100)}
    for topic, count in expected.items():
        require_equal("creation", client.create_topic(address, topic, count), "")
    for other in CLIENTS:
        listed = other.list_topics(address)
        found = {topic: listed.get(topic) for topic in expected}
        require_equal(f"what {other.name} lists", found, expected)


def _add(client: Client, what: str, run: Callable[[Context, Client], None]) -> None:
    TESTS.listed.append(Test(f"{client.name}: {what}", lambda context: run(context, client)))


for _client in CLIENTS:
    _add(_client, "a topic is created, deleted, and empty when created again", life_of_a_topic)
    _add(_client, "topics that cannot be are refused", refusals)
    _add(_client, "topics are listed", listing)


@TESTS.test("topics with absurd numbers of partitions are refused, and others still created")
def absurd_counts(context: Context) -> None:
    broker = context.shared()
    with wire.Connection(broker.port) as connection:
        for count in (0, -2, 200_001, 2**31 - 1, -(2**31)):
            error = wire.create_topic(connection, context.fresh_topic("absurd"), count)
            require_equal(f"{count} partitions", error, wire.Error.INVALID_PARTITIONS)
        replicated = wire.create_topic(connection, context.fresh_topic("absurd"), 1, replicas=3)
        require_equal("3 replicas", replicated, wire.Error.INVALID_REPLICATION_FACTOR)
        require_equal("1", wire.create_topic(connection, context.fresh_topic("sane"), 1), 0)


@TESTS.test("a topic is created by the first who asks for it, and only if they want it")
def auto_creation(context: Context) -> None:
    broker = context.shared()
    asked, unasked = context.fresh_topic("asked"), context.fresh_topic("unasked")
    with wire.Connection(broker.port) as connection:
        # Version 4 ends with whether the topic may be created.
        no, yes = b"\0", b"\1"
        for topic, may_create in ((unasked, no), (asked, yes)):
            body = wire.metadata_body([topic]) + may_create
            connection.request(wire.Api.METADATA, 4, body)
    listed = CONFLUENT.list_topics(broker.address)
    require_equal("asked for", listed.get(asked), 1)
    require_equal("not asked for", listed.get(unasked), None)


@TESTS.test("a deleted topic's producers and consumers get an error, and nobody else does")
def deleted_under_way(context: Context) -> None:
    broker = context.shared()
    gone, kept = context.fresh_topic("gone"), context.fresh_topic("kept")
    for topic in (gone, kept):
        require_equal("creation", CONFLUENT.create_topic(broker.address, topic, 1), "")
    with wire.Connection(broker.port) as connection:
        batch = wire.batch([b"one"])
        require_equal("before", wire.produce(connection, gone, batch), wire.Produced(0, 0))
        require_equal("deletion", CONFLUENT.delete_topic(broker.address, gone), "")
        refused = wire.produce(connection, gone, batch)
        require_equal("producing", refused.error, wire.Error.UNKNOWN_TOPIC_OR_PARTITION)
        fetched = wire.fetch(connection, gone, [(0, 0)])[0]
        require_equal("fetching", fetched.error, wire.Error.UNKNOWN_TOPIC_OR_PARTITION)
        require_equal("elsewhere", wire.produce(connection, kept, batch), wire.Produced(0, 0))
