"""Files with a secret or private key: refused when others may read or alter them; and nothing shows what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import gmp
from gmp.config import load_settings

from .certificates import self_signed

PEM = self_signed()
ME = os.geteuid()
SOMEBODY = 12_345
needs_root = pytest.mark.skipif(ME != 0, reason="only root can give files away")


@pytest.fixture(params=["secret file", "config file", "profile", "config file with a key", "certificate"])
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A function that loads settings that come from a file, with that file as `path`."""
    config, environ = tmp_path / "config.toml", {"GMP_CONFIG": str(tmp_path / "config.toml")}
    texts = {
        "secret file": (tmp_path / "secret", "geheim\n"),
        "config file": (config, 'secret = "geheim"\n'),
        "profile": (config, '[profile.other]\nsecret = "geheim"\n'),
        "config file with a key": (config, f'cert = """{PEM}"""\n'),
        "certificate": (tmp_path / "own.pem", PEM),
    }
    path, text = texts[request.param]
    path.write_text(text)
    path.chmod(0o600)
    arguments = {"cert": str(path)} if request.param == "certificate" else {}

    def loaded() -> gmp.config.Settings:
        return load_settings(None, arguments, environ)

    loaded.path = path  # type: ignore[attr-defined]
    return loaded


def test_a_file_of_the_user_alone_is_used(load: Any) -> None:
    for mode in (0o600, 0o400):
        load.path.chmod(mode)
        load()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o660, 0o601])
def test_a_file_that_others_may_read_or_write_is_refused_with_its_path_and_what_to_do(load: Any, mode: int) -> None:
    load.path.chmod(mode)
    with pytest.raises(gmp.ConfigError, match=f"{load.path}.*{mode:04o}.*chmod 600.*or ") as caught:
        load()
    assert "geheim" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


@needs_root
@pytest.mark.parametrize("user", [0, 1000])
def test_a_file_of_another_user_is_refused(load: Any, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    os.chown(load.path, SOMEBODY, SOMEBODY)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(gmp.ConfigError, match=f"{load.path}.*user {SOMEBODY}.*expected {user}.*chown"):
        load()


@needs_root
@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_file_of_root_may_be_readable_by_a_group(load: Any, monkeypatch: pytest.MonkeyPatch, user: int, mode: int) -> None:
    """So a Kubernetes volume with fsGroup, and systemd's credentials, whoever runs the node."""
    os.chown(load.path, 0, SOMEBODY)
    load.path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    load()


@needs_root
def test_a_group_may_not_read_a_file_of_a_user(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(load.path, SOMEBODY, SOMEBODY)
    load.path.chmod(0o640)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(gmp.ConfigError, match="0640"):
        load()


def test_a_file_without_a_secret_may_be_read_by_everybody(tmp_path: Path) -> None:
    config, cert = tmp_path / "config.toml", tmp_path / "ca.pem"
    certificate = PEM[PEM.index("-----BEGIN CERTIFICATE") :].partition("-----BEGIN PRIVATE")[0]
    cert.write_text(certificate)
    config.write_text(f'seeds = ["10.0.0.1:4040"]\ncert = "{cert}"\n')
    for path in (config, cert):
        path.chmod(0o644)
    assert load_settings(None, {}, {"GMP_CONFIG": str(config)}).cert == certificate


def test_settings_do_not_show_secret_and_key() -> None:
    settings = load_settings(None, {"secret": "geheim", "cert": PEM}, {"GMP_CONFIG": "/nowhere/c.toml"})
    for text in (repr(settings), str(settings), f"{settings!r}"):
        assert "geheim" not in text
        assert PEM.splitlines()[5] not in text
        assert "secret=<hidden>" in text
        assert "cert=<hidden>" in text
        assert "high_mark=1048576" in text
    assert "secret=None" in repr(gmp.config.Settings())
