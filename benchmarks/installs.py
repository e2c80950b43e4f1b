"""The contenders' programs: installed on first use, each apart, below $PMX_BENCH_CACHE or ~/.cache/pmx-bench."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Unavailable(Exception):
    """A contender cannot be installed here; the text says why."""


def cache() -> Path:
    return Path(os.environ.get("PMX_BENCH_CACHE") or Path.home() / ".cache" / "pmx-bench")


def pm2() -> Path:
    """The `pm2` command."""
    if shutil.which("node") is None:
        raise Unavailable("there is no node")
    target = cache() / "pm2"
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(target), "pm2@7"]
    _once(target, "pm2@7", lambda: _run(install, "pm2"))
    return target / "node_modules" / ".bin" / "pm2"


def supervisor() -> Path:
    """The directory of `supervisord` and `supervisorctl`."""
    return _from_pypi("supervisor", "setuptools<81")  # it may import pkg_resources


def circus() -> Path:
    """The directory of `circusd` and `circusctl`."""
    return _from_pypi("circus")


def pmx() -> Path:
    """The `pmx` command of a regular install of this checkout: byte-compiled, as a user has it."""
    target = cache() / f"{_PYTHON}-pmx"
    _once(target, _source_digest(), lambda: _install_checkout(target))
    return target / "bin" / "pmx"


def _from_pypi(package: str, *also: str) -> Path:
    target = cache() / f"{_PYTHON}-{package}"

    def install() -> None:
        _run([sys.executable, "-m", "venv", str(target)], package)
        _run([str(target / "bin" / "pip"), "install", "--quiet", package, *also], package)

    _once(target, " ".join([package, *also]), install)
    return target / "bin"


def _install_checkout(target: Path) -> None:
    pip, wheels = str(target / "bin" / "pip"), target / "wheels"
    if not Path(pip).exists():
        _run([sys.executable, "-m", "venv", str(target)], "pmx")
    shutil.rmtree(wheels, ignore_errors=True)
    _run([pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(CHECKOUT)], "pmx")
    wheel = str(next(wheels.glob("*.whl")))
    _run([pip, "install", "--quiet", wheel], "pmx")  # what it depends on; the wheel itself only when it is new
    _run([pip, "install", "--quiet", "--no-deps", "--force-reinstall", wheel], "pmx")


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in [CHECKOUT / "pyproject.toml", *sorted((CHECKOUT / "pmx").rglob("*.py"))]:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _once(target: Path, wanted: str, install: Callable[[], None]) -> None:
    """Install unless the stamp in `target` says that `wanted` is there already."""
    stamp = target / ".pmx-bench"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing into {target} ...", file=sys.stderr, flush=True)
    target.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    install()
    stamp.write_text(wanted)


def _run(argv: list[str], package: str) -> None:
    try:
        # Not clean_environment(): an installer may need NODE_EXTRA_CA_CERTS to reach the registry.
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{package}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
        raise Unavailable(f"{os.path.basename(argv[0])} for {package}: {said[-1]}")


def wrk() -> str:
    """The `wrk` command, which makes the load. Only root can have it installed, from Debian or Ubuntu."""
    if shutil.which("wrk") is None:
        if os.geteuid() != 0:
            raise Unavailable("wrk: ask root for `apt-get install wrk`")
        _run(["apt-get", "install", "--yes", "wrk"], "wrk")
    return "wrk"


def calls() -> Path:
    """The program of `syscalls`, compiled."""
    source = Path(__file__).parent / "servers" / "calls.c"
    target = cache() / "calls"
    compiler = ["gcc", "-O2", "-o", str(target / "calls"), str(source)]
    _once(target, hashlib.sha256(source.read_bytes()).hexdigest(), lambda: _run(compiler, "calls.c"))
    return target / "calls"


def base_lines() -> dict[str, list[str]]:
    """The least that a command in Python, or in Node, can take: the floor under every figure."""
    return {"python3 -c pass": [str(_bare_python()), "-c", "pass"], "node -e 0": ["node", "-e", "0"]}


def _bare_python() -> Path:
    """A Python with an empty site-packages, as the contenders have: one with .pth files in it may start slowly."""
    target = cache() / f"{_PYTHON}-bare"
    _once(target, "bare", lambda: _run([sys.executable, "-m", "venv", "--without-pip", str(target)], "python3"))
    return target / "bin" / "python3"
