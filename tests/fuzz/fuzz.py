"""Run one target under atheris: ``python -m tests.fuzz.fuzz TARGET [libFuzzer options]``; see README.md."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gmp", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
