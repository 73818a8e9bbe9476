"""The language server: `hw lsp`. It talks LSP on stdin and stdout; what it says is found by `index` and its like.

index      names, renaming, outline       completion  what may come next
hover      what is said of a place        fixes       edits for diagnostics
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from hwlang.diagnostics import CompileError, Diagnostic, Source, Span
from hwlang.editor.completion import Completion, complete
from hwlang.editor.fixes import fix_for
from hwlang.editor.hover import hover
from hwlang.editor.importers import elsewhere
from hwlang.editor.index import CannotRename, Edit, Entry, Index, analyse
from hwlang.editor.positions import Positions, Units
from hwlang.editor.semantic import stretches
from hwlang.editor.symbols import Use
from hwlang.formatting.formatter import Unfaithful, formatted

QUIET = 0.15  # seconds without a change before a text that is being typed is checked
UNUSED = "HW105"
SEVERITIES = {"error": lsp.DiagnosticSeverity.Error, "warning": lsp.DiagnosticSeverity.Warning}
SYMBOLS = {
    "program": lsp.SymbolKind.Module,
    "role": lsp.SymbolKind.Interface,
    "parameter": lsp.SymbolKind.Variable,
    "text": lsp.SymbolKind.String,
    "scratchpad": lsp.SymbolKind.Array,
    "stream": lsp.SymbolKind.Event,
    "worker": lsp.SymbolKind.Class,
}
ITEMS = {
    "role": lsp.CompletionItemKind.Interface,
    "parameter": lsp.CompletionItemKind.Variable,
    "text": lsp.CompletionItemKind.Constant,
    "scratchpad": lsp.CompletionItemKind.Field,
    "stream": lsp.CompletionItemKind.Event,
    "worker": lsp.CompletionItemKind.Class,
    "keyword": lsp.CompletionItemKind.Keyword,
    "hole": lsp.CompletionItemKind.Property,
    "file": lsp.CompletionItemKind.File,
}
TOKENS = {
    "program": "namespace",
    "role": "interface",
    "parameter": "parameter",
    "text": "variable",
    "scratchpad": "property",
    "stream": "event",
    "worker": "class",
} | {kind: kind for kind in ("keyword", "string", "regexp", "number", "comment", "type")}
LEGEND = lsp.SemanticTokensLegend(list(TOKENS.values()), ["declaration"])


class View:
    """A document as its editor counts: an index, and places of it in the protocol's form."""

    def __init__(self, uri: str, index: Index, units: Units) -> None:
        self.uri = uri
        self.index = index
        self.units = units
        self.positions = Positions(index.source.text, units)

    def offset(self, position: lsp.Position) -> int:
        return self.positions.offset(position.line, position.character)

    def range(self, start: int, end: int) -> lsp.Range:
        return as_range(self.positions, start, end)

    def span(self, span: Span) -> lsp.Range:
        return self.range(*self.positions.bounds(span))

    def location(self, span: Span) -> lsp.Location | None:
        """A place in this file, or in one that it imports."""
        if span.source is self.index.source:
            return lsp.Location(self.uri, self.span(span))
        uri = uris.from_fs_path(str(span.source.path)) if span.source.path else None
        positions = Positions(span.source.text, self.units)
        return lsp.Location(uri, as_range(positions, *positions.bounds(span))) if uri else None

    def edits(self, edits: Iterable[Edit]) -> lsp.WorkspaceEdit:
        return lsp.WorkspaceEdit({self.uri: [lsp.TextEdit(self.range(e.start, e.end), e.text) for e in edits]})

    # Diagnostics

    def diagnostics(self) -> list[lsp.Diagnostic]:
        return [self.diagnostic(problem) for problem in self.index.checked.diagnostics]

    def diagnostic(self, problem: Diagnostic) -> lsp.Diagnostic:
        """A problem in the form of the protocol. One of an imported file is told at its import."""
        here = problem.span.source is self.index.source
        related = [(label.span, label.text) for label in problem.labels]
        related += [] if here else [(problem.span, problem.message)]
        places = [(self.location(span), text) for span, text in related if span]
        message = problem.message if here else f"{problem.file}: {problem.message}"
        return lsp.Diagnostic(
            range=self.span(problem.span) if here else self.imported(problem.span.source),
            message=message + (f"\nhelp: {problem.help}" if problem.help else ""),
            severity=SEVERITIES[problem.severity],
            code=problem.code,
            code_description=lsp.CodeDescription(reference()),
            source="hw",
            tags=[lsp.DiagnosticTag.Unnecessary] if problem.code == UNUSED else None,
            related_information=[lsp.DiagnosticRelatedInformation(at, text) for at, text in places if at],
        )

    def imported(self, source: Source) -> lsp.Range:
        """The import that brings in a file, or the first one."""
        links = [link for link in self.index.names.links if link.span.source is self.index.source]
        found = [link for link in links if link.target == source.path] or links
        return self.span(found[0].span) if found else self.range(0, 0)


class Hw:
    """Answers an editor's questions about the documents that it has open."""

    def __init__(self, server: LanguageServer) -> None:
        self.server = server
        self._indexes: dict[str, Index] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}

    def view(self, uri: str) -> View:
        document = self.server.workspace.get_text_document(uri)
        text = document.source.replace("\ufeff", " ", 1) if document.source[:1] == "\ufeff" else document.source
        index = self._indexes.get(uri)
        if index is None or index.source.text != text:
            path = uris.to_fs_path(uri)
            index = self._indexes[uri] = analyse(Source(path or uri, text, Path(path) if path else None))
        return View(uri, index, as_units(self.server.workspace.position_encoding))

    # Documents

    def opened(self, params: lsp.DidOpenTextDocumentParams) -> None:
        self._publish(params.text_document.uri)

    def changed(self, params: lsp.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        if uri in self._waiting:
            self._waiting.pop(uri).cancel()
        self._waiting[uri] = asyncio.get_running_loop().call_later(QUIET, self._publish, uri)

    def saved(self, params: lsp.DidSaveTextDocumentParams) -> None:
        """Files are read as they are saved: whatever names this one may mean something else now."""
        self._indexes.clear()
        for uri in list(self.server.workspace.text_documents):
            self._publish(uri)

    def closed(self, params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        self._indexes.pop(uri, None)
        if uri in self._waiting:
            self._waiting.pop(uri).cancel()
        self.server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    def _publish(self, uri: str) -> None:
        self._waiting.pop(uri, None)
        version = self.server.workspace.get_text_document(uri).version
        found = self.view(uri).diagnostics()
        self.server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, found, version))

    # Questions about a place

    def hover(self, params: lsp.HoverParams) -> lsp.Hover | None:
        view = self.view(params.text_document.uri)
        found = hover(view.index, view.offset(params.position))
        if found is None:
            return None
        said = lsp.MarkupContent(lsp.MarkupKind.Markdown, found.text)
        return lsp.Hover(said, view.range(found.start, found.end))

    def complete(self, params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
        view = self.view(params.text_document.uri)
        return [as_item(each) for each in complete(view.index, view.offset(params.position))]

    def definition(self, params: lsp.DefinitionParams) -> list[lsp.Location]:
        view = self.view(params.text_document.uri)
        offset = view.offset(params.position)
        link, use = view.index.link_at(offset), view.index.at(offset)
        if link:
            return [lsp.Location(link.target.as_uri(), lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0)))]
        places = [view.location(symbol.span) for symbol in use.symbols] if use else []
        return [place for place in places if place]

    def references(self, params: lsp.ReferenceParams) -> list[lsp.Location]:
        view = self.view(params.text_document.uri)
        use = view.index.at(view.offset(params.position))
        uses = view.index.uses_of(use) if use else []
        places = [view.location(u.span) for u in uses if params.context.include_declaration or not u.declares]
        return [place for place in places if place]

    def highlight(self, params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
        view = self.view(params.text_document.uri)
        use = view.index.at(view.offset(params.position))
        uses = view.index.uses_of(use) if use else []
        return [lsp.DocumentHighlight(view.span(u.span)) for u in uses if u.span.source is view.index.source]

    def prepare_rename(self, params: lsp.PrepareRenameParams) -> lsp.Range:
        view = self.view(params.text_document.uri)
        try:
            return view.span(self._renamable(view, params.position).span)
        except CannotRename as error:
            raise refused(error) from None

    def rename(self, params: lsp.RenameParams) -> lsp.WorkspaceEdit:
        view = self.view(params.text_document.uri)
        try:
            self._renamable(view, params.position)
            return view.edits(view.index.rename(view.offset(params.position), params.new_name))
        except CannotRename as error:
            raise refused(error) from None

    def _renamable(self, view: View, position: lsp.Position) -> Use:
        """The name at a place, unless other files of the workspace use it. Raises `CannotRename`."""
        use = view.index.renamable(view.offset(position))
        folders = [uris.to_fs_path(folder.uri) for folder in self.server.workspace.folders.values()]
        folders = folders or [self.server.workspace.root_path]
        other = elsewhere(view.index, use, [Path(folder) for folder in folders if folder])
        if other:
            raise CannotRename(f"`{use.span.text}` is used in `{other}`, too")
        return use

    # Questions about a document

    def fixes(self, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        view = self.view(params.text_document.uri)
        first, last = view.offset(params.range.start), view.offset(params.range.end)
        found = []
        for problem in view.index.checked.diagnostics:
            start, end = view.positions.bounds(problem.span)
            fix = fix_for(view.index, problem) if start <= last and first <= end else None
            if fix:
                told = [view.diagnostic(problem)]
                kind = lsp.CodeActionKind.QuickFix
                edit = view.edits(fix.edits)
                found.append(lsp.CodeAction(fix.title, kind=kind, diagnostics=told, is_preferred=True, edit=edit))
        return found

    def outline(self, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        view = self.view(params.text_document.uri)
        return [as_symbol(view, entry) for entry in view.index.outline()]

    def format(self, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        view = self.view(params.text_document.uri)
        text = view.index.source.text
        try:
            new = formatted(view.index.source)
        except (CompileError, Unfaithful):
            return []  # what keeps it from being formatted is shown already
        return [lsp.TextEdit(view.range(0, len(text)), new)] if new != text else []

    def links(self, params: lsp.DocumentLinkParams) -> list[lsp.DocumentLink]:
        view = self.view(params.text_document.uri)
        here = [link for link in view.index.names.links if link.span.source is view.index.source]
        return [lsp.DocumentLink(view.span(link.span), link.target.as_uri()) for link in here]

    def tokens(self, params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
        """What each word is: five numbers a word, places relative to the one before."""
        view = self.view(params.text_document.uri)
        data: list[int] = []
        line = column = 0
        for each in stretches(view.index):
            at = view.range(each.start, each.end)
            same = at.start.line == line
            length = at.end.character - at.start.character
            kind = list(TOKENS).index(each.kind)
            data += [at.start.line - line, at.start.character - (column if same else 0), length, kind, each.declares]
            line, column = at.start.line, at.start.character
        return lsp.SemanticTokens(data)


def make_server() -> LanguageServer:
    from importlib.metadata import version

    server = LanguageServer("hw", version("hwlang"), text_document_sync_kind=lsp.TextDocumentSyncKind.Full)
    hw = Hw(server)
    server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)(partial(hw.opened))
    server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)(partial(hw.changed))
    server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)(partial(hw.saved))
    server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)(partial(hw.closed))
    server.feature(lsp.TEXT_DOCUMENT_HOVER)(partial(hw.hover))
    completion = lsp.CompletionOptions(trigger_characters=["{", " ", '"', "/"])
    server.feature(lsp.TEXT_DOCUMENT_COMPLETION, completion)(partial(hw.complete))
    server.feature(lsp.TEXT_DOCUMENT_DEFINITION)(partial(hw.definition))
    server.feature(lsp.TEXT_DOCUMENT_REFERENCES)(partial(hw.references))
    server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)(partial(hw.highlight))
    server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)(partial(hw.prepare_rename))
    server.feature(lsp.TEXT_DOCUMENT_RENAME)(partial(hw.rename))
    fixes = lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix])
    server.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, fixes)(partial(hw.fixes))
    server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)(partial(hw.outline))
    server.feature(lsp.TEXT_DOCUMENT_FORMATTING)(partial(hw.format))
    server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_LINK)(partial(hw.links))
    server.feature(lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)(partial(hw.tokens))
    return server


def serve() -> None:
    """Serve an editor on stdin and stdout until it says goodbye."""
    make_server().start_io()


# --- Forms of the protocol -------------------------------------------------------------------------------------------


def as_range(positions: Positions, start: int, end: int) -> lsp.Range:
    return lsp.Range(lsp.Position(*positions.place(start)), lsp.Position(*positions.place(end)))


def as_units(encoding: lsp.PositionEncodingKind | str | None) -> Units:
    if encoding == lsp.PositionEncodingKind.Utf8:
        return "utf-8"
    return "utf-32" if encoding == lsp.PositionEncodingKind.Utf32 else "utf-16"


def as_item(each: Completion) -> lsp.CompletionItem:
    said = lsp.MarkupContent(lsp.MarkupKind.Markdown, each.about) if each.about else None
    return lsp.CompletionItem(each.label, kind=ITEMS[each.kind], detail=each.detail or None, documentation=said)


def as_symbol(view: View, entry: Entry) -> lsp.DocumentSymbol:
    inner = [as_symbol(view, each) for each in entry.inner]
    kind = SYMBOLS[entry.kind]
    return lsp.DocumentSymbol(
        entry.name, kind, view.span(entry.whole), view.span(entry.span), entry.kind, children=inner
    )


def refused(error: CannotRename) -> JsonRpcException:
    return JsonRpcException(message=str(error), code=lsp.LSPErrorCodes.RequestFailed)


def reference() -> str:
    """Where the codes are listed; `hw explain` and hovering say more."""
    from importlib.resources import files

    return Path(str(files("hwgrammar") / "README.md")).as_uri() + "#static-checks"
