"""What a program asks for that a server cannot do: refused by name, before any of its text is sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hwruntime.errors import RequestRefused, RunError, ServerError
from hwruntime.inputs import asks_in
from hwruntime.program import Ask, Constraint, Program, Text
from hwruntime.remote.server import Reply, Request, Server
from hwruntime.tokenizer import Tokenizer

ELSEWHERE = "take an engine that has the model itself: leave --engine out"


@dataclass
class Abilities:
    """What a server can do, tried out with a text of ours when a program first needs it. Raises `ServerError`."""

    server: Server
    tokenizer: Tokenizer

    @cached_property
    def tells_probabilities(self) -> bool:
        """Whether it tells how likely given tokens are, which `ask` needs."""
        reply = self._try(choices=tuple(self._text[:1]))
        return reply is not None and len(reply.logprobs) == 1

    @cached_property
    def takes_bans(self) -> bool:
        """Whether it draws no token that it is told not to, which `forbid` needs."""
        first = self._try()
        second = self._try(banned=frozenset(first.tokens)) if first else None
        return first is not None and second is not None and first.tokens != second.tokens

    @property
    def _text(self) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode("1"))

    def _try(self, banned: frozenset[int] = frozenset(), choices: tuple[int, ...] = ()) -> Reply | None:
        """What comes of a small request; None where the server does not take it."""
        (reply,) = self.server.generate([Request(self._text, 1, banned=banned, choices=choices)])
        if isinstance(reply, ServerError) and not isinstance(reply, RequestRefused):
            raise reply
        return reply if isinstance(reply, Reply) else None


def refuse(program: Program, abilities: Abilities) -> None:
    """Raises `RunError`, at the place in the program, for what the server cannot do."""
    at = abilities.server.url
    for constraint in constraints(program):
        name = {"regex": "match", "json": "json"}[constraint.form]
        raise RunError(
            f"`{name}` holds every token of a step to a form, which cannot be done through the server at {at}: it "
            "would begin anew at every sync interval",
            help=ELSEWHERE,
            span=constraint.span,
        )
    for ask in asks(program):
        if not abilities.tells_probabilities:
            raise RunError(
                f"`ask` compares the probabilities of its choices, and the server at {at} does not tell them",
                help=f"take a server whose /generate knows `token_ids_logprob` (SGLang does), or {ELSEWHERE}",
                span=ask.span,
            )
    if forbidden(program) and not abilities.takes_bans:
        raise cannot_ban(program, abilities.server)


def cannot_ban(program: Program, server: Server) -> RunError:
    text = next(iter(forbidden(program)), None)
    return RunError(
        f"`forbid` keeps tokens from being drawn, and the server at {server.url} draws them all the same",
        help=f"take a server whose /generate knows `logit_bias` (SGLang does), or {ELSEWHERE}",
        span=text.span if text else None,
    )


def constraints(program: Program) -> Iterator[Constraint]:
    return (worker.constraint for worker in program.workers if worker.constraint)


def asks(program: Program) -> Iterator[Ask]:
    for worker in program.workers:
        yield from asks_in(action for rule in worker.rules for action in rule.actions)
    for sync in program.syncs:
        yield from asks_in(sync.actions)


def forbidden(program: Program) -> list[Text]:
    return [text for worker in program.workers for text in worker.forbid]
