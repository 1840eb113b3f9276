"""A broker that the kernel refuses io_uring, as container runtimes do by default."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from support import wire
from support.broker import Broker, StartOptions, run_to_failure
from support.messages import require, require_equal
from support.suite import Context, Tests

TESTS = Tests()
WITHOUT_IO_URING = Path(__file__).resolve().parents[2] / "without_io_uring"
FALLBACK = "io_uring is refused here, so ordinary system calls are used"


def refused(context: Context, backend: str) -> StartOptions:
    """How to start a broker that asks for a backend and gets no ring."""
    wrapper = (sys.executable, str(WITHOUT_IO_URING))
    return dataclasses.replace(context.start_options(), io=backend, wrapper=wrapper)


@TESTS.test("without io_uring: the broker says so once, loudly, and serves")
def falls_back(context: Context) -> str:
    with Broker.start(refused(context, "automatic")) as broker:
        with wire.Connection(broker.port) as connection:
            require_equal("the error", wire.create_topic(connection, "t", 1), 0)
            records = wire.batch([b"kept"])
            require_equal("the error", wire.produce(connection, "t", records).error, 0)
            stored = wire.fetch_whole(connection, "t", 0)
            require_equal("the number of batches", len(stored), 1)
        broker.stop()
        lines = broker.log_text().splitlines()
    told = [line for line in lines if FALLBACK in line]
    require_equal("the number of lines about it", len(told), 1)
    require(" WARN " in told[0], f"it is not a warning: {told[0]}")
    on_posix = [line for line in lines if "run on posix" in line]
    require_equal("the number of lines that name the backend", len(on_posix), 1)
    return told[0]


@TESTS.test("without io_uring: a broker that asks for posix has nothing to say about it")
def posix_is_silent(context: Context) -> None:
    with Broker.start(refused(context, "posix")) as broker:
        require(wire.is_alive(broker.port), "it does not serve")
        broker.stop()
        require("io_uring" not in broker.log_text(), broker.log_text())


@TESTS.test("without io_uring: a broker that insists on it does not start")
def insists(context: Context) -> str:
    failed = run_to_failure(refused(context, "uring"))
    said = "\n".join(failed.lines)
    require_equal("the exit code", failed.code, 1)
    line = failed.lines[-1]
    for words in (
        "io_uring was asked for and is refused",
        "Operation not permitted",
        "seccomp profile",
        "posix",
    ):
        require(words in line, f"the last line has no {words!r}:\n{said}")
    require(FALLBACK not in said, f"it tells of a fallback:\n{said}")
    return line
