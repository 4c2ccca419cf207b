"""The configuration of the documentation site, which `make docs` builds.

The source folder is the repository's root, so that a link between two documents works on GitHub and in the site.
"""

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ROOT = Path(__file__).parents[1]
_FOLDERS = {"docs", "benchmarks"}

project = "Tagmill"
author = "The Tagmill authors"
project_copyright = author
release = version = installed_version("tagmill")

extensions = ["myst_parser", "sphinx_click"]
root_doc = "docs/index"
include_patterns = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", *(f"{folder}/**.md" for folder in sorted(_FOLDERS))]
# Sphinx walks every folder that is not excluded here, .venv among them.
exclude_patterns = [entry.name for entry in _ROOT.iterdir() if entry.is_dir() and entry.name not in _FOLDERS]

myst_heading_anchors = 3
# Without a language a code block is highlighted as Python.
highlight_language = "text"
# Options keep their two hyphens.
smartquotes = False
# Commands that import these show their options without them.
sphinx_click_mock_imports = ["cv2", "onnxruntime", "prometheus_client"]

html_theme = "furo"
html_title = f"Tagmill {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# index.html, which leads to the start page
html_extra_path = ["_site"]
html_copy_source = False
html_use_index = False


def setup(app: "Sphinx") -> None:
    app.add_lexer("redis", TextLexer)  # Pygments has none
