"""`hw lsp`: the language server, for editors."""

import argparse

from hwlang.cli.errors import OK, Usage


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = "The language server, on stdin and stdout."
    parser.add_argument("--stdio", action="store_true", help="what editors ask for; there is no other way")


def run(options: argparse.Namespace) -> int:
    try:
        from hwlang.editor.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("pygls", "lsprotocol"):
            raise
        raise Usage("the language server needs pygls: `pip install 'hwlang[lsp]'`") from None
    serve()
    return OK
