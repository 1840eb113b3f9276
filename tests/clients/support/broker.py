"""The real broker as a child process: started, watched, stopped, killed, and never left behind."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .waiting import Deadline, wait_for

READY = re.compile(r"serving Kafka on 127\.0\.0\.1:(\d+)")
ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

# Opening a data directory writes its first log segments, which a slow disk takes its time for.
START_TIMEOUT_S = 60.0
# The broker lets connections finish for 5 s; what it does after that is quick.
STOP_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 10.0


class BrokerError(AssertionError):
    """The broker's process did something it should not have done."""


@dataclass(frozen=True)
class StartOptions:
    """How a broker is started. `None` leaves an option to its default."""

    binary: Path
    data: Path
    log: Path
    io: str | None = None
    shards: int | None = None
    port: int = 0
    # Further arguments of `serve`.
    arguments: tuple[str, ...] = ()
    # A command that runs the broker's, which is appended to it.
    wrapper: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The command line."""
        command = [*self.wrapper, str(self.binary), "serve", "--data", str(self.data)]
        command += ["--kafka", f"127.0.0.1:{self.port}"]
        if self.io is not None:
            command += ["--io", self.io]
        if self.shards is not None:
            command += ["--shards", str(self.shards)]
        return [*command, *self.arguments]


def dies_with_us(command: list[str]) -> list[str]:
    """The command, wrapped so that the kernel kills it if this process ends without doing so."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


class Broker:
    """A running broker. Use it as a context manager: leaving it kills the process."""

    def __init__(self, options: StartOptions) -> None:
        self.options = options
        self._log = options.log.open("ab")
        self._log_start = options.log.stat().st_size
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            dies_with_us(options.command()),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self.port = 0

    @classmethod
    def start(cls, options: StartOptions) -> Broker:
        """Starts a broker and waits until it serves."""
        broker = cls(options)
        try:
            broker.wait_until_ready()
        except BaseException:
            broker.kill()
            raise
        return broker

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_until_ready(self) -> None:
        """Waits for the line that names the port."""
        deadline = Deadline(START_TIMEOUT_S, "the broker to serve")
        while True:
            exited = self.process.poll()
            found = READY.search(self.log_text())
            if found:
                self.port = int(found.group(1))
                return
            if exited is not None:
                raise BrokerError(f"exited with {exited} at its start:\n{self.log_text()}")
            deadline.check(self.log_text())
            time.sleep(0.005)

    def log_text(self) -> str:
        """What this process has printed so far, without colours."""
        with self.options.log.open("rb") as log:
            log.seek(self._log_start)
            return ANSI_ESCAPE.sub("", log.read().decode("utf-8", "replace"))

    def log_lines_naming(self, peer: str) -> list[str]:
        """The lines of the log that name a client by its address and port."""
        pattern = re.compile(re.escape(peer) + r"(?!\d)")
        return [line for line in self.log_text().splitlines() if pattern.search(line)]

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Its resident memory, or `VmHWM` for the most it ever was."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        if not found:
            raise BrokerError(f"/proc/{self.pid}/status has no {field}; is the broker dead?")
        return int(found.group(1)) * 1024

    def reset_peak_memory(self) -> None:
        """Makes `VmHWM` count from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self) -> float:
        """Asks it to stop, requires exit code 0 and no panic, and returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self._wait(STOP_TIMEOUT_S, "the broker to stop after SIGTERM")
        took = time.monotonic() - began
        if code != 0:
            raise BrokerError(f"exited with {code} after SIGTERM:\n{self.log_tail()}")
        self.check_log()
        return took

    def kill(self) -> None:
        """Ends it at once, as `kill -9` does. Harmless if it has ended already."""
        if self.is_running():
            self.process.kill()
        self._wait(KILL_TIMEOUT_S, "the broker to die after SIGKILL")
        self._log.close()

    def check_log(self) -> None:
        """Fails if the log tells of a panic or of a bug."""
        for line in self.log_text().splitlines():
            if "panicked at" in line or "this is a bug" in line:
                raise BrokerError(f"the broker's log tells of a bug:\n{self.log_tail()}")

    def check_running(self) -> None:
        """Fails if the process has ended by itself, or panicked somewhere."""
        code = self.process.poll()
        if code is not None:
            raise BrokerError(f"the broker ended by itself with {code}:\n{self.log_tail()}")
        self.check_log()

    def log_tail(self, lines: int = 25) -> str:
        """The end of the log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def _wait(self, seconds: float, what: str) -> int:
        wait_for(lambda: self.process.poll() is not None, seconds, what)
        return self.process.returncode


@dataclass(frozen=True)
class FailedStart:
    """What a broker said that was not to start."""

    code: int
    lines: list[str]


def run_to_failure(options: StartOptions, seconds: float = 20.0) -> FailedStart:
    """Starts a broker that is to refuse, and returns its exit code and what it said."""
    command = dies_with_us(options.command())
    try:
        ended = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as expired:
        said = (expired.stderr or b"").decode("utf-8", "replace")
        raise BrokerError(f"was to refuse to start, and ran for {seconds:g} s:\n{said}") from None
    said = ANSI_ESCAPE.sub("", (ended.stdout + ended.stderr).decode("utf-8", "replace"))
    lines = [line for line in said.splitlines() if line.strip()]
    return FailedStart(ended.returncode, lines)
