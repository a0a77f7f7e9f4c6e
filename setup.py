"""
Builds the optional extensions; everything else is in C{setup.cfg}.

A machine without a compiler gets the same package with the Python kernels.
C{TWISTED_RUDP_NO_EXTENSION=1} leaves the extension out on purpose. A wheel without it is
one for every platform and says so.

C{TWISTED_RUDP_COMPILE=1} has mypyc compile the modules on the way of a datagram as well. Such a
wheel is for one version of CPython and one platform.
"""

import os
import sys
from configparser import ConfigParser
from glob import glob
from multiprocessing.pool import ThreadPool

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before 70.1
    from wheel.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    """Named after what was built, not after what was to be."""

    def run(self):
        self.run_command("build_ext")
        outputs = self.get_finalized_command("build_ext").get_outputs()
        if not any(os.path.exists(output) for output in outputs):
            self.distribution.ext_modules = []
            self.root_is_pure = True
            self.py_limited_api = False
        super().run()


class BuildSideBySide(build_ext):
    """mypyc makes one extension of many files; each core compiles one."""

    def build_extensions(self):
        compile_all = self.compiler.compile

        def side_by_side(sources, **more):
            with ThreadPool(os.cpu_count()) as pool:
                built = pool.map(lambda source: compile_all([source], **more), sources)
            return [output for outputs in built for output in outputs]

        self.compiler.compile = side_by_side
        super().build_extensions()


SOURCES = ("native", "galois", "fec", "checksum", "masks", "frames", "datagrams")

COMPILED = ("core", "core/congestion", "kcp", "raknet", "qotp", "mux", "net", "net/udp")
"""The folders that mypyc compiles when C{TWISTED_RUDP_COMPILE=1} asks for it."""

INTERPRETED = {
    "core/settings": "declares fields of dataclasses by functions, which mypyc does not know",
    "kcp/settings": "such fields",
    "raknet/settings": "such fields",
    "qotp/settings": "such fields",
    "kcp/snmp": "refers to registrations weakly",
    "net/udp/reactors": "defines interfaces of zope, whose base is no class",
    "net/udp/sourcefilter": "gives the system addresses of objects and compares tuples by identity",
    "net/udp/steering": "gives the system addresses of objects, which may be gone by then",
}
"""What stays interpreted in them, and why."""


def compiled_modules():
    """
    The extensions that mypyc makes of the source.

    They belong to one version of CPython each, so they are no part of the wheel for all.
    """
    from mypyc.build import mypycify

    paths = [
        path
        for folder in COMPILED
        for path in sorted(glob(f"twisted_rudp/{folder}/*.py"))
        if not path.endswith("__init__.py")
        and path.removeprefix("twisted_rudp/").removesuffix(".py") not in INTERPRETED
    ]
    return mypycify(
        ["--config-file=setup.cfg", *paths],
        opt_level=os.environ.get("TWISTED_RUDP_OPTIMIZE", "2"),
        debug_level="0",
        multi_file=True,
    )


def build_requirements():
    """What mypyc needs to check the source: mypy, and every package that the source imports."""
    config = ConfigParser()
    config.read("setup.cfg")
    development = config["options.extras_require"]["dev"].split("\n")
    mypy = [line.replace("mypy ", "mypy[mypyc] ") for line in development if "mypy" in line]
    return [*mypy, *filter(None, config["options"]["install_requires"].split("\n"))]


def main():
    """Build what was asked for."""
    if os.environ.get("TWISTED_RUDP_NO_EXTENSION") == "1":
        setup()
        return
    native = Extension(
        "twisted_rudp.kernels._native",
        [f"twisted_rudp/kernels/{name}.c" for name in SOURCES],
        depends=["twisted_rudp/kernels/native.h"],
        optional=True,
        py_limited_api=True,
    )
    if os.environ.get("TWISTED_RUDP_COMPILE") == "1":
        # Asked for metadata only, mypy need not be there yet.
        building = any(command.startswith(("build", "bdist", "install")) for command in sys.argv)
        setup(
            ext_modules=[native, *(compiled_modules() if building else [])],
            setup_requires=build_requirements(),
            cmdclass={"build_ext": BuildSideBySide},
        )
        return
    setup(
        ext_modules=[native],
        cmdclass={"bdist_wheel": Wheel},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )


main()
