"""The rules of a program: their triggers and actions, and whether they resume every worker that starts paused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hwlang import syntax
from hwlang.checks.crew import Body, Member, all_actions
from hwlang.checks.names import Names
from hwlang.checks.regexes import group_count
from hwlang.checks.texts import Fill, Texts
from hwlang.diagnostics import Diagnostic, Report, quoted
from hwlang.syntax import Name


class RuleCheck:
    """The checks of one worker's rules, or of a sync's actions. `pads` are the worker's own scratchpads."""

    def __init__(self, names: Names, texts: Texts, report: Report, pads: Mapping[str, syntax.Scratchpad]) -> None:
        self.names = names
        self.texts = texts
        self.report = report
        self.pads = pads
        self.written: set[str] = set()  # of the worker's own scratchpads

    def rule(self, rule: syntax.On, one: Member) -> None:
        counts = [group_count(t.regex) if isinstance(t, syntax.Matches) else 0 for t in rule.triggers]
        for trigger in rule.triggers:
            self._trigger(trigger, one)
        stepless = one.body if one.body.step is None else None
        self.actions(rule.actions, Fill(step=one.body.step is not None, groups=min(counts), stepless=stepless))

    # Triggers

    def _trigger(self, trigger: syntax.Trigger, one: Member) -> None:
        match trigger:
            case syntax.AtStep():
                self._needs_steps(trigger, one)
            case syntax.Every():
                if trigger.unit == "steps" or trigger.at_step:
                    self._needs_steps(trigger, one)
            case syntax.Seen():
                self.texts.check(trigger.text, Fill())
            case syntax.Arrives():
                self._stream(trigger.stream)

    def _needs_steps(self, trigger: syntax.Trigger, one: Member) -> None:
        if one.body.step is None:
            message = f"this never happens: the worker {quoted(one.name.value)} has no steps"
            help = 'add `step until "\\n\\n"` or the like'
            self.names.needs_steps(one.body, Diagnostic("HW301", message, trigger.span, help))

    def _stream(self, name: Name) -> None:
        kind = self.names.use(name, "stream")
        if kind is None:
            self.names.undefined(name, "stream", ("stream",), ("step", "every", "start", "end"))
        elif kind != "stream":
            message = f"this never happens: {quoted(name.value)} is a {kind}, and only streams bring in text"
            self.report.error("HW301", name.span, message)

    # Actions

    def actions(self, actions: tuple[syntax.Action, ...], fill: Fill) -> None:
        """Check actions; `fill` says what fills the holes of their texts."""
        for action in all_actions(actions):
            match action:
                case syntax.Say():
                    self.texts.check(action.text, fill)
                case syntax.Ask():
                    for text in (action.text, *(choice.text for choice in action.choices)):
                        self.texts.check(text, fill)
                case syntax.Post():
                    self.texts.check(action.text, fill)
                    self._pad(action.pad, writes=True)
                case syntax.Move():
                    self._pad(action.pad, writes=True)
                case syntax.Clear():
                    self._pad(action.pad, writes=False)
                case syntax.Pause() | syntax.Resume() | syntax.Stop():
                    if action.worker and action.worker.value != "self":
                        self._worker(action.worker)

    def _pad(self, name: Name, writes: bool) -> None:
        if name.value in self.pads:
            self.written |= {name.value} if writes else set()
            return
        match self.names.use(name, "scratchpad"):
            case "scratchpad":
                self.names.written |= {name.value} if writes else set()
            case None:
                self.names.undefined(name, "scratchpad", ("scratchpad",), self.pads)
            case "worker":
                message = f"only the worker {quoted(name.value)} itself writes its block"
                self.names.unknown.add("scratchpad")
                self.report.error("HW202", name.span, message, "write to a scratchpad that both see")
            case kind:
                self.names.unknown.add("scratchpad")
                self.report.error("HW106", name.span, f"{quoted(name.value)} is a {kind}; a scratchpad is needed here")

    def _worker(self, name: Name) -> None:
        kind = self.names.use(name, "worker")
        if kind is None:
            self.names.undefined(name, "worker", ("worker",), ("self",))
        elif kind != "worker":
            self.names.unknown.add("worker")
            self.report.error("HW106", name.span, f"{quoted(name.value)} is a {kind}; a worker is needed here")


# --- Workers that start paused ---------------------------------------------------------------------------------------


def never_resumed(crew: Sequence[Member], syncs: Iterable[syntax.Sync]) -> list[Member]:
    """The workers that start paused and that nothing which can happen resumes.

    What a worker's rules resume runs too, so that its own rules count as well, and so on.
    """
    waiting = {one.name.value: one for one in crew if one.paused}
    running = [one for one in crew if not one.paused]
    targets = [name for sync in syncs for name in resumed(sync.actions) if running]
    for one in waiting.values():
        named = [name for rule in one.body.rules if wakes(rule) for name in resumed(rule.actions)]
        targets += [one.name.value if name == "self" else name for name in named]
    done: set[Body] = set()
    while waiting and (running or targets):
        if targets:
            woken = waiting.pop(targets.pop(), None)
            running += [woken] if woken else []
        elif (body := running.pop().body) not in done:
            done.add(body)
            targets += [name for rule in body.rules for name in resumed(rule.actions)]
    return list(waiting.values())


def resumed(actions: Iterable[syntax.Action]) -> Iterator[str]:
    """The workers that these actions may resume."""
    return (action.worker.value for action in all_actions(actions) if isinstance(action, syntax.Resume))


def wakes(rule: syntax.On) -> bool:
    """Whether a rule can fire while its worker is paused."""
    return any(
        isinstance(trigger, syntax.Arrives | syntax.AtStart)
        or (isinstance(trigger, syntax.Every) and trigger.unit == "passes" and not trigger.at_step)
        for trigger in rule.triggers
    )
