"""A broker whose logs may not grow without end: it refuses, keeps what it has, and goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support import wire
from support.broker import Broker
from support.clients import CONFLUENT
from support.messages import require, require_equal
from support.suite import Context, Tests
from support.waiting import Deadline

TESTS = Tests()
CAPACITY_BYTES = 192 << 20
RECORD_BYTES = 900_000
REQUEST_TIMED_OUT = 7
REFUSED_AFTER_S = 60.0
ROOM_AFTER_S = 20.0


def start(context: Context, data: Path) -> Broker:
    """One shard, with the smallest capacity there is."""
    options = context.start_options(data, shards=1)
    return Broker.start(replace(options, arguments=("--log-capacity", "192MiB")))


def fill(broker: Broker, topic: str) -> int:
    """Produces until the broker refuses. Returns how many records were taken."""
    deadline = Deadline(REFUSED_AFTER_S, "the broker to refuse")
    with wire.Connection(broker.port) as connection:
        taken, record = 0, wire.batch([bytes(RECORD_BYTES)])
        while True:
            produced = wire.produce(connection, topic, record)
            if produced.error == REQUEST_TIMED_OUT:
                return taken
            require_equal("the error of a produce", produced.error, 0)
            require_equal("offset", produced.base_offset, taken)
            taken += 1
            deadline.check(broker.log_text())


def bytes_on_disk(data: Path) -> int:
    """The length of all files of a data directory."""
    return sum(path.stat().st_size for path in data.rglob("*") if path.is_file())


@TESTS.test("a log at its capacity refuses to grow, keeps what it has, and goes on with room")
def capacity(context: Context) -> str:
    data = context.fresh_path("data")
    with start(context, data) as broker:
        for topic in ("large", "small"):
            require_equal("creation", CONFLUENT.create_topic(broker.address, topic, 1), "")
        taken = fill(broker, "large")
        require("no next segment" in broker.log_text(), "the log says why it refuses")
        require(taken * RECORD_BYTES > CAPACITY_BYTES // 2, f"only {taken} records were taken")
        used = bytes_on_disk(data)
        require(used <= CAPACITY_BYTES + (1 << 20), f"{used} bytes are on the disk")
        broker.kill()
    with start(context, data) as broker:
        found = CONFLUENT.consume(broker.address, "large", {0: taken})
        require_equal("records after a kill", len(found[0]), taken)
        require_equal("deletion", CONFLUENT.delete_topic(broker.address, "large"), "")
        deadline = Deadline(ROOM_AFTER_S, "room after the deletion")
        with wire.Connection(broker.port) as connection:
            record = wire.batch([bytes(RECORD_BYTES)])
            for number in range(CAPACITY_BYTES // RECORD_BYTES // 2):
                while (produced := wire.produce(connection, "small", record)).error != 0:
                    require_equal("the error of a produce", produced.error, REQUEST_TIMED_OUT)
                    deadline.check(broker.log_text())
                require_equal("offset", produced.base_offset, number)
        broker.stop()
    return f"{taken} records of {RECORD_BYTES} bytes in {used} bytes on the disk"


@TESTS.test("a capacity that cannot work is refused with what to do")
def wrong_capacity(context: Context) -> str:
    said = []
    for given, words in (("1MiB", "must be at least"), ("much", "is not a size")):
        options = context.start_options()
        try:
            Broker.start(replace(options, arguments=("--log-capacity", given))).kill()
        except AssertionError as error:
            require(words in str(error), f"it says: {error}")
            said.append(given)
    require_equal("refused", said, ["1MiB", "much"])
    return "both"
