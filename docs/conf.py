"""Sphinx configuration of the manual."""

import twisted_rudp

project = "twisted_rudp"
copyright = "the twisted_rudp authors"
version = release = twisted_rudp.__version__
exclude_patterns = ["_build"]
html_theme = "alabaster"
