"""What is installed: the package's names, and another project's package of the same name in its place."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gevent
import pytest

import gmp
import gmp_command

from .gmp_command import GMP

PACKAGE = Path(gmp.__file__).parent
ROOT = Path(__file__).parent.parent
#: what programs import by a name of its own
MODULES = ("testing", "repl", "compat.aemp", "services.gunicorn")


def settings() -> configparser.ConfigParser:
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


@pytest.fixture(params=["replaced", "removed"])
def clash(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of all packages in which another project's `gmp` was installed after ours, or was removed after that."""
    shutil.copytree(PACKAGE, tmp_path / "gmp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(gmp_command.__file__, tmp_path)
    for package in Path(gevent.__file__).parent.parent.iterdir():
        if not (tmp_path / package.name).exists():
            (tmp_path / package.name).symlink_to(package)
    if request.param == "replaced":
        (tmp_path / "gmp" / "__init__.py").write_text('"""Numbers."""\n\nPRIMES = [2, 3, 5]\n')
    else:
        (tmp_path / "gmp" / "__init__.py").unlink()
    return tmp_path


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Python with the packages of `folder` and no others."""
    return subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )


def own_path(clash: Path) -> Path:
    return next(iter((clash / "gmp").glob("__init__.py")), clash / "gmp")


def test_another_projects_gmp_in_the_place_of_ours_is_told_by_the_command(clash: Path) -> None:
    ended = run(clash, "import gmp_command; gmp_command.main()")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"gmp: {own_path(clash)} is not gevent-mp's:")
    assert "pip uninstall gmp" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("module", MODULES)
def test_another_projects_gmp_in_the_place_of_ours_is_told_by_what_is_imported(clash: Path, module: str) -> None:
    ended = run(clash, f"import gmp.{module}")
    assert f"ImportError: {own_path(clash)} is not gevent-mp's:" in ended.stderr


def test_doctor_tells_of_another_projects_gmp_beside_ours(tmp_path: Path) -> None:
    told = tmp_path / "gmp-0.0.17.dist-info" / "METADATA"
    told.parent.mkdir()
    told.write_text("Metadata-Version: 2.1\nName: gmp\nVersion: 0.0.17\n")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}", "GMP_CONFIG": str(tmp_path / "config.toml")}
    ended = subprocess.run([GMP, "doctor"], capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert "the project gmp 0.0.17 is installed too" in ended.stdout
    assert "pip uninstall gmp" in ended.stdout


@pytest.mark.parametrize("told", ["", "_is_owned = lambda self: True", "_is_owned = lambda self: False"])
def test_a_python_whose_locks_do_not_tell_who_holds_them_is_refused_at_import(told: str) -> None:
    program = f"""
import _thread, logging, threading, gevent
class Lock:
    {told or "pass"}
    __enter__ = __exit__ = lambda self, *_: None
_thread.RLock = Lock
import gmp
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert ended.returncode == 1
    assert re.search(r"ImportError: gmp cannot run on Python 3\.\d+.*: expected _thread\.RLock\(\)\._is_owned", ended.stderr)


def test_every_extra_that_is_told_of_is_there_and_is_of_this_project() -> None:
    """`pip install gmp[cli]` would install another project's package over this one."""
    extras = set(settings()["options.extras_require"])
    told: set[str] = set()
    pages = [ROOT / "README.md", *(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))]
    for path in [*PACKAGE.rglob("*.py"), *pages]:
        text = path.read_text()
        assert not re.search(r"(?<![-/\w])gmp\[[a-z]+(,[a-z]+)*\]", text), f"{path} tells of the other project"
        for names in re.findall(r"(?:gevent-mp|'\.|\.\./\.\.)\[([a-z,]+)\]", text):
            told.update(names.split(","))
        told.update(re.findall(r"\(extra `+([a-z]+)`+\)", text))
    assert told
    assert told <= extras


def test_each_requirement_stands_once_with_a_lowest_release() -> None:
    read = settings()
    groups = {"": read["options"]["install_requires"], **read["options.extras_require"]}
    tools = {"types-gevent", "build", "twine"}  # any release will do
    named: list[str] = []
    for lines in groups.values():
        for line in filter(None, lines.splitlines()):
            name = re.split(r"[\[>]", line)[0]
            if name == "gevent-mp":
                assert set(re.findall(r"\w+", line.partition("[")[2])) <= set(groups), line
            else:
                named.append(name)
                assert name in tools or re.search(r">=\d+(\.\d+)+$", line), f"{line}: from which release on?"
    assert len(named) == len(set(named)), sorted(named)


PROGRAM = """
import gmp
from gmp.testing import LocalNetwork

node = gmp.configure(binds=["127.0.0.1:0"])


@gmp.port
def echo(port: gmp.Port) -> None:
    for text, reply in port:
        gmp.send(reply, text)


members: int = gmp.group("echo").wait()
gmp.configure(seeds=4040)
answer = gmp.call(echo, "hello", timeout=1.0)
with LocalNetwork() as network:
    reveal_type(network)
reveal_type(answer)
"""


@pytest.mark.skipif(PACKAGE.parent.name != "site-packages", reason="gmp runs from its clone: .ci/package installs the wheel")
def test_mypy_sees_the_types_of_the_installed_package(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="needs mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path).stdout
    told = [f"{kind}: {text}" for kind, text in re.findall(r"^program.py:\d+: (\w+): (.*)$", found, re.MULTILINE)]
    members, seeds, network, answer = told
    assert members.startswith("error: Incompatible types in assignment"), found
    assert seeds.startswith('error: Argument "seeds" to "configure" has incompatible type "int"'), found
    assert network == 'note: Revealed type is "gmp.testing.local_network.LocalNetwork"'
    assert answer == 'note: Revealed type is "tuple[Any, ...]"'
