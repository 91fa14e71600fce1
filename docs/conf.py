"""Sphinx's settings for ``make docs``. The repository is the source: links that work there work on the site."""

from __future__ import annotations

import importlib
from typing import Any

import math_core
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import rarepixel
from rarepixel.stats import ClassBalancedStats

LOGGER = logging.getLogger(__name__)
FORMULAS = math_core.LatexToMathML()
FIELD = type(ClassBalancedStats.positives)

project = "rarepixel"
release = rarepixel.__version__
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "benchmarks/results/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "tests/cuda_emulation/README.md",
]
exclude_patterns = [".*", "build", "csrc", "pyext", "runs", "docs/images/gallery/index.md"]
nitpicky = True
# Types of other packages, and ours that are no public names: a path of more than one room.
nitpick_ignore_regex = [("py:class", r"(?!rarepixel\.).*"), ("py:class", r"rarepixel\.(_\w+|\w+\.\w+)\.\w+")]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
autodoc_inherit_docstrings = False
autodoc_mock_imports = ["nnunetv2"]  # which asks for another torch
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"rarepixel {release}"
html_static_path = ["_static"]
html_extra_path = ["_extra"]  # from the root to the start, which lies in docs/
html_css_files = ["site.css"]
html_copy_source = html_show_copyright = False
html_math_renderer = "mathml"


def mathml(formula: str, display: str) -> str:
    """MathML, which browsers draw by themselves: pages need neither scripts nor a network for it."""
    try:
        return str(FORMULAS.convert_with_local_state(formula, displaystyle=display == "block"))
    except math_core.LatexError as error:
        raise SphinxError(f"{formula}: {error}") from error


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def skip_field(_app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any) -> bool | None:
    """A field of a NamedTuple stands in the docstring of its class."""
    return True if isinstance(member, FIELD) else None


def find_missing_names(_app: Sphinx, env: BuildEnvironment) -> None:
    """Public names that no page has, such as data without a docstring."""
    domain = env.domains.python_domain
    for module in (importlib.import_module(name) for name in domain.modules):
        for name in getattr(module, "__all__", ()):
            if f"{module.__name__}.{name}" not in domain.objects:
                LOGGER.warning("%s.%s is on no page of docs/api", module.__name__, name)


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
    app.connect("autodoc-skip-member", skip_field)
    app.connect("env-check-consistency", find_missing_names)
