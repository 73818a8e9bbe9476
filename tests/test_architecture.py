"""The rules of the house: imports, lint, types, the public names, and that a wheel holds all that it needs."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_imports_are_one_way():
    run(str(Path(sys.executable).with_name("lint-imports")))


def test_ruff():
    run(sys.executable, "-m", "ruff", "check", ".")
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy():
    run(sys.executable, "-m", "mypy")


def test_public_names():
    classes = "AsyncRun BatchError Block Budget CallbackError CompileError Diagnostic Engine Generation Program"
    classes += " ProgramBuilder Run Scratchpad State Stream Text Token Worker"
    words = "ask assistant call clear end every in_context literal load me move others parse pause post program regex"
    words += " resume say start step stop system user vote"
    names = {"hwlang": [*classes.split(), *words.split()]}
    for module, expected in names.items():
        assert sorted(importlib.import_module(module).__all__) == expected


def test_every_package_is_listed_for_the_wheel():
    """One that is not works when it is installed as editable, and is missing from the wheel."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    roots = {"hwlang": ROOT / "hwlang", "hwruntime": ROOT / "runtime" / "hwruntime", "hwgrammar": ROOT / "grammar"}
    found = {
        ".".join((name, *path.parent.relative_to(root).parts))
        for name, root in roots.items()
        for path in root.rglob("__init__.py")
    }
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("command", [["check", "PROGRAM"], ["run", "PROGRAM", "--budget", "12"]])
def test_a_check_needs_neither_torch_nor_transformers(command, tmp_path):
    program = str(ROOT / "programs" / "sums.hw")
    argv = ["hw", *(program if word == "PROGRAM" else word for word in command)]
    code = f"import sys; sys.argv = {argv!r}\nfrom hwlang.cli import main\nassert main() == 0\n"
    code += "print('heavy', 'torch' in sys.modules, 'transformers' in sys.modules)"
    heavy = command[0] == "run"
    assert run(sys.executable, "-c", code, cwd=tmp_path).endswith(f"heavy {heavy} {heavy}\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in files:  # building in the checkout would leave its traces there
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), cwd=source)
    return next(folder.glob("*.whl"))


def test_a_wheel_runs_outside_the_checkout(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hwgrammar/hw.lark", "hwruntime/tiny/model.safetensors", "hwlang/py.typed"} <= set(names)
    target = tmp_path / "installed"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel))
    (tmp_path / "sums.hw").write_bytes((ROOT / "programs" / "sums.hw").read_bytes())
    code = "import hwlang, hwruntime, hwgrammar, sys\n"
    code += "for m in (hwlang, hwruntime, hwgrammar): assert m.__file__.startswith(sys.argv[1]), m.__file__\n"
    code += "from hwlang.cli import main\nsys.exit(main(['run', 'sums.hw', '--budget', '12', '--json']))"
    env = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    assert '"program": "sums"' in run(sys.executable, "-c", code, str(target), cwd=tmp_path, env=env)
