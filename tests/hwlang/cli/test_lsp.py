"""`hw lsp` where the language server's package is not installed."""

import subprocess
import sys


def test_what_to_install_is_told() -> None:
    code = "import sys; sys.modules['pygls'] = None; from hwlang.cli import main; sys.exit(main(['lsp']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the language server needs pygls: `pip install 'hwlang[lsp]'`\n"
