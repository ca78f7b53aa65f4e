"""The one clock: everything in gmp that asks for the time asks here, as ``clock.monotonic()``.

The names are looked up in this module each time, never imported from it, so that another clock can stand in their place.
They are the system's own functions: a call costs what a call of `time` costs.
"""

from __future__ import annotations

import time as _time
from collections.abc import Callable

monotonic: Callable[[], float] = _time.monotonic  #: seconds since some moment; never goes back
time: Callable[[], float] = _time.time  #: seconds since 1970; jumps when somebody sets the clock
time_ns: Callable[[], int] = _time.time_ns  #: the same in nanoseconds
