"""The test runner: tests are functions of a context, run one after the other.

It is small on purpose. What a common framework would add (collection, fixtures, plugins) is more
than is needed, and one more package that a new machine must have.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .broker import Broker, StartOptions

Run = Callable[["Context"], str | None]


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    binary: Path
    io: str | None
    million: int
    seed: int


@dataclass(frozen=True)
class Test:
    """One test. What `run` returns is printed beside its name."""

    name: str
    run: Run


@dataclass
class Tests:
    """A list of tests that modules add to."""

    listed: list[Test] = field(default_factory=list)

    def add(self, name: str, run: Run) -> None:
        """Adds a test under a name that no other has."""
        if any(test.name == name for test in self.listed):
            raise ValueError(f"two tests are named {name}")
        self.listed.append(Test(name, run))

    def test(self, name: str) -> Callable[[Run], Run]:
        """Adds the function below it."""

        def add(run: Run) -> Run:
            self.add(name, run)
            return run

        return add


class Context:
    """What a test gets: settings, brokers, folders and names of its own."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings = settings
        self._root = root
        self._shared: Broker | None = None
        self._numbers = 0
        self._made: list[Path] = []
        self._lines_before = 0

    def fresh_path(self, kind: str) -> Path:
        """A path that does not exist yet."""
        self._numbers += 1
        path = self._root / f"{kind}-{self._numbers}"
        self._made.append(path)
        return path

    def fresh_topic(self, kind: str) -> str:
        """A name that no topic has."""
        self._numbers += 1
        return f"{kind}-{self._numbers}"

    def start_options(self, data: Path | None = None, shards: int | None = None) -> StartOptions:
        """How to start a broker of one's own; on a new data directory if none is given."""
        return StartOptions(
            binary=self.settings.binary,
            data=data or self.fresh_path("data"),
            log=self.fresh_path("log"),
            io=self.settings.io,
            shards=shards,
        )

    def broker(self, data: Path | None = None, shards: int | None = None) -> Broker:
        """Starts a broker of one's own."""
        return Broker.start(self.start_options(data, shards))

    def shared(self) -> Broker:
        """The broker of all tests that do not care which topics others have."""
        if self._shared is None or not self._shared.is_running():
            self._shared = self.broker()
        return self._shared

    def check_shared(self) -> None:
        """Fails if the shared broker died or panicked; the next test then gets a new one."""
        if self._shared is not None:
            try:
                self._shared.check_running()
            except AssertionError:
                self.kill()
                raise

    def begin_test(self) -> None:
        """Remembers what the shared broker's log held before a test."""
        self._lines_before = len(self._shared.log_text().splitlines()) if self._shared else 0

    def end_test(self) -> None:
        """Removes what a test left, so that all of them together need no more disk than one."""
        options = self._shared.options if self._shared else None
        kept = {options.data, options.log} if options else set()
        for path in self._made:
            if path in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._made = [path for path in self._made if path in kept]

    def shared_log_tail(self) -> str:
        """What the shared broker said during a test that failed, or the end of it."""
        said = self._shared.log_text().splitlines()[self._lines_before :] if self._shared else []
        return "\nthe shared broker said:\n" + "\n".join(said[-5:]) if said else ""

    def kill(self) -> None:
        """Ends the shared broker, if there is one."""
        if self._shared is not None:
            broker, self._shared = self._shared, None
            broker.kill()

    def close(self) -> None:
        """Stops the shared broker the way an operator would."""
        if self._shared is not None:
            with self._shared as broker:
                broker.stop()


@dataclass
class Outcome:
    """How many tests passed and failed."""

    passed: int = 0
    failed: int = 0

    def report(self, name: str, problem: str | None, seconds: float, note: str | None) -> None:
        """Prints a test's line and counts it."""
        verdict = "FAIL" if problem else "ok"
        print(f"{verdict:4} {name} ({seconds:.1f} s{', ' + note if note else ''})", flush=True)
        if problem:
            self.failed += 1
            print("     " + problem.rstrip().replace("\n", "\n     "), flush=True)
        else:
            self.passed += 1

    def summary(self, name: str) -> int:
        """Prints the line that a caller counts by; returns the exit code."""
        print(f"{name}: {self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


def run_tests(tests: list[Test], settings: Settings) -> Outcome:
    """Runs tests one after the other, and prints a line for each."""
    outcome = Outcome()
    root = Path(tempfile.mkdtemp(prefix="woodchuck-clients-"))
    context = Context(settings, root)
    try:
        # Where no broker starts, every test would wait in vain.
        began = time.monotonic()
        problem, note = problem_of(lambda: f"at {context.shared().address}")
        outcome.report("the shared broker starts", problem, time.monotonic() - began, note)
        if problem:
            return outcome
        for test in tests:
            run_test(test, context, outcome)
        began = time.monotonic()
        problem = problem_of(context.close)[0]
        outcome.report("the shared broker stops", problem, time.monotonic() - began, None)
    finally:
        context.kill()
        shutil.rmtree(root, ignore_errors=True)
    return outcome


def run_test(test: Test, context: Context, outcome: Outcome) -> None:
    """Runs one test, and looks after the shared broker."""
    began = time.monotonic()
    context.begin_test()
    problem, note = problem_of(lambda: test.run(context))
    seconds = time.monotonic() - began
    if problem:
        problem += context.shared_log_tail()
    died, _ = problem_of(context.check_shared)
    if died and died not in (problem or ""):
        problem = f"{problem}\n{died}" if problem else died
    left, _ = problem_of(context.end_test)
    if left:
        problem = f"{problem}\n{left}" if problem else left
    outcome.report(test.name, problem, seconds, note)


def problem_of(action: Callable[[], str | None]) -> tuple[str | None, str | None]:
    """Why an action failed, or else what it returned."""
    try:
        return None, action()
    except Exception as error:  # Whatever a client raises is that test's failure.
        where = traceback.extract_tb(sys.exc_info()[2])[-3:]
        places = " < ".join(f"{Path(at.filename).name}:{at.lineno}" for at in reversed(where))
        return f"{type(error).__name__}: {error}\nat {places}", None
