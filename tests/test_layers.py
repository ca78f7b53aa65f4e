"""A folder is a layer, and imports point down only."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import gmp
from gmp.later import LATER

ROOT = Path(gmp.__file__).parent
GROUND = {
    "characters", "durations", "errors", "ids", "config", "configfile", "later", "outside", "peerlog", "secretfile",
    "servicelist", "showing", "version",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "ground": {"ground"},
    "ports": {"ground", "ports"},
    "wire": {"ground", "wire"},
    "net": {"ground", "wire", "net"},
    "mesh": {"ground", "mesh"},
    "lan": {"ground", "lan"},
    "kernel": {"ground", "ports", "wire", "net", "mesh", "lan", "kernel"},
    "objects": {"ground", "ports", "mesh", "kernel", "objects"},
    "face": {"ground", "ports", "mesh", "kernel", "objects", "face"},
    "aio": {"ground", "ports", "kernel", "face", "aio"},
    "programs": {"face", "lan", "programs"},
}
SETTINGS = {"gmp.config", "gmp.configfile", "gmp.secretfile"}  # of the ground, what the command line edits and shows
REQUESTS = "gmp.wire.requests"  # what nodes ask each other: names, which each layer above may use
OUTSIDE = "gmp.outside"  # the time and chance
MACHINE = "gmp.net.machine"  # in whose place a simulated one stands
MOST_LINES, MOST_LINES_OF_NODE, MOST_LINES_OF_A_FUNCTION = 450, 620, 60
LONG = {"net/outbox.py"}  # it stays whole: nothing in it is a thing of its own
LONG_FUNCTIONS = {"face.py send"}  # whose usual cases call nothing
FORBIDDEN_IN_WIRE = {"gevent", "socket", "time", "random", "logging", "greenlet", "ssl", "_socket"}


def layer_of(module: str) -> str:
    first = module.split(".")[1] if "." in module else ""
    if first in GROUND:
        return "ground"
    if first in ("", "face", "exposing"):
        return "face"
    return first if first in MAY_IMPORT else "programs"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """The modules a file imports, and whether inside a function."""
    tree = parsed(path)
    top = {id(node) for node in ast.walk(tree)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            top -= {id(node) for node in ast.walk(function)}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) not in top))
        elif isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in top) for alias in node.names]
    return found


def files() -> list[tuple[Path, str]]:
    result = []
    for path in sorted(ROOT.rglob("*.py")):
        module = "gmp." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        result.append((path, module.removesuffix(".__init__").removesuffix("__init__").rstrip(".")))
    return result


def test_every_folder_is_a_known_layer() -> None:
    assert {layer_of(module) for _, module in files()} == set(MAY_IMPORT)


def test_a_layer_imports_only_what_is_below_it() -> None:
    wrong = [
        f"{module} imports {imported}"
        for path, module in files()
        for imported, _ in imports(path)
        if imported.split(".")[0] == "gmp" and layer_of(imported) not in MAY_IMPORT[layer_of(module)]
        and not (module.startswith("gmp.cli") and imported in SETTINGS)
        and not (layer_of(module) == "programs" and imported in ("gmp.showing", "gmp.durations", "gmp.later"))
        and not (layer_of(module) in ("mesh", "objects", "programs") and imported == REQUESTS)
        and not (layer_of(module) == "programs" and imported == OUTSIDE)
        and not (module.startswith("gmp.testing.simulated.") and imported in (MACHINE, "gmp.net"))
    ]
    assert not wrong


def test_imports_inside_functions_are_for_the_command_line_alone() -> None:
    wrong = [
        f"{module}: {imported}"
        for path, module in files()
        for imported, inside in imports(path)
        if inside and not module.startswith("gmp.cli")
    ]
    assert not wrong


def imported_later(path: Path) -> list[tuple[str, str]]:
    """The name and the module of each ``NAME = later("MODULE")`` at the top of a file."""
    found: list[tuple[str, str]] = []
    blocks = [node for node in parsed(path).body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for statement in (each for block in blocks for each in block.orelse if isinstance(each, ast.Assign)):
        target, value = statement.targets[0], statement.value
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        calls = value.elts if isinstance(value, ast.Tuple) else [value]
        for name, call in zip(names, calls, strict=True):
            assert isinstance(call, ast.Call), f"{path}: {ast.unparse(statement)}"
            assert ast.unparse(call.func) == "later", f"{path}: {ast.unparse(statement)}"
            found.append((ast.unparse(name), ast.literal_eval(call.args[0])))
    return found


def told_to_type_checkers(path: Path) -> dict[str, str]:
    """The modules that a file imports for type checkers alone, by the names that they have there."""
    found: dict[str, str] = {}
    for block in parsed(path).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.Import):
                    found |= {alias.asname or alias.name: alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_is_imported_later_is_told_to_type_checkers_too() -> None:
    """So that it is seen by mypy, and as an import like any other by the tests of the layers above."""
    pairs = {path: imported_later(path) for path, _ in files()}
    wrong = [
        f"{path}: {name} = later({module!r})"
        for path, found in pairs.items()
        for name, module in found
        if told_to_type_checkers(path).get(name) != module
    ]
    assert not wrong
    calls = [
        node
        for path, _ in files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "later"
    ]
    assert len(calls) == sum(map(len, pairs.values()))  # and there are no others


def test_the_table_of_what_is_imported_later_is_exact() -> None:
    used = {module for path, _ in files() for _, module in imported_later(path)}
    assert LATER.keys() == used
    assert list(LATER) == sorted(LATER)


def test_the_wire_knows_bytes_only() -> None:
    wrong = [
        f"{module} imports {imported}"
        for path, module in files()
        if layer_of(module) == "wire"
        for imported, _ in imports(path)
        if imported.split(".")[0] in FORBIDDEN_IN_WIRE or imported.startswith(OUTSIDE)
    ]
    assert not wrong


def test_the_library_never_patches() -> None:
    assert not [module for path, module in files() for imported, _ in imports(path) if imported == "gevent.monkey"]


def test_everything_exported_exists() -> None:
    assert all(hasattr(gmp, name) for name in gmp.__all__)
    assert gmp.__all__ == sorted(gmp.__all__)


def imported_modules() -> dict[str, set[str]]:
    """What each module of gmp imports of gmp, also for types alone, and inside functions."""
    paths = {module: path for path, module in files()}
    found: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    names.add(inner if inner in paths else node.module)
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
        found[module] = names & paths.keys() - {module}
    return found


def reached(modules: dict[str, set[str]], start: str) -> set[str]:
    """The modules that importing `start` imports, directly or not; `start` too if it is in a circle."""
    found: set[str] = set()
    waiting = [*modules[start]]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += modules[module]
    return found


def test_no_circle_of_imports_those_for_types_included() -> None:
    modules = imported_modules()
    assert "gmp.ports.home" in modules["gmp.ports.port"]  # it does see them
    assert not {module for module in modules if module in reached(modules, module)}


def test_no_file_is_too_long_to_be_read_at_one_sitting() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path, _ in files()}
    most = {"kernel/node.py": MOST_LINES_OF_NODE}
    too_long = {name: length for name, length in lengths.items() if length > most.get(name, MOST_LINES)}
    assert too_long.keys() <= LONG, too_long


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{path.relative_to(ROOT).as_posix()} {node.name}": length
        for path, _ in files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and (length := node.end_lineno - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    }
    assert too_long.keys() <= LONG_FUNCTIONS, too_long
