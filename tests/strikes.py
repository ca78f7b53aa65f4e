"""Strikes at a chosen one of the points in gmp's code where Python looks for signals, as their handlers do.

Those points are where a function begins or a generator goes on, and behind each call of C code (in 3.11 calls of types are
not seen). Where a loop goes back is left out: what `sys.monitoring` raises there comes from another place than what a signal
handler raises. So every window that Ctrl-C can hit is hit, instead of the
few that a signal of another process happens to find.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import gevent

import gmp

GMP = str(Path(gmp.__file__).parent)


class Striker:
    """Counts those points from `arm` on, and calls `strike` at the one that was asked for."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self.passed = 0  #: points since `arm`
        self.where = ""  #: where it struck since then
        self._strike = strike
        self._at = -1
        self._gmp: dict[CodeType, bool] = {}
        if sys.version_info >= (3, 12):
            self._monitor()
        else:
            sys.setprofile(self._profile)

    def arm(self, at: int) -> None:
        """Strike at that point, counted from now; -1: only count."""
        self.where, self.passed, self._at = "", 0, at
        if sys.version_info < (3, 12):
            sys.setprofile(self._profile)  # it has gone when it raised

    def disarm(self) -> None:
        """Strike no more."""
        self._at = -1

    def _is_gmp(self, code: CodeType) -> bool:
        found = self._gmp.get(code)
        if found is None:
            found = self._gmp[code] = code.co_filename.startswith(GMP)
        return found

    def _point(self, code: CodeType, line: int, kind: str) -> None:
        if not self._is_gmp(code):
            return
        self.passed += 1
        if self.passed == self._at:
            self._at = -1
            self.where = f"{Path(code.co_filename).name}:{line} {code.co_name} ({kind})"
            self._strike()

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" or event == "c_return":
            self._point(frame.f_code, frame.f_lineno, event)

    if sys.version_info >= (3, 12):

        def _monitor(self) -> None:
            monitoring = sys.monitoring
            events = monitoring.events
            monitoring.use_tool_id(4, "strikes")

            def begins(code: CodeType, offset: int) -> Any:
                self._point(code, _line(code, offset), "begins")

            def returns(code: CodeType, offset: int, function: object, _argument: object) -> Any:
                self._point(code, _line(code, offset), f"behind {getattr(function, '__name__', function)}")

            def nothing(*_: object) -> None:
                """C_RETURN is only told with it."""

            for event, callback in (
                (events.PY_START, begins),
                (events.PY_RESUME, begins),
                (events.C_RETURN, returns),
                (events.CALL, nothing),
            ):
                monitoring.register_callback(4, event, callback)
            monitoring.set_events(4, events.PY_START | events.PY_RESUME | events.CALL)


Turn = Callable[[Striker, int], tuple[int, list[str]]]  # returns how many points there are, and what is wrong


class Struck(NamedTuple):
    """What came of a strike at each point."""

    points: int
    bad: list[str]


def interrupt() -> None:
    """Strike as Ctrl-C does."""
    raise KeyboardInterrupt


def strike_each(turn: Turn, *, stride: int = 1, rehearsals: int = 3, strike: Callable[[], None] = interrupt) -> None:
    """Play `turn` with a strike at each `stride`-th of its points, print what was wrong, and end this process.

    How many points there are, `rehearsals` without a strike tell.
    """
    gevent.get_hub().exception_stream = None
    striker = Striker(strike)
    points = max(turn(striker, -1)[0] for _ in range(rehearsals))
    bad = [f"{at} {text}" for at in range(1, points + 1, stride) for text in turn(striker, at)[1]]
    print(json.dumps(Struck(points, bad)._asdict()), flush=True)
    os._exit(0)


def struck(module: str, *arguments: str, timeout: float = 600.0) -> Struck:
    """Run `module`, whose main part calls `strike_each`, and return what it found. `timeout` in seconds."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return Struck(**json.loads(ended.stdout))


def _line(code: CodeType, offset: int) -> int:
    found = code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            found = line
    return found
