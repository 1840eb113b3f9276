"""Starts that must fail: with a nonzero exit code, and one line that says what to do."""

from __future__ import annotations

import dataclasses
import re
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from support import wire
from support.broker import FailedStart, StartOptions, run_to_failure
from support.clients import CONFLUENT
from support.messages import Message, ProducerOptions, require, require_equal, require_same
from support.suite import Context, Tests
from support.waiting import wait_for

TESTS = Tests()
# The identity's layout stands at the head of `engine/src/directory.rs`.
IDENTITY = "woodchuck.id"
CHECKSUM_AT = 40
VERSION_AT = 16
BACKEND = re.compile(r"shards? runs? on (\w+)")
# What the log tells before the failure, as it does at every start, is no part of the error.
PROGRESS = re.compile(r"^\S+Z\s+INFO ")
# Printed where io_uring is refused and nobody asked for a backend; not about the failure either.
BACKEND_NOTICE = "io_uring"


def require_refusal(failed: FailedStart, *words: str) -> str:
    """Requires a nonzero exit code and one line that has all of these words."""
    require(failed.code != 0, f"it exited with 0 and said {failed.lines}")
    require(failed.code > 0, f"it was ended by signal {-failed.code} and said {failed.lines}")
    lines = [
        line for line in failed.lines if not PROGRESS.match(line) and BACKEND_NOTICE not in line
    ]
    said = "\n".join(failed.lines)
    require(len(lines) == 1, f"{len(lines)} lines tell of the failure, and should be one:\n{said}")
    require(failed.lines[-1] == lines[0], f"the failure is not what the log ends with:\n{said}")
    for word in words:
        require(word in lines[0], f"the line has no {word!r}: {lines[0]}")
    return lines[0]


def used_directory(context: Context) -> Path:
    """A data directory in which a broker kept a message."""
    data = context.fresh_path("data")
    with context.broker(data) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"kept")], ProducerOptions())
        broker.stop()
    return data


def require_still_good(context: Context, data: Path) -> None:
    """Requires that a data directory is what `used_directory` left."""
    with context.broker(data) as broker:
        received = CONFLUENT.consume(broker.address, "t", {0: 1})
        require_same([Message(b"kept")], received)
        broker.stop()


def all_files(folder: Path) -> dict[str, bytes]:
    """The small files below a folder with their contents."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@TESTS.test("start: the log names the backend once, and it is the one that was asked for")
def one_backend(context: Context) -> str:
    with context.broker() as broker:
        said = broker.log_text()
        broker.stop()
    named: list[str] = BACKEND.findall(said)
    require(len(named) == 1, f"the log names {len(named)} backends:\n{said}")
    if context.settings.io in ("uring", "posix"):
        require_equal("the backend", named[0], context.settings.io)
    return named[0]


@TESTS.test("start: a data directory that another broker has")
def locked(context: Context) -> str:
    data = context.fresh_path("data")
    with context.broker(data) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"kept")], ProducerOptions())
        line = require_refusal(
            run_to_failure(context.start_options(data)), str(data), "in use", "--data"
        )
        received = CONFLUENT.consume(broker.address, "t", {0: 1})
        require_same([Message(b"kept")], received)
        broker.stop()
    require_still_good(context, data)
    return line


@TESTS.test("start: a data directory whose broker was killed is not locked")
def not_locked_by_the_dead(context: Context) -> None:
    data = context.fresh_path("data")
    with context.broker(data) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"kept")], ProducerOptions())
        broker.kill()
    require_still_good(context, data)


@TESTS.test("start: a directory with other files")
def other_files(context: Context) -> str:
    data = context.fresh_path("photos")
    data.mkdir()
    (data / "cat.jpg").write_bytes(b"meow")
    failed = run_to_failure(context.start_options(data))
    line = require_refusal(failed, str(data), "cat.jpg", "--data")
    require_equal("what is in it", all_files(data), {"cat.jpg": b"meow"})
    return line


@TESTS.test("start: a file where the data directory should be")
def a_file(context: Context) -> str:
    data = context.fresh_path("file")
    data.write_bytes(b"not a directory")
    return require_refusal(run_to_failure(context.start_options(data)), str(data), "--data")


@TESTS.test("start: a directory in which a probe was killed")
def killed_probe(context: Context) -> None:
    data = context.fresh_path("data")
    data.mkdir()
    scratch = data / "woodchuck-probe.scratch"
    command = [str(context.settings.binary), "probe", str(data), "--size", "16MiB"]
    with subprocess.Popen(
        [*command, "--seconds", "100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as probe:
        try:
            wait_for(scratch.exists, 30.0, "the probe's file")
            require(probe.poll() is None, "the probe ended by itself")
        finally:
            probe.kill()
    with context.broker(data) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"kept")], ProducerOptions())
        broker.stop()
    require_still_good(context, data)
    require(scratch.exists(), "what the probe left is gone")


@TESTS.test("start: a data directory that cannot be made")
def impossible_directory(context: Context) -> str:
    parent = context.fresh_path("file")
    parent.write_bytes(b"not a directory")
    data = parent / "data"
    return require_refusal(run_to_failure(context.start_options(data)), str(data), "--data")


@TESTS.test("start: a data directory that lost its identity")
def lost_identity(context: Context) -> str:
    data = used_directory(context)
    (data / IDENTITY).rename(data.with_suffix(".saved"))
    line = require_refusal(run_to_failure(context.start_options(data)), str(data), IDENTITY)
    # The line says to restore it from a copy, so that has to help.
    data.with_suffix(".saved").rename(data / IDENTITY)
    require_still_good(context, data)
    return line


def refuse_changed_identity(
    context: Context, change: Callable[[bytearray], bytes], *words: str
) -> str:
    """Changes an identity, requires a refusal, and that putting it back helps."""
    data = used_directory(context)
    original = (data / IDENTITY).read_bytes()
    require_equal("the identity's length", len(original), 4096)
    (data / IDENTITY).write_bytes(change(bytearray(original)))
    failed = run_to_failure(context.start_options(data))
    line = require_refusal(failed, str(data), IDENTITY, *words)
    (data / IDENTITY).write_bytes(original)
    require_still_good(context, data)
    return line


@TESTS.test("start: an identity with a flipped bit")
def flipped_identity(context: Context) -> str:
    def flip(identity: bytearray) -> bytes:
        identity[25] ^= 0x10
        return bytes(identity)

    return refuse_changed_identity(context, flip, "damaged", "--data")


@TESTS.test("start: an identity of another version")
def newer_identity(context: Context) -> str:
    def renew(identity: bytearray) -> bytes:
        struct.pack_into("<I", identity, VERSION_AT, 2)
        struct.pack_into("<I", identity, CHECKSUM_AT, wire.crc32c(bytes(identity[:CHECKSUM_AT])))
        return bytes(identity)

    return refuse_changed_identity(context, renew, "version 2")


@TESTS.test("start: an identity that is something else")
def foreign_identity(context: Context) -> str:
    return refuse_changed_identity(context, lambda _: b"hello\n" * 1000)


@TESTS.test("start: an identity that is cut off, and one that is empty")
def short_identity(context: Context) -> str:
    refuse_changed_identity(context, lambda identity: bytes(identity[:20]))
    return refuse_changed_identity(context, lambda _: b"")


@TESTS.test("start: another number of shards than the directory has")
def other_shards(context: Context) -> str:
    data = context.fresh_path("data")
    with context.broker(data, shards=2) as broker:
        CONFLUENT.produce(broker.address, "t", [Message(b"kept")], ProducerOptions())
        broker.stop()
    failed = run_to_failure(context.start_options(data, shards=3))
    line = require_refusal(failed, str(data), "--shards")
    require_still_good(context, data)
    return line


@TESTS.test("start: a port that another program has")
def port_in_use(context: Context) -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        options = dataclasses.replace(context.start_options(), port=port)
        return require_refusal(run_to_failure(options), f"127.0.0.1:{port}", "in use", "--kafka")


@TESTS.test("start: a port that another broker has, which keeps its clients")
def port_of_another_broker(context: Context) -> str:
    broker = context.shared()
    options: StartOptions = dataclasses.replace(context.start_options(), port=broker.port)
    words = (broker.address, "in use", "--kafka")
    return require_refusal(run_to_failure(options), *words)
