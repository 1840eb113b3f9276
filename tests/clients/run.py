#!/usr/bin/env python3
"""Runs the real clients against the real broker.

    python3 -m venv /tmp/clients && /tmp/clients/bin/pip install -r tests/clients/requirements.txt
    cargo build --release
    /tmp/clients/bin/python tests/clients/run.py --binary target/release/woodchuck

Each test prints a line; the last line is `clients: N passed, M failed`, and the exit code is not 0
if a test failed. The broker listens on a free port and keeps its data in a temporary directory
(set TMPDIR to choose the disk).
"""

from __future__ import annotations

import argparse
import faulthandler
import signal
import sys
from pathlib import Path

try:
    import confluent_kafka
    import kafka
except ImportError as missing:
    folder = Path(__file__).resolve().parent
    sys.exit(
        f"{missing}; run this with the Python of a virtual environment that has "
        f"{folder / 'requirements.txt'} installed"
    )

from suites import all_tests
from support.suite import Outcome, Settings, run_tests

# Longer than any run should take, so that a hang in a client's C code ends with a stack trace.
HANG_S = 40 * 60


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Runs real Kafka clients against the broker.")
    parser.add_argument("--binary", type=Path, default=Path("target/release/woodchuck"))
    parser.add_argument("--io", help="the broker's backend; its own choice if left out")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="only tests whose names contain this; may be given more than once",
    )
    parser.add_argument(
        "--million", type=int, default=1_000_000, metavar="N", help="messages in the volume tests"
    )
    parser.add_argument("--seed", type=int, default=1, help="for the messages' contents")
    parser.add_argument("--list", action="store_true", help="print the tests' names and stop")
    return parser.parse_args()


def main() -> int:
    """Runs the tests that are asked for."""
    arguments = parse_arguments()
    tests = all_tests()
    if arguments.only:
        tests = [test for test in tests if any(text in test.name for text in arguments.only)]
    if arguments.list:
        print("\n".join(test.name for test in tests))
        return 0
    binary = arguments.binary.resolve()
    if not binary.is_file():
        sys.exit(f"{binary} is not there; build it with: cargo build --release")
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    # Leaving through an exception is what stops the broker.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(
        f"confluent-kafka {confluent_kafka.__version__} (librdkafka "
        f"{confluent_kafka.libversion()[0]}), kafka-python {kafka.__version__}, "
        f"--io {arguments.io or '(none)'}, --seed {arguments.seed}, --million {arguments.million}",
        flush=True,
    )
    settings = Settings(binary, arguments.io, arguments.million, arguments.seed)
    outcome: Outcome = run_tests(tests, settings) if tests else Outcome()
    return outcome.summary("clients")


if __name__ == "__main__":
    sys.exit(main())
