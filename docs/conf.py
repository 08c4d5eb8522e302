"""Settings of the site: ``sphinx-build -n -W --keep-going docs site`` (``pip install ".[docs]"``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils.nodes import Element, Node, Text, reference, system_message
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole
from sphinx.util.nodes import make_refnode

import xpdl

sys.path.insert(0, str(Path(__file__).parent))

import notebook_links

project = "xpdl"
version = release = xpdl.__version__
html_title = f"xpdl {version}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser"]

# single backticks hold a name of xpdl or, failing that, a parameter
default_role = "py:obj"
nitpicky = True
# parameters, formulas and names of other libraries: anything but a dotted name of ours or a word like a class
nitpick_ignore_regex = [("py:obj", r"(?!xpdl\.)(?![A-Z][a-z])[^`]*"), ("py:obj", r"numpy\.\w+")]

autodoc_default_options = {"members": True}
add_module_names = False
autodoc_member_order = "bysource"
# docstrings of xpdl.onnx are read without it
autodoc_mock_imports = ["onnx", "google"]
# types stand in the docstrings
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_use_plots = False


def find_by_its_last_name(app: Sphinx, env: BuildEnvironment, node: Element, content: Element) -> Any:
    """`Trainer` and `xpdl.Trainer` are `xpdl.training.Trainer`, which is where it is documented."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    target = node["reftarget"].removeprefix("xpdl.")
    objects = env.domains.python_domain.objects
    found = [name for name in objects if name == target or name.endswith("." + target)]
    if not found:
        return None
    name = min(found, key=len)
    assert app.builder
    return make_refnode(app.builder, node["refdoc"], objects[name].docname, objects[name].node_id, content, name)


class Notebook(SphinxRole):
    """Buttons that open a notebook: ``{notebook}`first_net```."""

    def run(self) -> tuple[list[Node], list[system_message]]:
        buttons: list[Node] = []
        for words, address in notebook_links.links(self.text, notebook_links.repository()).items():
            buttons += [Text(" "), reference("", words, refuri=address, classes=["button"])]
        return buttons, []


def setup(app: Sphinx) -> None:
    app.add_role("notebook", Notebook())
    app.connect("missing-reference", find_by_its_last_name)
