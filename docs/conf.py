"""Settings of Sphinx; `make docs` builds the pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from keras_resnet import __version__

project = "keras-resnet"
author = copyright = "the keras-resnet authors"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
smartquotes = False  # `--` begins an option
default_role = "code"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

autodoc_typehints = "none"  # in the signature they hide the names; docstrings have them in words
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "keras-resnet"
html_copy_source = False
html_show_sphinx = False
