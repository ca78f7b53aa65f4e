"""The table of the family in the documentation: complete, true, and each row with a test or a reason."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gmp.compat import aemp, configuring

from .real_perl import missing

PAGE = Path(__file__).parent.parent / "docs" / "coming_from" / "anyevent_mp.md"
EXPORTED = {
    "AnyEvent::MP": """
        NODE $NODE configure node_of port_is_local snd kil db_set db_del db_mon db_family db_keys db_values *SELF port rcv
        mon mon_guard psub peval spawn cal db_reg after""",
    "AnyEvent::MP::Kernel": """
        snd_to_func snd_on eval_on up_nodes mon_nodes node_is_up %NODE %PORT %PORT_DATA $UNIQ $RUNIQ $ID add_node load_func
        $SRCNODE""",
    "AnyEvent::MP::Global, LogCatcher, DataConn": """
        grp_reg grp_get grp_mon AnyEvent::MP::LogCatcher::catch AnyEvent::MP::DataConn::connect_to""",
    "Coro::MP": "port_async rcv_async get get_cond syncal peval_async",
}
PYTHONS_OWN = {"guard", "spawnable"}


def rows(section: str) -> list[list[str]]:
    """The rows of the table under that heading, without its head."""
    text = PAGE.read_text().split(f"### {section}\n")[1].split("\n#")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def names(cell: str) -> set[str]:
    """The names that a cell's code begins with."""
    return {code.split("(")[0].split()[0].strip(",;") for code in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("module", EXPORTED)
def test_every_name_that_a_module_exports_has_a_row(module: str) -> None:
    named = {name for perl, *_ in rows(module) for name in re.findall(r"[$%*]?[\w:]+", perl)}
    assert not set(EXPORTED[module].split()) - named


@pytest.mark.parametrize("module", ["AnyEvent::MP", "AnyEvent::MP::Kernel", "AnyEvent::MP::Global"])
def test_the_names_are_those_that_perls_modules_export(module: str) -> None:
    if missing():
        pytest.skip(f"no nodes of AnyEvent::MP here: {missing()}")
    code = f"print join ' ', @{module}::EXPORT, @{module}::EXPORT_OK"
    command = ["perl", "-I", os.environ["GMP_PERL_LIB"], "-MAnyEvent::MP::Global", "-e", code]
    exported = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert exported
    assert exported <= {name for names in EXPORTED.values() for name in names.split()}


@pytest.mark.parametrize("module", EXPORTED)
def test_every_row_has_a_name_and_a_test_that_exist_or_a_reason(module: str) -> None:
    tests = "\n".join(path.read_text() for path in PAGE.parents[2].glob("tests/test_aemp*.py"))
    for row in rows(module):
        perl, meaning, ours, *test = row
        assert meaning, perl
        if ours.startswith("none: "):
            assert len(ours) > 20, perl
            continue
        (name,) = names(test[0])
        assert f"def {name}(" in tests, perl
        python = {name.removeprefix("aemp.") for name in names(ours)}
        if not ours.startswith("so it does"):
            assert any(hasattr(aemp, name) for name in python), perl


def test_every_name_of_the_module_is_in_the_table() -> None:
    text = " ".join(ours for module in EXPORTED for _, _, ours, *_ in rows(module))
    named = set(re.findall(r"\w+", text))
    assert not {*aemp.__all__, *(function.__name__ for function in aemp.EXPORT_OK)} - named
    assert set(aemp.__all__) - PYTHONS_OWN <= {
        name for module in EXPORTED for perl, *_ in rows(module) for name in re.findall(r"\w+", perl)
    }


def test_everything_exported_exists_and_is_sorted() -> None:
    assert all(callable(getattr(aemp, name)) for name in aemp.__all__)
    assert aemp.__all__ == sorted(aemp.__all__)
    assert not set(aemp.__all__) & {function.__name__ for function in aemp.EXPORT_OK}


def test_every_setting_in_the_table_is_one() -> None:
    told = {name for perl, _ in rows("The settings of `configure`") for name in re.findall(r"`(\w+)`", perl)}
    known = {*configuring._TRANSLATED, *configuring._REFUSED, "profile", "norc", "binds", "secret", "cert"}
    assert told == known
