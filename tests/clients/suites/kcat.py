"""kcat, the client most people try first: its lines in, its lines out."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from support.messages import require, require_equal
from support.suite import Context, Tests

TESTS = Tests()
TIMEOUT_S = 40.0


def kcat(address: str, *arguments: str, stdin: str = "") -> str:
    """Runs kcat, requires that it succeeds, and returns what it printed."""
    binary = shutil.which("kcat") or shutil.which("kafkacat")
    require(binary is not None, "kcat is not installed; on Debian: apt-get install kcat")
    command = [str(binary), "-b", address, *arguments]
    ended = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if ended.returncode:
        raise AssertionError(f"{' '.join(command)} failed: {ended.stderr.strip()}")
    return ended.stdout


def consume(address: str, topic: str, form: str) -> list[str]:
    """Reads a topic to its end and returns one line a message, in this form."""
    printed = kcat(address, "-t", topic, "-C", "-e", "-q", "-o", "beginning", "-f", form + "\n")
    return printed.splitlines()


@TESTS.test("kcat: lines round-trip through a topic that the producer creates")
def lines(context: Context) -> None:
    address, topic = context.shared().address, context.fresh_topic("kcat")
    sent = [f"line {number}" for number in range(1000)]
    kcat(address, "-t", topic, "-P", stdin="\n".join(sent) + "\n")
    require_equal("consumed", consume(address, topic, "%s"), sent)
    offsets = [int(line) for line in consume(address, topic, "%o")]
    require_equal("offsets", offsets, list(range(1000)))


@TESTS.test("kcat: without any options but the topic, -P and -C")
def plain(context: Context) -> None:
    address, topic = context.shared().address, context.fresh_topic("kcat")
    kcat(address, "-t", topic, "-P", stdin="hello\n")
    require_equal("consumed", kcat(address, "-t", topic, "-C", "-e"), "hello\n")


@TESTS.test("kcat: keys, headers and null values")
def keys_and_headers(context: Context) -> None:
    address, topic = context.shared().address, context.fresh_topic("kcat")
    kcat(
        address, "-t", topic, "-P", "-Z", "-K:", "-H", "a=1", "-H", "b=two",
        stdin="k1:v1\nk2:v2\n:no key\ngone:\n",
    )  # fmt: skip
    rows = consume(address, topic, "%k|%K|%s|%S|%h|%p|%o")
    expected = [
        "k1|2|v1|2|a=1,b=two|0|0",
        "k2|2|v2|2|a=1,b=two|0|1",
        "|-1|no key|6|a=1,b=two|0|2",
        "gone|4||-1|a=1,b=two|0|3",
    ]
    require_equal("rows", rows, expected)


@TESTS.test("kcat: every compression")
def compressions(context: Context) -> None:
    address, topic = context.shared().address, context.fresh_topic("kcat")
    sent = []
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        part = [f"{codec} {number} " + "x" * 200 for number in range(100)]
        kcat(address, "-t", topic, "-P", "-z", codec, stdin="\n".join(part) + "\n")
        sent += part
    require_equal("consumed", consume(address, topic, "%s"), sent)


@TESTS.test("kcat: an offset and a tail to start from")
def starts(context: Context) -> None:
    address, topic = context.shared().address, context.fresh_topic("kcat")
    kcat(address, "-t", topic, "-P", stdin="a\nb\nc\nd\n")
    for start, expected in (("2", "c\nd\n"), ("-1", "d\n"), ("end", "")):
        printed = kcat(address, "-t", topic, "-C", "-e", "-q", "-o", start)
        require_equal(f"from {start}", printed, expected)


@TESTS.test("kcat: -L lists the broker and its topics")
def listing(context: Context) -> None:
    broker, topic = context.shared(), context.fresh_topic("kcat")
    kcat(broker.address, "-t", topic, "-P", stdin="x\n")
    told: dict[str, Any] = json.loads(kcat(broker.address, "-L", "-J"))
    require_equal("brokers", [found["name"] for found in told["brokers"]], [broker.address])
    require_equal("the listed topic", [
        len(found["partitions"]) for found in told["topics"] if found["topic"] == topic
    ], [1])  # fmt: skip
    require(f'topic "{topic}" with 1 partitions' in kcat(broker.address, "-L"), "not in plain -L")
