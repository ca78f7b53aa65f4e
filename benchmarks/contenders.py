"""Who can be measured: gmp, Erlang, and the Python peers that are installed; each with its workloads and its command.

The Python peers live in an environment of their own (``--install`` makes it), so that gmp's has only what gmp needs.
"""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.workloads import SIZES, WORKLOADS

ROOT = Path(__file__).parent.parent
PEERS_ENVIRONMENT = ROOT / "build" / "peers"
PACKAGES = ("zerorpc", "Pyro5", "rpyc", "thespian", "pykka", "pyzmq", "xoscar", "grpcio", "msgpack", "gevent")

_LOCAL = ("W1", "W1 handlers", "W2", "W2 handlers", "W7", "W7 bodies", "W12", "W13")
_ASYNCIO = ("W6 asyncio",)
_START = ("W17",)
_REMOTE = tuple(workload for workload in WORKLOADS if workload not in _LOCAL + _ASYNCIO + _START)
_LARGE = ("W4b", *SIZES)
_TLS = ("W3", "W4", *_LARGE, "W5", "W5@1core", "W6", "W8", "W11")
_TCP = ("W3", "W4", *_LARGE, "W5", "W5@1core", "W6")


class Contender(NamedTuple):
    """Something to be measured. `module` is what it needs installed, in the peers' environment unless it is gmp."""

    name: str
    programs: dict[str, str]  #: workload -> the module that measures it
    module: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    folder: Path = ROOT  #: where its command runs: there are its `benchmarks` and, for gmp, its `gmp`

    @property
    def tls(self) -> bool:
        """Whether it is the same as another one, with TLS."""
        return self.name.endswith(" TLS")

    def command(self, workload: str, python: str) -> list[str]:
        """What to run, in `folder`."""
        return [python if self.module else sys.executable, "-m", self.programs[workload], workload]


def _programs(module: str, workloads: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(workloads, f"benchmarks.{module}")


_GMP = (
    _programs("programs.gmp_local", _LOCAL)
    | _programs("programs.gmp_remote", _REMOTE)
    | _programs("programs.gmp_asyncio", _ASYNCIO)
    | _programs("programs.gmp_start", _START)
)
_ERLANG = (
    *("W1", "W2", "W3", "W4", *_LARGE, "W5", "W5@1core", "W6", "W7", "W8", "W9", "W11", "W12", "W13", "W13 remote"),
)

CONTENDERS = (
    Contender("gmp", _GMP),
    # by default a node talks to one of the same host and user through a Unix socket
    Contender("gmp TCP", _programs("programs.gmp_remote", _TCP), variables=(("GMP_UNIX_SOCKETS", "no"),)),
    Contender("gmp TLS", _programs("programs.gmp_remote", _TLS)),
    Contender("bare", _programs("programs.bare_peer", ("W1", "W2", "W3", "W4", *_LARGE, "W5", "W5@1core", "W6"))),
    Contender("bare TLS", _programs("programs.bare_peer", ("W3", "W4", *_LARGE))),
    Contender("erlang", _programs("erlang.run", _ERLANG)),
    Contender(
        "zerorpc",
        _programs("programs.zerorpc_peer", ("W3", "W4", "W4b", "W5", "W5@1core", "W6", "W8", "W14", "W15")),
        "zerorpc",
    ),
    Contender("Pyro5", _programs("programs.pyro5_peer", ("W3", "W5", "W5@1core", "W6", "W8", "W14", "W15")), "Pyro5"),
    Contender("rpyc", _programs("programs.rpyc_peer", ("W3", "W5", "W5@1core", "W6", "W8", "W14", "W15")), "rpyc"),
    Contender("gRPC", _programs("programs.grpc_peer", ("W5", "W5@1core", "W6", "W8", "W14", "W15", "W16")), "grpc"),
    Contender("thespian", _programs("programs.thespian_peer", ("W1", "W3", "W5", "W5@1core", "W8")), "thespian"),
    Contender("pykka", _programs("programs.pykka_peer", ("W1", "W2", "W7")), "pykka"),
    Contender("pyzmq", _programs("programs.pyzmq_peer", ("W3", "W4", "W4b", "W5", "W5@1core", "W6", "W8")), "zmq"),
    Contender(
        "xoscar", _programs("programs.xoscar_peer", ("W1", "W2", "W3", "W4", "W5", "W5@1core", "W6", "W8")), "xoscar"
    ),
)


def gmp_at(commit: str) -> list[Contender]:
    """gmp as it was at a commit, ``gmp@COMMIT``, without and with TLS, measured by the present programs.

    Its sources go into a folder of their own under ``build/commits``. *Raises:* `SystemExit` when there is no such commit.
    """
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"there is no commit {commit!r} in {ROOT}: expected a hash, a branch or a tag, as in gmp@HEAD")
    whole = found.stdout.strip()
    folder = ROOT / "build" / "commits" / whole
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            command = ["git", "archive", whole, "gmp", "gmp_command.py"]
            archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", made], input=archive.stdout, check=True)
            Path(made, "benchmarks").symlink_to(ROOT / "benchmarks", target_is_directory=True)
            shutil.copytree(made, folder, symlinks=True)
    programs = {each: program for each, program in _GMP.items() if each not in _ASYNCIO or (folder / "gmp" / "aio").exists()}
    return [
        Contender(f"gmp@{commit}", programs, folder=folder),
        Contender(f"gmp@{commit} TLS", _programs("programs.gmp_remote", _TLS), folder=folder),
    ]


def install() -> None:
    """Make the peers' environment. Erlang comes from the system's packages (Debian: ``erlang-base``)."""
    venv.create(PEERS_ENVIRONMENT, with_pip=True)
    subprocess.run([peers_python(), "-m", "pip", "install", "-q", *PACKAGES], check=True)


def peers_python() -> str:
    """The interpreter that has the peers: ``$GMP_BENCH_PYTHON``, else that of `install`, else this one."""
    own = PEERS_ENVIRONMENT / "bin" / "python"
    return os.environ.get("GMP_BENCH_PYTHON") or (str(own) if own.exists() else sys.executable)


def missing(contender: Contender, python: str) -> str:
    """Why it cannot be measured here; "" when it can."""
    if contender.name == "erlang":
        return "" if shutil.which("erl") and shutil.which("erlc") else "erl and erlc are not installed"
    if contender.module:
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({contender.module!r}) is None)"
        if subprocess.run([python, "-c", code], check=False).returncode:
            return f"{contender.module} is not installed for {python} (python -m benchmarks --install)"
    return ""


def make_certificate(folder: Path) -> None:
    """One self-signed certificate with its key, ``node.pem``, that both ends of the runs with TLS share."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError:
        raise SystemExit("--tls needs cryptography: pip install -e '.[bench]'") from None
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gmp")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=30))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    file = folder / "node.pem"
    file.touch(0o600)  # gmp refuses a key that others can read
    file.write_bytes(private + public)
