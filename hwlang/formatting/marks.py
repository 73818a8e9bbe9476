"""What the tokens of a program are to its layout: which of them begin an item, a choice, an entry of a list."""

from collections.abc import Sequence
from enum import Enum, auto

from hwlang import syntax
from hwlang.formatting.trivia import Piece


class Mark(Enum):
    PLAIN = auto()
    ITEM = auto()  # begins an item of a file or of a body: it has a line of its own where the body has several
    SPACED = auto()  # an item of a file that an empty line goes before
    CHOICE = auto()  # begins a choice of an `ask`
    FIRST = auto()  # the first entry of a list: the others are lined up with it
    ENTRY = auto()  # another entry of a list: a line may end before it
    PART = auto()  # `until`, `before`, `else`: a line may end before it, too
    IS = auto()  # the `is` of a worker
    END = auto()  # the end of the text


def marks_of(tree: syntax.File, pieces: Sequence[Piece]) -> list[Mark]:
    """The mark of each token of a program."""
    marker = _Marker(pieces)
    marker.file(tree)
    return marker.marks


class _Marker:
    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.marks = [Mark.PLAIN] * (len(pieces) - 1) + [Mark.END]
        self._at = {piece.place: index for index, piece in enumerate(pieces[:-1])}

    def _mark(self, node: syntax.Node, mark: Mark, back: int = 0) -> None:
        """Mark the token that a node begins with, or one that is `back` tokens before."""
        self.marks[self._at[node.span.line, node.span.column] - back] = mark

    def _items(self, nodes: Sequence[syntax.Node]) -> None:
        for node in nodes:
            self._mark(node, Mark.ITEM)

    def _list(self, nodes: Sequence[syntax.Node]) -> None:
        for index, node in enumerate(nodes):
            self._mark(node, Mark.ENTRY if index else Mark.FIRST)

    def file(self, tree: syntax.File) -> None:
        apart = False
        for item in tree.items:
            was_apart, apart = apart, isinstance(item, syntax.Role | syntax.Program | syntax.Test)
            self._mark(item, Mark.SPACED if apart or was_apart else Mark.ITEM)
            if isinstance(item, syntax.Role):
                self._body(item.body)
            elif isinstance(item, syntax.Program):
                self._list(item.params)
                self._items(item.declarations)
                for declaration in item.declarations:
                    self._declaration(declaration)
            elif isinstance(item, syntax.Test):
                self._items(item.clauses)
                for clause in item.clauses:
                    self._test_clause(clause)

    def _test_clause(self, node: syntax.TestClause) -> None:
        if isinstance(node, syntax.Given):
            self._list(node.settings)
        elif isinstance(node, syntax.Says):
            self._list(node.texts)

    def _declaration(self, node: syntax.Declaration) -> None:
        if isinstance(node, syntax.Worker | syntax.Workers):
            self._list(node.names)
            if node.role:
                self._mark(node.role, Mark.IS, back=1)
            self._body(node.body)
        elif isinstance(node, syntax.Sampling):
            self._items(node.options)
        elif isinstance(node, syntax.Sync):
            self._actions(node.actions)
        elif isinstance(node, syntax.Answer) and node.otherwise:
            self._mark(node.otherwise, Mark.PART)

    def _body(self, body: syntax.Body) -> None:
        self._items(body.clauses)
        for clause in body.clauses:
            self._clause(clause)

    def _clause(self, node: syntax.Clause) -> None:
        if isinstance(node, syntax.Sampling):
            self._items(node.options)
        elif isinstance(node, syntax.Sees):
            self._list(node.entries)
        elif isinstance(node, syntax.Forbid | syntax.StopAt):
            self._list(node.texts)
        elif isinstance(node, syntax.Layout):
            for text in (node.before_others, node.before_self):
                if text is not None:
                    self._mark(text, Mark.PART, back=2)
        elif isinstance(node, syntax.Step):
            self._list(node.until)
            if node.prefix is not None:
                self._mark(node.until[0], Mark.PART, back=1)
        elif isinstance(node, syntax.On):
            self._list(node.triggers)
            self._actions(node.actions)

    def _actions(self, actions: Sequence[syntax.Action]) -> None:
        self._items(actions)
        for action in actions:
            for choice in action.choices if isinstance(action, syntax.Ask) else ():
                self._mark(choice, Mark.CHOICE)
                self._actions(choice.actions)
