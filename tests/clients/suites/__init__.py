"""The tests, by what they are about. `all_tests` is the order in which they run."""

from __future__ import annotations

from support.suite import Test

from . import (
    bad_input,
    capacity,
    compression,
    kcat,
    matrix,
    offsets,
    producers,
    refused_rings,
    restart,
    start_errors,
    topics,
    volume,
)


def all_tests() -> list[Test]:
    """Every test, the plainest first: what they need is what the later ones stand on."""
    modules = (
        kcat,
        matrix,
        compression,
        producers,
        offsets,
        topics,
        restart,
        volume,
        capacity,
        bad_input,
        start_errors,
        refused_rings,
    )
    return [test for module in modules for test in module.TESTS.listed]
