"""
Build all wheels that this machine can: the pure one, the one with the native kernels, and for
each supported CPython that is found one that mypyc has compiled. Each is looked into, installed
into an environment of its own, and asked what it uses::

    python -m tests.packaging.wheels --out dist
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zipfile
from pathlib import Path

from tests.packaging.test_packaging import build, environment, pip, run, source, supported

_IN_USE = "from twisted_rudp import kernels as k; print(k.IMPLEMENTATION, k.COMPILED)"


_COMPILE_SECONDS = 3600
"""How long mypyc and the C compiler may take."""


class WrongWheel(Exception):
    """A wheel's name does not say what is inside."""


def compiled(program: str, out: Path) -> Path:
    """What mypyc makes for one Python."""
    run(
        sys.executable, "-m", "pip", "--python", environment(program) / "bin" / "python", "-q",
        "wheel", "--no-deps", "-w", out, source(), TWISTED_RUDP_COMPILE="1",
        seconds=_COMPILE_SECONDS,
    )  # fmt: skip
    [wheel] = out.glob("*.whl")
    return wheel


def check_tag(wheel: Path, tag: str, modules: str) -> None:
    """
    See whether a wheel is named after what is inside.

    @param tag: of Python and its interface.
    @param modules: how the names of compiled modules end; C{""}: there are none.
    """
    with zipfile.ZipFile(wheel) as contents:
        names = contents.namelist()
        (about,) = (name for name in names if name.endswith("/WHEEL"))
        said = contents.read(about).decode()
    binaries = [name for name in names if name.endswith(".so")]
    others = [name for name in binaries if "/kernels/_native" not in name]
    if f"-{tag}-" not in wheel.name or f"Tag: {tag}-" not in said:
        raise WrongWheel(f"{wheel.name} has another tag than {tag}")
    if bool(others) != bool(modules) or not all(modules in name for name in others):
        raise WrongWheel(f"{wheel.name} has {others}")


def check_use(wheel: Path, program: str, expected: str) -> None:
    """Install a wheel, and ask it what it uses."""
    folder = environment(program)
    pip(folder, "install", "-q", wheel)
    used = run(folder / "bin" / "python", "-c", _IN_USE).strip()
    if used != expected:
        raise WrongWheel(f"{wheel.name} uses {used}, not {expected}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {used}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--only", nargs="*", help="versions to compile for, such as 3.12")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = supported()
    first = found[min(found)]
    pure = build("wheel", TWISTED_RUDP_NO_EXTENSION="1")
    check_tag(pure, "py3-none", "")
    check_use(pure, first, "pure False")
    native = build("wheel")
    check_tag(native, "cp311-abi3", "")
    check_use(native, first, "native False")
    wheels = [pure, native]
    for (major, minor), program in sorted(found.items()):
        if options.only is not None and f"{major}.{minor}" not in options.only:
            continue
        tag = f"cp{major}{minor}"
        wheel = compiled(program, Path(build("wheel")).parent / tag)
        check_tag(wheel, f"{tag}-{tag}", f".cpython-{major}{minor}-")
        check_use(wheel, program, "native True")
        wheels.append(wheel)
    for wheel in wheels:
        shutil.copy(wheel, options.out)


if __name__ == "__main__":
    main()
