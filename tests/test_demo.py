"""`gmp demo`, run as a user would."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import gevent
import gevent.subprocess as subprocess
import pytest

from .gmp_command import processes_of_session


def words_below(folder: Path, files: int) -> Path:
    rng = random.Random(7)
    folder.mkdir()
    for number in range(files):
        text = " ".join(rng.choice(["alpha", "beta", "Gamma", "delta's"]) for _ in range(400))
        (folder / f"{number}.txt").write_text(text)
    return folder


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gmp.cli.main", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_the_demo_counts_right_although_a_worker_is_killed(tmp_path: Path) -> None:
    with start(str(words_below(tmp_path / "texts", 60))) as process:
        out, err = process.communicate(timeout=50)
    text = out.decode()
    assert process.returncode == 0, text + err.decode()
    assert "The totals equal" in text
    assert "killed with SIGKILL" in text
    assert "demo-worker-5" in text  # the one that took the place of the killed one
    assert not processes_of_session(process.pid)


def test_the_demo_names_a_path_that_is_not_there(tmp_path: Path) -> None:
    with start(str(tmp_path / "nowhere")) as process:
        _, err = process.communicate(timeout=50)
    assert process.returncode == 2
    assert "nowhere" in err.decode()


def test_the_demo_says_so_when_there_is_no_text(tmp_path: Path) -> None:
    with start(str(tmp_path)) as process:
        _, err = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "no text file" in err.decode()


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    with start() as process:
        with gevent.Timeout(30):
            while len(processes_of_session(process.pid)) < 6:
                gevent.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err.decode()
    assert not processes_of_session(process.pid)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_is_right_ten_times_in_a_row_on_the_standard_library() -> None:
    for _ in range(10):
        with start() as process:
            out, err = process.communicate(timeout=55)
        assert process.returncode == 0, out.decode() + err.decode()
