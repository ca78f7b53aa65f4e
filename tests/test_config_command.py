"""`gmp config`, `gmp secret` and `gmp cert`, run as processes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent.subprocess as subprocess
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmp
from gmp.config import effective
from gmp.configfile import line_of, parse_config

from .gmp_command import Commands


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Commands]:
    commands = Commands(tmp_path)
    yield commands
    commands.close()


SLOW = pytest.mark.slow
FILE = """\
# for everybody
seeds = ["10.0.0.1:4040"]  # the old one

[profile.base]
address_timeout = 3 # slow lines

[profile.worker]
parent = "base"
"""


def test_an_edit_keeps_comments_order_and_mode(command: Commands) -> None:
    command.config.write_text(FILE)
    command.config.chmod(0o640)
    assert command("config", "set", "seeds", "10.0.0.1:4040,10.0.0.2:4040").code == 0
    assert command("config", "set", "-p", "worker", "binds", '["*:0"]').code == 0
    assert command("config", "unset", "-p", "base", "address_timeout").code == 0
    assert command.config.read_text() == FILE.replace(
        '["10.0.0.1:4040"]', '["10.0.0.1:4040", "10.0.0.2:4040"]'
    ).replace("address_timeout = 3 # slow lines\n", "").replace('"base"\n', '"base"\nbinds = ["*:0"]\n')
    assert stat.S_IMODE(command.config.stat().st_mode) == 0o640
    assert os.listdir(command.folder) == ["config.toml"]


def test_profiles_are_added_changed_and_removed(command: Commands) -> None:
    assert command("config", "profile", "add", "base").code == 0
    assert command("config", "profile", "add", "worker", "--parent", "base").code == 0
    assert command("config", "set", "-p", "base", "lost_after", "30").code == 0
    shown = command("config", "show", "worker", "--effective", "--json").json
    assert shown["lost_after"] == {"value": 30.0, "from": "profile 'base'"}
    assert command("config", "profile", "remove", "base").code == 2
    assert "parent" in command("config", "profile", "parent", "base", "worker").err
    assert command("config", "profile", "parent", "worker", "--none").code == 0
    assert command("config", "profile", "remove", "base").code == 0
    assert command("config", "show", "--json").json["profiles"] == {"worker": {}}


def test_the_environment_counts_before_the_file_and_the_table_says_so(command: Commands) -> None:
    command.config.write_text(FILE)
    shown = command("config", "show", "--effective", "--json", GMP_SEEDS="a:1,b:2").json
    assert shown["seeds"] == {"value": ["a:1", "b:2"], "from": "GMP_SEEDS"}
    assert "config file" in command("config", "show", "--effective").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = [\n", "config.toml"),
        ('[profile.a]\nbinds = ["*"]\nhigh_mark = "much"\n', "line 3, profile 'a': high_mark cannot be 'much'"),
        ('[profile.a]\nbind = "*"\n', "line 2, profile 'a': 'bind' is no setting (did you mean 'binds'?); there are"),
        pytest.param('[profile.a]\nparent = "b"\n', "line 2: profile 'a' has the parent 'b', expected one", marks=SLOW),
        pytest.param("profile = 3\n", "line 1: 'profile' must be a table of tables", marks=SLOW),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_line_and_left_as_it_is(
    command: Commands, text: str, said: str
) -> None:
    command.config.write_text(text)
    result = command("config", "set", "seeds", "a:1")
    assert result.code == 2
    assert said in result.err
    assert command.config.read_text() == text


def test_an_unreadable_file_is_never_overwritten(command: Commands) -> None:
    command.config.write_bytes(b"\xff\xfe seeds")
    assert command("config", "set", "seeds", "a:1").code == 2
    assert command.config.read_bytes() == b"\xff\xfe seeds"
    command.config.unlink()
    command.config.mkdir()
    assert command("config", "set", "seeds", "a:1").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "seed", "a:1"), "did you mean 'seeds'?"),
        pytest.param(("set", "max_message", "many"), "expected a whole number over 0", marks=SLOW),
        pytest.param(("set", "binds", '["x:y"]'), "'y' is no TCP port", marks=SLOW),
        (("set", "secret", "x"), "can be seen by others"),
        (("set", "-p", "none", "seeds", "a:1"), "gmp config profile add none"),
        pytest.param(("unset", "seeds"), "is not set", marks=SLOW),
    ],
)
def test_a_wrong_key_or_value_writes_nothing(command: Commands, arguments: tuple[str, ...], said: str) -> None:
    result = command("config", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not command.config.exists()


@pytest.mark.slow
def test_edits_at_once_lose_nothing(command: Commands) -> None:
    keys = ["lost_after", "busy_after", "hung_after", "connect_timeout", "address_timeout"]
    processes = [command.start("config", "set", key, str(50 + place)) for place, key in enumerate(keys)]
    for process in processes:
        process.communicate(timeout=40)
        assert process.returncode == 0
    assert set(command("config", "show", "--json").json["settings"]) == set(keys)


def test_the_secret_is_made_once_shown_on_demand_and_replaced(command: Commands) -> None:
    first = command("secret", "--json").json
    path = command.folder / "secret"
    assert first["from"] == str(path)
    assert "secret" not in first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert command("secret", "--show").out == path.read_text()
    assert command("secret", "--new").code == 0
    assert command("secret", "--json").json["fingerprint"] != first["fingerprint"]
    given = command("secret", GMP_SECRET="geheim")
    assert "GMP_SECRET" in given.out
    assert "geheim" not in given.out
    assert command("secret", "--new", GMP_SECRET="geheim").code == 2
    path.chmod(0o644)
    assert (result := command("secret")).code == 2
    assert "chmod 600" in result.err


def test_no_command_takes_a_secret_as_an_argument(command: Commands) -> None:
    assert command("run", "--secret", "x").code == 2
    assert command("run", "--set", "secret=x").code == 2
    assert command("nodes", "--secret", "x").code == 2


@pytest.mark.slow
def test_certificates_are_made_shown_and_let_nodes_talk(command: Commands) -> None:
    made = command("cert", "new", "seed", "worker/", "--json").json
    assert [Path(path).name for path in made] == ["seed.pem", "worker_.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in command.folder.glob("*.pem")} == {0o600}
    shown = command("cert", "show", made[1], "--json").json
    assert shown[0]["names"] == "worker/ cli/"
    marked = command("cert", "new", "seed2", "--seed", "--json").json
    assert command("cert", "show", marked[0], "--json").json[0]["names"] == "seed2 cli/ gmp#seed"
    _, address = command.node("--node-id", "seed", "--set", f"cert={made[0]}", "--set", "cert_names=true")
    assert command("nodes", "-s", address, GMP_CERT=made[1]).code == 0
    assert command("doctor", "-s", address, GMP_CERT=made[1]).out.count("is valid for") == 3
    result = command("doctor", "-s", address)
    assert result.code == 1
    assert "one side uses TLS and the other does not" in result.out


@pytest.mark.slow
def test_certificates_are_not_replaced_by_accident_and_bad_names_are_told(command: Commands) -> None:
    assert command("cert", "new", "a").code == 0
    assert (result := command("cert", "new", "a")).code == 2
    assert "--force" in result.err
    assert command("cert", "new", "a", "--force").code == 0
    assert command("cert", "new", "a b").code == 2
    (command.folder / "x.pem").write_text("nothing")
    assert command("cert", "show", "x.pem").code == 2
    assert command("cert", "new", "b", "--ca", "x.pem").code == 2


def test_help_is_there_for_every_command_and_needs_nothing_slow(command: Commands) -> None:
    result = command("--help")
    assert result.code == 0
    for name in ("run", "send", "call", "monitor", "spawn", "eval", "nodes", "groups", "family", "trace", "top", "doctor"):
        assert f"\n  {name} " in result.out
    code = (
        "import sys; sys.argv = ['gmp', '--help']\n"
        "from gmp.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(sorted({'rich.console', 'tomlkit', 'cryptography'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=40).stdout.decode()
    assert out.rstrip().endswith("[]")


@given(st.integers(0, 20), st.integers(0, 5), st.sampled_from(["3", '"x"', '["a",\n "b"]', '"""\nlong\n"""']))
@settings(max_examples=50, deadline=None)
def test_the_line_of_a_value_is_where_it_begins(before: int, profiles: int, value: str) -> None:
    text = "# comment\n" * before + "".join(f"[profile.p{n}]\nseeds = []\n\n" for n in range(profiles))
    text += f"[profile.last]\n\nkey = {value}\n[profile.after]\nkey = 1\n"
    found = line_of(text, ("profile", "last", "key"))
    assert text.splitlines()[found - 1].startswith("key = ") or not text.splitlines()[found - 1]
    assert parse_config(Path("x"), text).profiles["after"] == {"key": 1}


def test_what_counts_is_told_with_its_origin_also_for_libraries(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FILE)
    environ = {"GMP_CONFIG": str(file), "GMP_LOST_AFTER": "7"}
    found = effective("worker", environ)
    assert found["address_timeout"] == (3.0, "profile 'base'")
    assert found["lost_after"] == (7.0, "GMP_LOST_AFTER")
    with pytest.raises(gmp.ConfigError, match="GMP_LOST_AFTER"):
        effective(None, {**environ, "GMP_LOST_AFTER": "soon"})
