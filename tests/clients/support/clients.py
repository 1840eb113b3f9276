"""The real clients behind one face, so that every test can be run with each of them.

A client produces a list of messages and says at which offsets they were acknowledged; it consumes a
known number of messages from assigned partitions. Each wait has a limit. Retrying is left to the
clients: what a user of theirs would see is what is tested.
"""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import kafka

from .messages import Message, Mismatch, ProducerOptions, Received
from .waiting import Deadline

PRODUCE_TIMEOUT_S = 60.0
CONSUME_TIMEOUT_S = 60.0
# Above the largest message of any test (10^6 bytes) with its record's and batch's header.
MAXIMUM_MESSAGE_BYTES = 8_000_000

# Clients tell of every reconnection, and tests cause those on purpose. What goes wrong for good
# comes back as an error all the same.
QUIET = {"log_level": 0}
logging.getLogger("kafka").setLevel(logging.CRITICAL)

Counts = dict[int, int]
Consumed = dict[int, list[Received]]


class Client(abc.ABC):
    """What the tests need of a client."""

    name: str

    @abc.abstractmethod
    def produce(
        self, address: str, topic: str, messages: Sequence[Message], options: ProducerOptions
    ) -> list[int]:
        """Produces all, in order; returns the offset of each (a negative one with acks 0)."""

    @abc.abstractmethod
    def consume(self, address: str, topic: str, counts: Counts, start: int = 0) -> Consumed:
        """Reads from offset `start` of each partition until it gave so many messages."""

    @abc.abstractmethod
    def end_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        """The offset of the next message of each partition."""

    @abc.abstractmethod
    def beginning_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        """The first offset of each partition."""

    @abc.abstractmethod
    def offset_for_time(self, address: str, topic: str, timestamp_ms: int) -> int | None:
        """The first offset of partition 0 with at least this timestamp, if there is one."""

    @abc.abstractmethod
    def create_topic(self, address: str, topic: str, partitions: int) -> str:
        """Creates a topic; returns "" or the name of the error."""

    @abc.abstractmethod
    def delete_topic(self, address: str, topic: str) -> str:
        """Deletes a topic; returns "" or the name of the error."""

    @abc.abstractmethod
    def list_topics(self, address: str) -> dict[str, int]:
        """All topics with their numbers of partitions."""


class Collector:
    """Gathers what a consumer reads until every partition gave what is expected of it."""

    def __init__(self, what: str, counts: Counts) -> None:
        self._counts = counts
        self.received: Consumed = {partition: [] for partition in counts}
        self.deadline = Deadline(CONSUME_TIMEOUT_S, what)

    def add(self, message: Received) -> None:
        """Takes a message; one too many is a failure."""
        messages = self.received[message.partition]
        if len(messages) >= self._counts[message.partition]:
            raise Mismatch(f"partition {message.partition} has more than {len(messages)} messages")
        messages.append(message)

    def is_complete(self) -> bool:
        """Whether all is there; fails when the time is over."""
        got = {partition: len(messages) for partition, messages in self.received.items()}
        if got == self._counts:
            return True
        self.deadline.check(f"{got} of {self._counts}")
        return False


class Confluent(Client):
    """confluent-kafka, which is librdkafka."""

    name = "confluent-kafka"

    def produce(
        self, address: str, topic: str, messages: Sequence[Message], options: ProducerOptions
    ) -> list[int]:
        producer = confluent_kafka.Producer(confluent_producer_settings(address, options))
        offsets: list[int] = [-1] * len(messages)
        errors: list[str] = []
        for at, message in enumerate(messages):

            def delivered(error: Any, report: Any, at: int = at) -> None:
                if error is not None:
                    errors.append(f"message {at}: {error}")
                else:
                    offsets[at] = -1 if report.offset() is None else report.offset()

            produce_confluent(producer, topic, message, delivered)
        left = producer.flush(PRODUCE_TIMEOUT_S)
        if left or errors:
            raise Mismatch(f"{left} messages not delivered; errors {errors[:3]} ({len(errors)})")
        return offsets

    def consume(self, address: str, topic: str, counts: Counts, start: int = 0) -> Consumed:
        consumer = confluent_kafka.Consumer(confluent_consumer_settings(address))
        collector = Collector(f"{self.name} to read {topic}", counts)
        try:
            consumer.assign(
                [confluent_kafka.TopicPartition(topic, number, start) for number in counts]
            )
            while not collector.is_complete():
                for message in consumer.consume(500, timeout=0.5):
                    if message.error():
                        raise Mismatch(f"reading {topic}: {message.error()}")
                    collector.add(from_confluent(message))
        finally:
            consumer.close()
        return collector.received

    def end_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        return {number: ends[1] for number, ends in self._ends(address, topic, partitions).items()}

    def beginning_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        return {number: ends[0] for number, ends in self._ends(address, topic, partitions).items()}

    def _ends(
        self, address: str, topic: str, partitions: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        consumer = confluent_kafka.Consumer(confluent_consumer_settings(address))
        try:
            return {
                number: consumer.get_watermark_offsets(
                    confluent_kafka.TopicPartition(topic, number), timeout=20.0
                )
                for number in partitions
            }
        finally:
            consumer.close()

    def offset_for_time(self, address: str, topic: str, timestamp_ms: int) -> int | None:
        consumer = confluent_kafka.Consumer(confluent_consumer_settings(address))
        try:
            asked = [confluent_kafka.TopicPartition(topic, 0, timestamp_ms)]
            (found,) = consumer.offsets_for_times(asked, timeout=20.0)
        finally:
            consumer.close()
        if found.error:
            raise Mismatch(f"looking for {timestamp_ms} in {topic}: {found.error}")
        # librdkafka says "the end" when no message is that young.
        return None if found.offset == confluent_kafka.OFFSET_END else found.offset

    def create_topic(self, address: str, topic: str, partitions: int) -> str:
        new = confluent_kafka.admin.NewTopic(  # type: ignore[attr-defined]
            topic, num_partitions=partitions, replication_factor=1
        )
        # The client has to live until its answer is there.
        admin = self._admin(address)
        return self._outcome(admin.create_topics([new], request_timeout=20)[topic])

    def delete_topic(self, address: str, topic: str) -> str:
        admin = self._admin(address)
        return self._outcome(admin.delete_topics([topic], request_timeout=20)[topic])

    def list_topics(self, address: str) -> dict[str, int]:
        topics = self._admin(address).list_topics(timeout=20).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    @staticmethod
    def _admin(address: str) -> Any:
        return confluent_kafka.admin.AdminClient({"bootstrap.servers": address, **QUIET})

    @staticmethod
    def _outcome(future: Any) -> str:
        try:
            future.result(timeout=25)
        except confluent_kafka.KafkaException as error:
            return str(error.args[0].name())
        return ""


def confluent_producer_settings(address: str, options: ProducerOptions) -> dict[str, Any]:
    """librdkafka's settings for a producer."""
    return {
        "bootstrap.servers": address,
        "acks": options.acks,
        "enable.idempotence": options.idempotent,
        "compression.type": options.codec,
        "linger.ms": 5,
        **QUIET,
        "message.max.bytes": MAXIMUM_MESSAGE_BYTES,
        "message.timeout.ms": int(PRODUCE_TIMEOUT_S * 1000),
        **options.extra,
    }


def confluent_consumer_settings(address: str) -> dict[str, Any]:
    """librdkafka's settings for a consumer of assigned partitions. It insists on a group's name."""
    return {
        "bootstrap.servers": address,
        "group.id": "assigned",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 100,
        # How long it asks for no more once its own queue is full: a second, if not told otherwise.
        "fetch.queue.backoff.ms": 10,
        **QUIET,
    }


def produce_confluent(producer: Any, topic: str, message: Message, delivered: Any) -> None:
    """Hands one message to librdkafka, waiting while its queue is full."""
    deadline = Deadline(PRODUCE_TIMEOUT_S, "room in the producer's queue")
    arguments: dict[str, Any] = {
        "value": message.value,
        "key": message.key,
        "partition": message.partition,
        "on_delivery": delivered,
    }
    if message.headers:
        arguments["headers"] = list(message.headers)
    if message.timestamp_ms is not None:
        arguments["timestamp"] = message.timestamp_ms
    while True:
        try:
            producer.produce(topic, **arguments)
            break
        except BufferError:
            deadline.check()
            producer.poll(0.1)
    producer.poll(0)


def from_confluent(message: Any) -> Received:
    """A message as librdkafka gives it."""
    return Received(
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
    )


class KafkaPython(Client):
    """kafka-python, which is Python all the way down."""

    name = "kafka-python"

    def produce(
        self, address: str, topic: str, messages: Sequence[Message], options: ProducerOptions
    ) -> list[int]:
        producer = kafka.KafkaProducer(
            bootstrap_servers=address,
            acks="all" if options.acks == "all" else int(options.acks),
            enable_idempotence=options.idempotent,
            compression_type=None if options.codec == "none" else options.codec,
            linger_ms=5,
            max_request_size=MAXIMUM_MESSAGE_BYTES,
            delivery_timeout_ms=int(PRODUCE_TIMEOUT_S * 1000),
            **options.extra,
        )
        deadline = Deadline(PRODUCE_TIMEOUT_S, f"{self.name} to produce to {topic}")
        try:
            futures = [
                producer.send(
                    topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    partition=message.partition,
                    timestamp_ms=message.timestamp_ms,
                )
                for message in messages
            ]
            return [future.get(timeout=deadline.remaining()).offset for future in futures]
        finally:
            producer.close(timeout=20)

    def consume(self, address: str, topic: str, counts: Counts, start: int = 0) -> Consumed:
        consumer = kafka_python_consumer(address)
        collector = Collector(f"{self.name} to read {topic}", counts)
        try:
            partitions = [kafka.TopicPartition(topic, number) for number in counts]
            consumer.assign(partitions)
            for partition in partitions:
                consumer.seek(partition, start)
            while not collector.is_complete():
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        collector.add(from_kafka_python(record))
        finally:
            consumer.close()
        return collector.received

    def end_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        return self._ask(address, topic, partitions, "end_offsets")

    def beginning_offsets(self, address: str, topic: str, partitions: Sequence[int]) -> Counts:
        return self._ask(address, topic, partitions, "beginning_offsets")

    def _ask(self, address: str, topic: str, partitions: Sequence[int], what: str) -> Counts:
        consumer = kafka_python_consumer(address)
        try:
            asked = [kafka.TopicPartition(topic, number) for number in partitions]
            found = getattr(consumer, what)(asked)
            return {partition.partition: offset for partition, offset in found.items()}
        finally:
            consumer.close()

    def offset_for_time(self, address: str, topic: str, timestamp_ms: int) -> int | None:
        consumer = kafka_python_consumer(address)
        try:
            partition = kafka.TopicPartition(topic, 0)
            found = consumer.offsets_for_times({partition: timestamp_ms})[partition]
            return None if found is None else found.offset
        finally:
            consumer.close()

    def create_topic(self, address: str, topic: str, partitions: int) -> str:
        wanted = {topic: {"num_partitions": partitions, "replication_factor": 1}}
        return self._administer(address, lambda admin: admin.create_topics(wanted))

    def delete_topic(self, address: str, topic: str) -> str:
        return self._administer(address, lambda admin: admin.delete_topics([topic]))

    def list_topics(self, address: str) -> dict[str, int]:
        admin = kafka.KafkaAdminClient(bootstrap_servers=address)
        try:
            return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
        finally:
            admin.close()

    @staticmethod
    def _administer(address: str, action: Any) -> str:
        admin = kafka.KafkaAdminClient(bootstrap_servers=address)
        try:
            action(admin)
        except kafka.errors.KafkaError as error:
            return type(error).__name__
        finally:
            admin.close()
        return ""


def kafka_python_consumer(address: str) -> Any:
    """A consumer of assigned partitions."""
    return kafka.KafkaConsumer(
        bootstrap_servers=address,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=100,
    )


def from_kafka_python(record: Any) -> Received:
    """A message as kafka-python gives it."""
    return Received(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )


CONFLUENT = Confluent()
KAFKA_PYTHON = KafkaPython()
CLIENTS: tuple[Client, ...] = (CONFLUENT, KAFKA_PYTHON)


def wait_for_topic(client: Client, address: str, topic: str, partitions: int) -> None:
    """Waits until metadata tells of a topic. The broker should tell at once; clients may cache."""
    deadline = Deadline(20.0, f"{topic} to be listed with {partitions} partitions")
    while client.list_topics(address).get(topic) != partitions:
        deadline.check()
        time.sleep(0.05)
