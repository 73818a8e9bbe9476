"""The modules of the language: one-way imports, packages in layers, and few may touch the runtime."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "hwlang").glob("*/__init__.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in (ROOT / "hwlang").rglob("*.py") if path != ROOT / "hwlang" / "__init__.py"}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# What may import the runtime. (The packages among them import nothing of it themselves.)
FREE = {
    *("hwlang.api", "hwlang.cli", "hwlang.evaluation", "hwlang.explaining", "hwlang.jupyter"),
    *("hwlang.engines", "hwlang.serving"),
    *("hwlang.testing", "hwlang.testing.runner", "hwlang.testing.verdicts"),
}


def imports(path: Path) -> set[str]:
    """The modules of the language that a module imports."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    named = [(str(node.module), alias.name) for node in nodes for alias in node.names]
    found = {f"{module}.{name}" if f"{module}.{name}" in MODULES else module for module, name in named}
    return found & set(MODULES)


def test_imports_have_no_cycles() -> None:
    order = list(TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).static_order())
    assert set(order) == set(MODULES)


def test_the_contract_holds_every_module_but_those_that_may_import_the_runtime() -> None:
    (held,) = [c["source_modules"] for c in CONTRACTS if c["name"].startswith("the language imports the runtime")]
    for module in MODULES:
        above = {module, module.rpartition(".")[0]}
        assert bool(above & set(held)) != bool(above & FREE) or module in held, module


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_what_is_in_it(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    missing = {path.stem for path in package.glob("*.py") if path.stem[:2] != "__"} - set(re.findall(r"\w+", text))
    assert not missing
