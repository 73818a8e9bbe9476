"""The modules of the language: one-way imports, and few may touch the runtime."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {path.stem: path for path in (ROOT / "hwlang").glob("*.py") if path.stem != "__init__"}

# What may import the runtime, and what `cli` imports only for commands that need it.
FREE = {"cli", "api", "display", "explain", "wording", "headroom", "arrays", "tables", "testing", "verdicts", "jupyter"}


def imports(path: Path) -> set[str]:
    """The modules of the language that a module imports."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    inside = {alias.name for node in nodes if node.module == "hwlang" for alias in node.names}
    return inside | {str(node.module).removeprefix("hwlang.") for node in nodes if str(node.module)[:7] == "hwlang."}


def test_imports_have_no_cycles() -> None:
    order = list(TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).static_order())
    assert set(order) == set(MODULES)


def test_the_contract_holds_every_module_but_those_that_may_import_the_runtime() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = [c["source_modules"] for c in contracts if c["name"].startswith("the language imports the runtime")]
    assert sorted(held) == sorted(f"hwlang.{name}" for name in set(MODULES) - FREE)
