"""
Builds the optional extension; everything else is in C{setup.cfg}.

A machine without a compiler gets the same package with the Python kernels.
C{TWISTED_RUDP_NO_EXTENSION=1} leaves the extension out on purpose, which makes
a wheel for every platform.
"""

import os

from setuptools import Extension, setup

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
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
