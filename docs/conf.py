"""Sphinx: ``sphinx-build -W -b html docs build/docs`` (extra ``docs``)."""

import gmp

project = "gmp"
author = "the authors of gmp"
release = version = gmp.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"gmp {gmp.__version__}"
html_static_path: list[str] = []
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
nitpicky = False
