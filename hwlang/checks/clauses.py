"""Clauses by themselves: what can be said of a body, its rules and their values whatever the program around it is."""

from itertools import pairwise

from hwlang import syntax
from hwlang.checks.names import first_here
from hwlang.checks.regexes import compiled, matches_nothing
from hwlang.diagnostics import Report, Span

# Clauses that a body has once, and how they are written.
ONCE = {
    syntax.Sees: "`sees`",
    syntax.Layout: "`layout`",
    syntax.Begin: "`begin`",
    syntax.Step: "`step`",
    syntax.MaxTokens: "`max`",
    syntax.Match: "`match` or `json`",
    syntax.Json: "`match` or `json`",
}
RANGES = {
    "temperature": "0 or more",
    "top_p": "more than 0 and at most 1",
    "top_k": "1 or more",
    "min_p": "between 0 and 1",
    "seed": "0 or more",
}


class ClauseCheck:
    """The checks of a body's clauses. Syncs, answers and settings of a program have some of them in common."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def body(self, body: syntax.Body) -> None:
        self._once(body)
        for clause in body.clauses:
            self._clause(clause)

    def _once(self, body: syntax.Body) -> None:
        seen: dict[str, Span] = {}
        for clause in body.clauses:
            word = ONCE.get(type(clause))
            if word in seen:
                self.report.error("HW103", clause.span, f"{word} is given twice", labels=first_here(seen[word]))
            elif word:
                seen[word] = clause.span

    def _clause(self, clause: syntax.Clause) -> None:
        match clause:
            case syntax.Step():
                self.nonempty("a separator", clause.until)
            case syntax.Forbid() | syntax.StopAt():
                self.nonempty("this text", clause.texts)
            case syntax.MaxTokens():
                self.at_least_one(clause.count)
            case syntax.Sampling():
                self.sampling(clause)
            case syntax.Match():
                self.regex(clause.regex)
            case syntax.On():
                self._rule(clause)

    # Rules

    def _rule(self, rule: syntax.On) -> None:
        for trigger in rule.triggers:
            match trigger:
                case syntax.Every():
                    self.at_least_one(trigger.count)
                case syntax.Seen():
                    self.nonempty("a trigger's text", (trigger.text,))
                case syntax.Matches():
                    self._trigger(trigger.regex)
        self.actions(rule.actions)
        if not rule.actions:
            self.report.warning("HW306", rule.span, "this rule does nothing")

    def _trigger(self, regex: syntax.Regex) -> None:
        if self.regex(regex) and matches_nothing(regex):
            self.report.warning("HW308", regex.span, "this regex matches the empty text, so it fires at every place")

    def actions(self, actions: tuple[syntax.Action, ...]) -> None:
        for action, following in pairwise(actions):
            if isinstance(action, syntax.Stop) and action.worker is None:
                self.report.warning("HW305", following.span, "this is never done: `stop` before it ends the run")
        for action in actions:
            if isinstance(action, syntax.Ask):
                self._choices(action)

    def _choices(self, ask: syntax.Ask) -> None:
        if len(ask.choices) < 2:
            many = "one choice" if ask.choices else "no choice"
            span = ask.choices[0].text.span if ask.choices else ask.span
            message = f"`ask` has {many}: there is nothing to choose"
            self.report.error("HW303", span, message, "give two choices or more")
        seen: dict[syntax.String, Span] = {}
        for choice in ask.choices:
            if choice.text in seen:
                labels = first_here(seen[choice.text])
                self.report.error("HW304", choice.text.span, "this choice is given twice", labels=labels)
            seen.setdefault(choice.text, choice.text.span)
            self.nonempty("a choice", (choice.text,))
            self.actions(choice.actions)

    # Values

    def nonempty(self, what: str, texts: tuple[syntax.String, ...]) -> None:
        for text in texts:
            if not text.parts:
                self.report.error("HW409", text.span, f"{what} cannot be empty")

    def at_least_one(self, number: syntax.Number) -> None:
        if number.value < 1:
            self.report.error("HW406", number.span, f"this number is at least 1, not {number.value}")

    def regex(self, regex: syntax.Regex) -> bool:
        """Whether it can be read."""
        found = compiled(regex.pattern)
        if isinstance(found, str):
            self.report.error("HW408", regex.span, f"this regex cannot be read: {found}")
        return not isinstance(found, str)

    def sampling(self, sampling: syntax.Sampling) -> None:
        seen: dict[str, Span] = {}
        for option in sampling.options:
            if option.name in seen:
                labels = first_here(seen[option.name])
                self.report.error("HW103", option.span, f"`{option.name}` is given twice", labels=labels)
            seen.setdefault(option.name, option.span)
            if not in_range(option):
                message = f"`{option.name}` is {RANGES[option.name]}, not {option.value.value}"
                self.report.error("HW406", option.value.span, message)


def in_range(option: syntax.Option) -> bool:
    value = option.value.value
    match option.name:
        case "temperature" | "seed":
            return value >= 0
        case "top_p":
            return 0 < value <= 1
        case "top_k":
            return value >= 1
        case "min_p":
            return 0 <= value <= 1
