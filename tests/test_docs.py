"""The documentation tells the truth: the tutorial is followed as it stands, and every session in the pages is run."""

from __future__ import annotations

import inspect
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import gmp
import gmp.aio

from .addresses import free_addresses
from .tutorial import follow

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_the_tutorial_can_be_followed_typing_only_what_it_says(tmp_path: Path) -> None:
    page = (DOCS / "tutorial.md").read_text()
    for told, free in zip(("127.0.0.1:4040", "127.0.0.1:4041"), free_addresses(2), strict=True):
        page = page.replace(told, free)
    assert "boss.py" in follow(page, tmp_path)


PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])
OWNERS = {"gmp": [gmp], "node": [gmp.Node, gmp.NodeThread], "port": [gmp.Port]}
OWNERS_OF_TASKS = {"gmp": [gmp], "node": [gmp.aio.Node], "port": [gmp.aio.Port]}  # on the page that is about them


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_every_python_block_compiles_and_names_only_what_there_is(page: Path) -> None:
    text = page.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        compile(block, str(page), "exec")
    named = re.findall(r"(?<![\w./])(gmp|node|port)\.([a-z_]\w*)(?=\()", text)
    owners = OWNERS_OF_TASKS if page.name == "asyncio.md" else OWNERS
    missing = [f"{owner}.{name}" for owner, name in named if not any(hasattr(each, name) for each in owners[owner])]
    assert not missing


@pytest.mark.parametrize("page", ["zerorpc", "pyro5", "rpyc", "nameko"])
def test_the_first_programs_of_others_run_beside_them(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "coming_from" / f"{page}.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        assert "assert" in block
        exec(block, {})


def test_the_tests_that_the_pages_name_are_there() -> None:
    folder = DOCS.parent / "tests"
    text = "".join(path.read_text() for path in (DOCS / "coming_from").glob("*.md"))
    named = set(re.findall(r"`(test_[a-z_]+\.py)`", text)) - {"test_server.py", "test_daemon.py", "test_client.py"}
    assert not [name for name in named if not (folder / name).exists()]


def test_every_page_is_in_a_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    listed = {line.strip() for block in re.findall(r"```{toctree}\n(.*?)```", index, re.S) for line in block.splitlines()}
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*") if path.suffix in (".md", ".rst")}
    missing = [page for page in pages if str(page) not in {*listed, "index"} and f"{page.parent}/*" not in listed]
    assert not missing


def test_the_page_on_the_tests_names_every_file() -> None:
    folder = DOCS.parent / "tests"
    named: list[str] = re.findall(r"`([\w*/]+\.py)`", (folder / "README.md").read_text())
    assert not [path.name for path in folder.glob("test_*.py") if not any(fnmatch(path.name, name) for name in named)]
    assert not [name for name in named if not list(folder.glob(name))]


def listed(owner: str) -> set[str]:
    """The members of `owner` that the reference lists by name."""
    text = (DOCS / "reference.rst").read_text()
    (members,) = re.findall(rf"auto\w+:: {re.escape(owner)}\n   :members: ((?:[\w, ]|\n {{6,}})+)", text)
    return {name.strip() for name in members.split(",")}


def test_the_reference_lists_what_node_shows_and_nothing_else() -> None:
    assert listed("gmp.Node") == {name for name in dir(gmp.Node) if not name.startswith("_")}
    made = gmp.Node("seen", binds=[])
    assert {name for name in vars(made) if not name.startswith("_")} == {"id", "settings"}
    made.close()


@pytest.mark.parametrize("name", gmp.aio.__all__)
def test_the_reference_lists_what_gmp_aio_shows(name: str) -> None:
    shown = getattr(gmp.aio, name)
    if inspect.isclass(shown):
        sent_as = {"sent_as"}  # of what travels as a port
        assert listed(f"gmp.aio.{name}") == {each for each in dir(shown) if not each.startswith("_")} - sent_as
    else:
        assert f"autofunction:: gmp.aio.{name}\n" in (DOCS / "reference.rst").read_text()


def test_the_functions_of_the_module_are_methods_of_node() -> None:
    found = [getattr(gmp, name) for name in gmp.__all__]
    functions = {each.__name__ for each in found if inspect.isfunction(each) and each.__module__ == "gmp.face"}
    assert listed("gmp.face") == functions
    own = {"configure", "node", "node_of", "serve_forever"}  # of the default node, or of no node
    assert functions - own <= set(dir(gmp.Node))
    assert listed("gmp.Port") <= set(dir(gmp.Port))


def test_the_architecture_has_every_file_and_no_other() -> None:
    page = (DOCS / "architecture.md").read_text()
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", page, re.M))
    package = DOCS.parent / "gmp"
    paths = [path for path in package.rglob("*.py") if path.name != "__init__.py" or path.parent == package]
    files = {str(path.relative_to(package)) for path in paths}
    assert listed == files
