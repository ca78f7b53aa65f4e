"""Sphinx: ``sphinx-build -W -b html docs build/docs`` (extra ``docs``). Plots are drawn from two files of figures."""

import json
import sys
from pathlib import Path

import gmp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import plots, simulated  # noqa: E402

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


def setup(app: object) -> None:
    """Draw the plots before Sphinx looks for them."""
    folder = HERE / "pictures" / "figures"
    plots.plot(json.loads((HERE / "figures.json").read_text(encoding="utf-8")), folder)
    simulated.plot(json.loads((HERE / "growth.json").read_text(encoding="utf-8")), folder)
