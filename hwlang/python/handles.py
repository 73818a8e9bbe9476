"""What a Python program holds in its hands: parameters, texts, scratchpads and streams, by their names.

They are put where the language has a name, and into f-strings where it has a hole: `f"{rules}"` is `"{{rules}}"`.
"""

from typing import NoReturn

from hwlang.diagnostics import CompileError, Diagnostic, Span, quoted
from hwlang.python.places import here, within


class Named:
    """Something that has a name in a program. As text it is the hole of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return "{{" + self.name + "}}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __format__(self, spec: str) -> str:
        if spec:
            message = f"{quoted(str(self))} cannot be formatted as {quoted(spec)}: it has no value before the run"
            raise CompileError([Diagnostic("HW107", message, self._place())])
        return str(self)

    def _place(self) -> Span:
        """Where it is used: its name there, or all of what is done with it."""
        return within(here().span, rf"\b{self.name}\b")

    def sole(self, span: Span) -> str:
        """The name, where one is needed; `span` is where."""
        return self.name


class Text(Named):
    """A text with a name, made by `ProgramBuilder.text`. Put it into a view, or into an f-string.

    >>> @hw.program
    ... def essay(p: hw.ProgramBuilder) -> None:
    ...     style = p.text("style", "Be brief.")
    ...     p.worker("Ann").sees(f"Write. {style}", hw.me)
    >>> essay.compiled.workers[0].sees[0].text.parts
    ('Write. ', 'Be brief.')
    """


class Scratchpad(Named):
    """A scratchpad, made by `ProgramBuilder.scratchpad` (shared) or `Worker.scratchpad` (private).

    >>> @hw.program
    ... def log(p: hw.ProgramBuilder) -> None:
    ...     lines = p.scratchpad("lines", "# Log\\n")
    ...     w = p.worker("Ann")
    ...     w.sees(lines, hw.me)
    ...     w.on(hw.every(10), hw.post("{{name}} is at it.\\n", to=lines))
    """


class Stream(Named):
    """A stream, made by `ProgramBuilder.stream`: text that comes in from outside while the run goes on.

    It is an entry of views, and a trigger: `w.on(stream, ...)` fires when text has come in.

    >>> @hw.program
    ... def chat(p: hw.ProgramBuilder) -> None:
    ...     user = p.stream("user")
    ...     w = p.worker("Ann")
    ...     w.sees("Talk.", user, hw.me)
    ...     w.on(user, hw.say(" Wait, "))
    ...     w.max_tokens(4)
    >>> with chat.stream() as run:
    ...     run.feed("user", "Hello!")
    ...     fed = [event.text for event in run if event.kind == "feed"]
    >>> fed
    ['Hello!']
    """


class Member(Named):
    """A worker: one that `ProgramBuilder.worker` made, or one of several, `team["Ann"]`."""


class Parameter(Named):
    """A parameter of the program while its function runs: a hole without a value.

    It goes into texts, views and `workers`. Anything that needs its value raises `CompileError`, at that line.
    """

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name)
        self.kind = kind

    def _no_value(self, *_: object) -> NoReturn:
        message = f"nothing fills {quoted(str(self))} here: the parameter has no value before the run"
        help = f'the function runs once, to build the program: put the parameter into a text, as in f"{{{self.name}}}"'
        raise CompileError([Diagnostic("HW107", message, self._place(), help)])

    def __add__(self, other: object) -> str:
        """A `str` parameter in a longer text."""
        return str(self) + other if self.kind == "str" and isinstance(other, str) else self._no_value()

    def __radd__(self, other: object) -> str:
        return other + str(self) if self.kind == "str" and isinstance(other, str) else self._no_value()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)  # Python asks for these to find out what it has
        self._no_value()

    __hash__ = Named.__hash__
    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_value
    __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _no_value
    __int__ = __float__ = __index__ = __complex__ = __round__ = __trunc__ = _no_value
    __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _no_value
    __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __and__ = __or__ = __xor__ = _no_value
