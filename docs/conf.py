"""Sphinx configuration of the manual."""

import twisted_rudp

project = "twisted_rudp"
copyright = "the twisted_rudp authors"
version = release = twisted_rudp.__version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
highlight_language = "text"
html_theme = "alabaster"
