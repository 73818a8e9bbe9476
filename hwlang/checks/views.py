"""The views of a program's workers: layouts written out, entries that cannot be, and what a worker starts from."""

from collections.abc import Collection, Iterable

from hwlang import syntax
from hwlang.checks.crew import Body, Member
from hwlang.checks.names import KINDS, Names, first_here
from hwlang.checks.texts import Fill, Texts
from hwlang.diagnostics import Report, Span, quoted
from hwlang.diagnostics.suggestions import closest
from hwlang.syntax import Name

WorkerNode = syntax.Worker | syntax.Workers
View = tuple[syntax.Entry, ...]


class Views:
    """The views of one program, each made once for all workers that share a body."""

    def __init__(self, program: syntax.Program, names: Names, report: Report) -> None:
        self.program = program
        self.names = names
        self.report = report
        self._made: dict[Body, View] = {}

    def of(self, body: Body, node: WorkerNode) -> View:
        """The view of a body, with its layout written out. `node` is the first worker that has it."""
        if body not in self._made:
            self._made[body] = self._make(body, node)
        return self._made[body]

    def _make(self, body: Body, node: WorkerNode) -> View:
        layout = body.layout
        if body.sees is None:
            name = node.names[0]
            what = "nothing says what it sees" if layout is None else "`layout` needs an opening"
            message = f"the worker {quoted(name.value)} has no view: {what}"
            self.report.error("HW205", name.span, message, 'add `sees user "..."`')
            return ()
        entries = body.sees.entries
        if layout is None:
            self._own_last(entries, [pad.name.value for pad in body.pads])
            return entries
        if all(map(self._is_constant, entries)):
            return entries + self._layout(layout)
        message = "`layout` writes the view, but `sees` has more than an opening"
        help = "give `layout` an opening of texts only, or write the whole view as `sees`"
        self.report.error("HW206", layout.span, message, help)
        return entries

    def _own_last(self, entries: View, pads: Collection[str]) -> None:
        own = [entry for entry in entries if isinstance(entry, syntax.Own)]
        if len(own) > 1:
            labels = first_here(own[0].span)
            self.report.error("HW201", own[1].span, "a view has `self` once, at its end", "take one away", labels)
        elif not isinstance(entries[-1], syntax.Own) and not self._nearly_own(entries, pads):
            message = "the last entry of a view is the block that its worker writes, `self`"
            help = "move `self` to the end" if own else "add `, self` at the end"
            self.report.error("HW201", own[0].span if own else entries[-1].span, message, help)

    def _nearly_own(self, entries: View, pads: Collection[str]) -> bool:
        """Whether the last entry is a misspelt `self`, or like no name at all: that is the one slip then."""
        last = entries[-1]
        if not isinstance(last, Name) or self.names.kind_of(last.value) or last.value in pads:
            return False
        return closest(last.value, ["self", "others", *self.names.declared, *pads]) in ("self", None)

    # Layouts

    def _is_constant(self, entry: syntax.Entry) -> bool:
        if isinstance(entry, Name):  # an unknown name has an error of its own
            return self.names.kind_of(entry.value) in ("parameter", "text", None)
        return isinstance(entry, syntax.Constant)

    def _layout(self, layout: syntax.Layout) -> View:
        entries: list[syntax.Entry] = []
        if layout.kind != "contiguous":
            entries += self._history(layout)
        if layout.kind != "interleaved":
            entries += before(layout.before_others)
            entries.append(syntax.Others(span=layout.span))
        elif layout.before_others:
            message = "an interleaved view has no `others` for this text to be before"
            self.report.error("HW206", layout.before_others.span, message)
        return (*entries, *before(layout.before_self), syntax.Own(span=layout.span))

    def _history(self, layout: syntax.Layout) -> list[syntax.Entry]:
        pads = [node.name.value for node in self.program.declarations if isinstance(node, syntax.Scratchpad)]
        name = "history" if "history" in pads or len(pads) != 1 else pads[0]
        if name in pads:
            return [Name(name, span=layout.span)]
        message = f"the {layout.kind} layout needs a scratchpad for the finished steps"
        self.report.error("HW206", layout.span, message, "add `scratchpad history` to the program")
        return []


def before(text: syntax.String | None) -> list[syntax.Entry]:
    return [syntax.Constant(text, span=text.span)] if text else []


# --- Entries ---------------------------------------------------------------------------------------------------------


class ViewCheck:
    """The checks of a view's entries. `pads` are the worker's own scratchpads."""

    def __init__(
        self, one: Member, pads: dict[str, syntax.Scratchpad], names: Names, texts: Texts, report: Report
    ) -> None:
        self.one = one
        self.pads = pads
        self.names = names
        self.texts = texts
        self.report = report
        self._others = any(isinstance(entry, syntax.Others) for entry in one.view)

    def run(self) -> None:
        seen: dict[str, Span] = {}
        for entry in self.one.view:
            self._entry(entry)
            for block in self._blocks(entry):
                if block in seen:
                    labels = first_here(seen[block])
                    self.report.error("HW207", entry.span, f"{quoted(block)} is in this view already", labels=labels)
                seen.setdefault(block, entry.span)

    def _entry(self, entry: syntax.Entry) -> None:
        if isinstance(entry, syntax.Constant):
            self.texts.check(entry.text, Fill())
        elif isinstance(entry, Name) and entry.value not in self.pads:
            self._name(entry)

    def _name(self, name: Name) -> None:
        match self.names.use(name):
            case None:
                what = "scratchpad, stream, worker, text or parameter"
                self.names.undefined(name, what, KINDS, [*self.pads, "self", "others"])
            case "text":
                self.texts.check_named(name.value, name.span, Fill())
            case "scratchpad":
                self.names.see_pad(name)

    def _blocks(self, entry: syntax.Entry) -> list[str]:
        """The block that an entry stands for, if it is one: a view has each once."""
        if isinstance(entry, syntax.Others):
            return ["others"]
        if not isinstance(entry, Name):
            return []
        name, kind = entry.value, self.names.kind_of(entry.value)
        if kind == "worker" and self._others and name != self.one.name.value:
            self.report.error("HW207", entry.span, f"{quoted(name)} is in this view already, as one of `others`")
        return [name] if kind in ("scratchpad", "stream", "worker") or name in self.pads else []


def check_not_itself(one: Member, report: Report) -> None:
    """No worker sees its own block by its name."""
    for entry in one.view:
        if isinstance(entry, Name) and entry.value == one.name.value:
            message = f"the worker {quoted(entry.value)} sees its own block by name"
            report.error("HW201", entry.span, message, "its own block is `self`, at the end of the view")


# --- What a worker starts from ---------------------------------------------------------------------------------------


class StartCheck:
    """A worker that runs from the start needs a text to go on from: in its view, or to begin with."""

    def __init__(self, program: syntax.Program, names: Names, report: Report) -> None:
        self.names = names
        self.report = report
        self._pads = with_text(node for node in program.declarations if isinstance(node, syntax.Scratchpad))

    def run(self, crew: list[Member]) -> None:
        """Check the workers that run from the start; of those that share a body the first."""
        held = held_back(crew)
        running = [one for one in crew if not one.paused and one.name.value not in held]
        for one in {one.body: one for one in reversed(running)}.values():
            if one.view and not begins(one.body) and not self._sees_text(one):
                message = f"the worker {quoted(one.name.value)} has nothing to start from: all that it sees is empty"
                help = 'add a text to its view, as in `sees user "..."`, or `begin "..."`'
                self.report.error("HW209", one.name.span, message, help)

    def _sees_text(self, one: Member) -> bool:
        own = {pad.name.value for pad in one.body.pads}
        filled = with_text(one.body.pads) | (self._pads - own)
        return any(
            self._is_text(entry, own) or (isinstance(entry, Name) and entry.value in filled) for entry in one.view
        )

    def _is_text(self, entry: syntax.Entry, own: set[str]) -> bool:
        """Whether an entry is a text. So may be a name that is not known: it has an error of its own."""
        if isinstance(entry, syntax.Constant):
            return entry.role != "text" or bool(entry.text.parts)
        if isinstance(entry, Name) and entry.value not in own:
            return self.names.kind_of(entry.value) in ("text", "parameter", None)
        return False


def with_text(pads: Iterable[syntax.Scratchpad]) -> set[str]:
    """The scratchpads that hold something when the run starts."""
    return {pad.name.value for pad in pads if pad.text and pad.text.parts}


def begins(body: Body) -> bool:
    """Whether a worker with this body is handed a text when it starts."""
    texts = [body.begin.text if body.begin else None, body.step.prefix if body.step else None]
    texts += [action.text for action in start_actions(body) if isinstance(action, syntax.Say)]
    return any(text is not None and text.parts for text in texts)


def held_back(crew: list[Member]) -> set[str]:
    """The workers that somebody's `on start` pauses or stops before they write; all where it ends the run."""
    held: set[str] = set()
    selves: set[Body] = set()
    for body in {one.body for one in crew}:
        for action in start_actions(body):
            if isinstance(action, syntax.Pause | syntax.Stop):
                if action.worker is None:
                    return {one.name.value for one in crew}
                if action.worker.value == "self":
                    selves.add(body)
                held.add(action.worker.value)
    return held | {one.name.value for one in crew if one.body in selves}


def start_actions(body: Body) -> list[syntax.Action]:
    """What a worker with this body does when it starts."""
    rules = [rule for rule in body.rules if any(isinstance(trigger, syntax.AtStart) for trigger in rule.triggers)]
    return [action for rule in rules for action in rule.actions]
