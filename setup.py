"""
Builds the optional extension; everything else is in C{setup.cfg}.

A machine without a compiler gets the same package with the Python kernels.
C{TWISTED_RUDP_NO_EXTENSION=1} leaves the extension out on purpose. A wheel without it is
one for every platform and says so.
"""

import os

from setuptools import Extension, setup

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


SOURCES = ("native", "galois", "fec", "checksum", "masks", "frames", "datagrams")

if os.environ.get("TWISTED_RUDP_NO_EXTENSION") == "1":
    setup()
else:
    setup(
        ext_modules=[
            Extension(
                "twisted_rudp.kernels._native",
                [f"twisted_rudp/kernels/{name}.c" for name in SOURCES],
                depends=["twisted_rudp/kernels/native.h"],
                optional=True,
                py_limited_api=True,
            )
        ],
        cmdclass={"bdist_wheel": Wheel},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
