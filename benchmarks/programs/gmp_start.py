"""W17: what it costs to start: importing gmp, and all until a first port or another node's first reply; the command's help;
and the memory of a process with an idle node.

Each figure is the median of some fresh processes, with everything compiled. What `import gevent` alone takes is taken off,
but for the help.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

from benchmarks.programs.gmp_settings import settings
from benchmarks.programs.measure import Far, emit, main, scaled

BEGUN = "import time, gevent; gevent.get_hub(); start = time.process_time(); import gmp"
TOLD = "print(time.process_time() - start)"
IMPORTED = f"{BEGUN}; {TOLD}"
MADE_A_PORT = f"{BEGUN}; gmp.port(); {TOLD}"
ASKED = f"{BEGUN}; gmp.configure(binds=[], seeds=[{{bind!r}}], **{{settings!r}}); gmp.call({{port!r}}, 'add', 1, 1); {TOLD}"
HELPED = "import sys, gmp_command; sys.argv = ['gmp', '--help']; gmp_command.main()"
GEVENT = "import gevent; gevent.sleep(0.2)"
IDLE = "import gmp; gmp.configure(binds=['127.0.0.1:0'], seeds=[], secret='measured'); import gevent; gevent.sleep(0.2)"
RESIDENT = "import os; print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))"


# so that the first process compiles for the others what was never run
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def printed(code: str) -> float:
    """What a fresh process prints."""
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=ENVIRONMENT).stdout)


def processor_time(code: str) -> float:
    """Seconds of processor time of a whole fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)  # `os.times` counts in steps of 10 ms
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starting() -> None:
    """All figures."""
    times = range(scaled(11, 2))
    for code in (IMPORTED, f"{IDLE}; print(0)"):
        printed(code)
    processor_time(HELPED)
    emit("import ms", 1e3 * statistics.median(printed(IMPORTED) for _ in times))
    emit("first port ms", 1e3 * statistics.median(printed(MADE_A_PORT) for _ in times))
    with Far("gmp_far") as far:
        asked = ASKED.format(bind=far.ready["bind"], port=far.ready["calculator"], settings=settings())
        printed(asked)
        emit("first reply ms", 1e3 * statistics.median(printed(asked) for _ in times))
    emit("help ms", 1e3 * statistics.median(processor_time(HELPED) for _ in times))
    idle = statistics.median(printed(f"{IDLE}; {RESIDENT}") for _ in times)
    emit("idle MB", (idle - statistics.median(printed(f"{GEVENT}; {RESIDENT}") for _ in times)) / 1e6)


if __name__ == "__main__":
    main({"W17": starting})
