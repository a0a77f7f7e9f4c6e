"""
What users get: wheel and sdist, installed into a fresh virtual environment (PLG-8), and
one wheel on every Python that we support.

The dependencies come from pip. Where it cannot have them these tests are
skipped with the reason; in CI they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interpreter import CHECKOUT

_INSTALL_SECONDS = 600

_TRY = """
import sys
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import Clock
print(serverFromString(Clock(), "kcp:port=0"))
print(clientFromString(Clock(), "kcp:127.0.0.1:4000"))
import twisted_rudp.kernels
print(twisted_rudp.kernels.IMPLEMENTATION)
assert "site-packages" in twisted_rudp.__file__, twisted_rudp.__file__
"""


KERNEL_TESTS = ("tests.kernels", "tests.net.udp.test_batching")
"""What of the suite calls the native functions."""

KERNEL_REQUIREMENTS = ("Twisted", "PyNaCl", "hypothesis", "setuptools>=65", "wheel")
"""What those import, and what builds."""


_KERNELS = "from twisted_rudp import kernels as k; print(k.IMPLEMENTATION, k.__file__)"


def run(*arguments: object, seconds: float = _INSTALL_SECONDS, **more: str) -> str:
    """
    Run a program that sees nothing of the checkout.

    @param seconds: how long it may take.
    @return: what it printed on standard output.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "TWISTED_RUDP_PURE", "VIRTUAL_ENV")
    }
    result = subprocess.run(
        [str(argument) for argument in arguments],
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more},
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    if result.returncode != 0:
        raise CommandFailed(f"{arguments} failed:\n{result.stdout}\n{result.stderr}")
    return result.stdout


def contents(wheel: Path) -> list[str]:
    """The names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def modules(wheel: Path) -> list[str]:
    """Those that are not about the wheel itself, which tools of other versions name otherwise."""
    return [name for name in contents(wheel) if ".dist-info/" not in name]


class CommandFailed(Exception):
    """A program ended with an error; the text has its output."""


@contextmanager
def network() -> Iterator[None]:
    """Steps that need pip to reach the packages we depend on."""
    try:
        yield
    except CommandFailed as error:
        unreachable = re.search(
            r"No matching distribution|Connection|Temporary failure|Network is unreachable",
            str(error),
        )
        if unreachable and os.environ.get("CI") != "true":
            raise SkipTest(f"pip cannot get the dependencies: {unreachable[0]}") from None
        raise


@cache
def workplace() -> Path:
    """A folder for all tests of this module, gone with the process."""
    folder = tempfile.TemporaryDirectory(prefix="rudp-packaging-")
    _folders.append(folder)
    return Path(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def source() -> Path:
    """
    A copy of what version control has, so that building leaves no trace in the
    checkout and finds none of an earlier build.
    """
    copy = Path(tempfile.mkdtemp(dir=workplace())) / "source"
    shutil.copytree(
        CHECKOUT,
        copy,
        ignore=shutil.ignore_patterns(
            ".git", ".venv*", "_build", "build", "dist", "*.egg-info", "*.so", "_trial_temp*",
            ".hypothesis", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache",
            "dropin.cache*",
        ),
    )  # fmt: skip
    (copy / "twisted" / "plugins" / "dropin.cache").write_bytes(b"stale")
    return copy


@cache
def build(kind: str, **more: str) -> Path:
    """
    Build with the tools of this environment, once what is asked for again.

    @param kind: C{"wheel"} or C{"sdist"}.
    """
    out = Path(tempfile.mkdtemp(dir=workplace()))
    run(
        sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source(),
        **more,
    )  # fmt: skip
    [built] = out.iterdir()
    return built


@cache
def wheelhouse() -> Path:
    """Everything we depend on and are built with, fetched once."""
    folder = workplace() / "wheelhouse"
    with network():
        run(sys.executable, "-m", "pip", "wheel", "-q", "-w", folder, *requirements())
    return folder


def requirements() -> list[str]:
    """What C{setup.cfg} says we depend on, and what builds us."""
    config = ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["install_requires"].strip().splitlines()
    return [*(line.replace(" ", "") for line in listed), "setuptools>=65", "wheel"]


@cache
def fresh() -> Path:
    """
    A virtual environment in which nothing was installed at first. Each test installs
    one of our packages, finds what it asks for there or has it installed, and removes it.
    """
    return environment(sys.executable)


def environment(program: str) -> Path:
    """A new virtual environment of a Python. It has no pip: ours reaches into it."""
    folder = Path(tempfile.mkdtemp(dir=workplace())) / "environment"
    run(program, "-m", "venv", "--without-pip", folder)
    return folder


def pip(folder: Path, *arguments: object) -> None:
    """Have pip do something in a virtual environment."""
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "-q", *arguments)


def installed(package: Path) -> Path:
    """The fresh virtual environment with one of our packages and what it asks for."""
    pip(
        fresh(), "install", "--no-compile", "--no-index", "--find-links", wheelhouse(), package
    )
    return fresh()


def supported() -> dict[tuple[int, int], str]:
    """The Pythons of this machine that C{setup.cfg} names, by version."""
    config = ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    found: dict[tuple[int, int], str] = {}
    for minor in re.findall(r"Python :: 3\.(\d+)", config["metadata"]["classifiers"]):
        name = f"python3.{minor}"
        beside = Path.home().glob(f".pyenv/versions/*/bin/{name}")
        for program in filter(None, [shutil.which(name), *map(str, beside)]):
            try:
                run(program, "-c", "import ensurepip, venv")
            except CommandFailed:
                continue
            found[3, int(minor)] = program
    return found


class PackagesTests(SynchronousTestCase):
    """
    Wheel and sdist, and the wheel installed into an environment that has nothing else.

    The steps are one test: what one builds the next uses, and the tests of a suite on
    several cores are in as many processes.
    """

    def test_packages(self) -> None:
        """The files have what they should, and are what users can install."""
        wheel, sdist = build("wheel"), build("sdist")
        pure = build("wheel", TWISTED_RUDP_NO_EXTENSION="1")
        compiled = self.checkWheel(wheel)
        self.checkSdist(sdist)
        # On purpose without the extension, it is a wheel for every platform (PLG-9).
        self.assertTrue(pure.name.endswith("-py3-none-any.whl"), pure.name)

        self.checkInstalled(installed(wheel), "native" if compiled else "pure")
        # The commands are the same.
        self.assertEqual(self.used(installed(pure)), "pure")
        # What an installer builds of the sdist is what was tried out.
        again = Path(tempfile.mkdtemp(dir=workplace()))
        pip(fresh(), "wheel", "--no-index", "--find-links", wheelhouse(), "--no-deps",
            "-w", again, sdist)  # fmt: skip
        (built,) = again.iterdir()
        self.assertEqual(built.name, wheel.name)
        self.assertEqual(modules(built), modules(wheel))

    def checkWheel(self, wheel: Path) -> bool:
        """
        The plugin is in it and nothing else below C{twisted/} (PLG-1, PLG-4);
        C{py.typed} is, tests and the built source are not. With the extension it is for
        this kind of machine and every supported Python.

        @return: the extension is in it.
        """
        names = contents(wheel)
        self.assertEqual(
            [name for name in names if name.startswith("twisted/")],
            ["twisted/plugins/twisted_rudp_plugin.py"],
        )
        self.assertIn("twisted_rudp/py.typed", names)
        self.assertEqual([name for name in names if name.startswith(("tests", "docs"))], [])
        compiled = [name for name in names if name.endswith(".so")]
        if compiled:
            self.assertIn("-cp311-abi3-", wheel.name)
            self.assertTrue(compiled[0].endswith(".abi3.so"), compiled)
        return bool(compiled)

    def checkSdist(self, package: Path) -> None:
        """
        It has the plugin, the native source, tests, docs and examples, and no
        caches (PLG-10).
        """
        with tarfile.open(package) as sdist:
            names = {name.partition("/")[2] for name in sdist.getnames()}
        for needed in (
            "twisted/plugins/twisted_rudp_plugin.py",
            "twisted_rudp/py.typed",
            "twisted_rudp/kernels/native.c",
            "twisted_rudp/kernels/native.h",
            "setup.py",
            "README.rst",
            "LICENSE",
            "Makefile",
            "tests/test_architecture.py",
            "docs/index.rst",
            "examples/echo.py",
        ):
            self.assertIn(needed, names)
        self.assertEqual(
            [name for name in names if name.endswith(("dropin.cache", ".pyc", ".so"))], []
        )

    def checkInstalled(self, environment: Path, kernels: str) -> None:
        """
        The commands and the strings work, and removing us leaves Twisted whole
        (PLG-6, PLG-8).
        """
        binaries = environment / "bin"
        self.assertIn("rudp", run(binaries / "twist", "--help"))
        self.assertIn("rudp", run(binaries / "twistd", "--help"))
        self.assertIn("forward", run(binaries / "twist", "rudp", "--help"))
        self.assertIn("link", run(binaries / "rudp", "--help"))
        self.assertEqual(self.used(environment), kernels)
        pip(environment, "uninstall", "-y", "twisted_rudp")
        self.assertNotIn("rudp", run(binaries / "twist", "--help"))
        run(binaries / "python", "-c", "import twisted.internet.endpoints, twisted.plugins")

    def used(self, environment: Path) -> str:
        """Endpoint strings are understood; which kernels are used."""
        server, client, kernels = run(environment / "bin" / "python", "-c", _TRY).split("\n")[:3]
        self.assertIn("KCPServerEndpoint", server)
        self.assertIn("KCPClientEndpoint", client)
        return kernels

    def test_noCompiler(self) -> None:
        """
        Where the compiler fails the wheel is built without the extension (PLG-9), and
        says so.
        """
        wheel = build("wheel", CC="false")
        self.assertTrue(wheel.name.endswith("-py3-none-any.whl"), wheel.name)
        names = contents(wheel)
        self.assertEqual([name for name in names if name.endswith(".so")], [])
        (about,) = (name for name in names if name.endswith("/WHEEL"))
        with zipfile.ZipFile(wheel) as archive:
            self.assertIn(b"Root-Is-Purelib: true", archive.read(about))


class PythonsTests(SynchronousTestCase):
    """One wheel on several Pythons."""

    def python(self, program: str) -> Path:
        """A Python with what the tests of the kernels import."""
        folder = environment(program)
        with network():
            pip(folder, "install", "--no-compile", *KERNEL_REQUIREMENTS)
        return folder / "bin" / "python"

    def test_newest(self) -> None:
        """
        What is built with the newest Python passes the tests of the kernels, the native
        ones, with each that is supported.
        """
        programs = supported()
        if len(programs) < 2:
            raise SkipTest("only one of the supported Pythons is installed")
        pythons = {
            version: self.python(program)
            for version, program in programs.items()
            if version != sys.version_info[:2]
        }
        pythons[sys.version_info[:2]] = Path(sys.executable)
        out = Path(tempfile.mkdtemp(dir=workplace()))
        newest = pythons[max(pythons)].parent.parent
        pip(newest, "wheel", "--no-deps", "--no-build-isolation", "-w", out, source())
        (wheel,) = out.iterdir()
        if wheel.name.endswith("-any.whl"):
            raise SkipTest("there is no compiler")
        # Before an installed copy, and an editable one, on the path.
        with zipfile.ZipFile(wheel) as contents:
            contents.extractall(out)
        shutil.copytree(CHECKOUT / "tests", out / "tests")
        for version, python in pythons.items():
            which = run(python, "-c", _KERNELS, PYTHONPATH=str(out))
            self.assertTrue(which.startswith(f"native {out}"), which)
            said = run(
                python, "-m", "twisted.trial", "--reporter=text",
                f"--temp-directory={out}/trial-{version[1]}", *KERNEL_TESTS,
                PYTHONPATH=str(out),
            )  # fmt: skip
            self.assertRegex(said, r"PASSED \(successes=\d+\)", f"Python {version}")
