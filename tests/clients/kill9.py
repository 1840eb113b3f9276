#!/usr/bin/env python3
"""Kills the real broker under load, again and again, and checks that nothing is lost.

What it is loaded with, and what is checked, stands in the head of `support/rounds.py`. At a random
moment the broker gets SIGKILL. It is started again on the same data and port; one time in four it is
killed in the middle of that, too.

Each round is a test. The last line is `kill9: N passed, M failed`.

SIGKILL leaves the page cache alone, so what this shows is the process's own part: that nothing is
acknowledged before it was handed to the kernel, and that recovery finds it. `power_cut.py` does the
same with the power.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from support.broker import Broker, StartOptions
from support.rounds import Rounds
from support.suite import Outcome

# A kill comes so long after the first acknowledgement.
SHORTEST_LOAD_S = 0.05
LONGEST_LOAD_S = 1.5
HANG_S = 40 * 60


class Kills(Rounds):
    """Rounds that end with a kill."""

    def _end(self, broker: Broker) -> str:
        load_s = self._numbers.uniform(SHORTEST_LOAD_S, LONGEST_LOAD_S)
        time.sleep(load_s)  # Not to wait for something: this is how long the load lasts.
        broker.check_running()
        broker.kill()
        return f"killed after {load_s:.2f} s"

    def _interrupt_starts(self) -> str:
        """One time in four: starts the broker, and kills it before it can have finished."""
        if self._numbers.randrange(4):
            return ""
        broker = Broker(self._options)
        after_s = self._numbers.uniform(0.0, 0.3)
        time.sleep(after_s)
        broker.kill()
        return f" (after a kill {after_s * 1000:.0f} ms into a start)"


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Kills the broker under load, and checks its data."
    )
    parser.add_argument("--binary", type=Path, default=Path("target/release/woodchuck"))
    parser.add_argument("--io", help="the broker's backend; its own choice if left out")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="when to kill; drawn and printed if left out")
    return parser.parse_args()


def main() -> int:
    """Runs all rounds."""
    arguments = parse_arguments()
    binary = arguments.binary.resolve()
    if not binary.is_file():
        sys.exit(f"{binary} is not there; build it with: cargo build --release")
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    # Leaving through an exception is what stops the broker.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"--seed {seed} --io {arguments.io or '(none)'} --rounds {arguments.rounds}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="woodchuck-kill9-"))
    options = StartOptions(binary, root / "data", root / "log", arguments.io)
    rounds, outcome = Kills(options, seed), Outcome()
    try:
        rounds.run_all(arguments.rounds, outcome)
    finally:
        rounds.close()
        if outcome.failed:
            print(f"the data and the broker's log are left in {root}", flush=True)
        else:
            shutil.rmtree(root, ignore_errors=True)
    return outcome.summary("kill9")


if __name__ == "__main__":
    sys.exit(main())
