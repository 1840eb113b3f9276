#!/usr/bin/env python3
"""Cuts the power under the real broker, again and again, and checks that nothing is lost.

The broker's data is on ext4 over a device that forgets what was not flushed when its power is cut:
sector by sector, as it is drawn (`woodchuck-crash volume`, in `tests/crash`). What it is loaded with,
and what is checked, stands in the head of `support/rounds.py`. Each round:

1. load, until the power is cut: at a write or flush that was drawn, so that it is in flight, or
   between two;
2. the broker is killed: from the cut on it could do nothing more;
3. "reboot": the filesystem is mounted again. One time in two the power is cut again, while it is
   being mounted or while the broker recovers, up to three times in a row;
4. the broker starts, the idempotent producer delivers the rest, and everything is read back.

Each round is a test. The last line is `power-cuts: N passed, M failed`. It needs root, FUSE and loop
devices; where they are refused it says so and fails. It runs in a mount namespace of its own, so that
nothing it mounts is left.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.broker import Broker, BrokerError, StartOptions
from support.messages import require
from support.rounds import Rounds
from support.suite import Outcome, problem_of
from support.waiting import Deadline

# The shards' segments, and what all rounds add to them.
DEVICE_BYTES = 1 << 30
SHARDS = 2
# The power goes at one of so many writes and flushes after the first acknowledgement, or after so
# long a load if there were fewer.
REQUESTS_UNDER_LOAD = 1000
SHORTEST_LOAD_S = 0.5
LONGEST_LOAD_S = 2.0
# A start is cut short at one of so many: it reads, and writes little but its last frames.
REQUESTS_OF_A_START = 60
CUTS_IN_A_ROW = 3
HANG_S = 40 * 60
OWN_NAMESPACE = "--in-own-namespace"


class VolumeError(AssertionError):
    """The volume could not do what it was told."""


class Volume:
    """A filesystem over a device whose power can be cut: a process that is told what to do."""

    def __init__(self, crash: Path, root: Path, seed: int) -> None:
        directory = root / "volume"
        directory.mkdir()
        self.filesystem = directory / "filesystem"
        self._process = subprocess.Popen(
            [
                str(crash),
                "volume",
                *("--directory", str(directory)),
                *("--bytes", str(DEVICE_BYTES)),
                *("--seed", str(seed)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer("starting")

    def tell(self, command: str) -> str:
        """Has a command carried out, and returns what the volume says."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer(command)

    def is_powered(self) -> bool:
        """Whether there is power."""
        return self.tell("status").startswith("on")

    def attach(self) -> bool:
        """Mounts the filesystem; false if the power went meanwhile."""
        try:
            self.tell("attach")
        except VolumeError:
            if self.is_powered():
                raise
        return self.is_powered()

    def reboot(self) -> None:
        """Unmounts, and turns the power on."""
        self.tell("detach")
        self.tell("power-on")

    def cut(self) -> str:
        """Cuts the power if it has not gone, and says what that did."""
        _, _, writes, kept, lost = self.tell("cut").split()
        return f"{writes} writes unflushed, {kept} sectors kept, {lost} lost"

    def close(self) -> None:
        """Ends the process, which unmounts everything."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self, command: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line.startswith("ok"):
            raise VolumeError(f"{command}: {line or 'the volume has ended'}")
        return line[2:].strip()


class PowerCuts(Rounds):
    """The rounds of one run, all on the same volume."""

    def __init__(self, options: StartOptions, seed: int, volume: Volume) -> None:
        super().__init__(options, seed)
        self._volume = volume

    def finish(self) -> None:
        """Stops the broker and has the filesystem looked at."""
        if self._broker is not None and self._broker.is_running():
            self._broker.stop()
        self._volume.tell("detach")
        self._volume.tell("check")

    def _end(self, broker: Broker) -> str:
        self._load(broker)
        cut = self._volume.cut()
        broker.kill()
        broker.check_log()
        return cut

    def _load(self, broker: Broker) -> None:
        """Lasts until the power has gone, or must go."""
        if self._numbers.randrange(4):
            self._volume.tell(f"cut-after {self._numbers.randint(1, REQUESTS_UNDER_LOAD)}")
        deadline = Deadline(self._numbers.uniform(SHORTEST_LOAD_S, LONGEST_LOAD_S), "the power to go")
        while not deadline.passed() and self._volume.is_powered():
            time.sleep(0.01)
            powered = self._volume.is_powered()
            require(broker.is_running() or not powered, "the broker ended by itself")

    def _interrupt_starts(self) -> str:
        """Mounts the volume, after cutting some starts short."""
        cuts = 0
        while True:
            self._volume.reboot()
            again = cuts < CUTS_IN_A_ROW and self._numbers.randrange(2)
            if not again:
                require(self._volume.attach(), "the power went by itself")
                return f" (after {cuts} more cuts)" if cuts else ""
            cuts += 1
            self._volume.tell(f"cut-after {self._numbers.randint(1, REQUESTS_OF_A_START)}")
            if self._volume.attach():
                self._interrupt_recovery()
            self._volume.cut()

    def _interrupt_recovery(self) -> None:
        """Starts the broker and lets it be until the power goes, or it serves."""
        broker = Broker(self._options)
        try:
            broker.wait_until_ready()
        except BrokerError:
            if self._volume.is_powered():
                raise
        finally:
            broker.kill()
        broker.check_log()


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Cuts the power under the broker, and checks its data."
    )
    parser.add_argument("--binary", type=Path, default=Path("target/release/woodchuck"))
    parser.add_argument("--crash", type=Path, help="woodchuck-crash; beside the binary if left out")
    parser.add_argument("--io", help="the broker's backend; its own choice if left out")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, help="drawn and printed if left out")
    parser.add_argument(OWN_NAMESPACE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # What is said counts more than the environment.
    if arguments.rounds is None:
        arguments.rounds = int(os.environ.get("WOODCHUCK_CRASH_ROUNDS", "10"))
    if arguments.seed is None:
        drawn = str(random.SystemRandom().randrange(1 << 32))
        arguments.seed = int(os.environ.get("WOODCHUCK_CRASH_SEED", drawn))
    return arguments


def main() -> int:
    """Runs all rounds, and has the filesystem looked at."""
    arguments = parse_arguments()
    binary = arguments.binary.resolve()
    crash = (arguments.crash or binary.parent / "woodchuck-crash").resolve()
    for program in (binary, crash):
        if not program.is_file():
            sys.exit(f"{program} is not there; build it with: cargo build --release")
    if not arguments.in_own_namespace:
        subprocess.run([str(crash), "allowed"], check=True)
        command = ["unshare", "--mount", "--propagation", "private", "--", sys.executable]
        os.execvp(command[0], [*command, *sys.argv, OWN_NAMESPACE])
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    # Leaving through an exception is what ends the broker and the volume.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = arguments.seed
    print(f"--seed {seed} --io {arguments.io or '(none)'} --rounds {arguments.rounds}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="woodchuck-power-cut-"))
    outcome = Outcome()
    volume = Volume(crash, root, seed)
    rounds = None
    try:
        volume.tell("format")
        volume.tell("attach")
        data = volume.filesystem / "data"
        options = StartOptions(binary, data, root / "log", arguments.io, shards=SHARDS)
        rounds = PowerCuts(options, seed, volume)
        rounds.run_all(arguments.rounds, outcome)
        if not outcome.failed:
            began = time.monotonic()
            problem, _ = problem_of(lambda: rounds.finish())
            outcome.report("the filesystem is whole", problem, time.monotonic() - began, None)
    finally:
        if rounds is not None:
            rounds.close()
        volume.close()
        shutil.rmtree(root, ignore_errors=True)
    return outcome.summary("power-cuts")


if __name__ == "__main__":
    sys.exit(main())
