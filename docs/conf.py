"""Sphinx configuration of the manual."""

import twisted_rudp

project = "twisted_rudp"
copyright = "the twisted_rudp authors"
version = release = twisted_rudp.__version__
extensions = ["myst_parser"]
exclude_patterns = ["_build", "arguments-*.rst"]
highlight_language = "text"
html_theme = "furo"
html_title = "twisted_rudp"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sourcelink = False
