"""The engine for servers. A pass is: which rows have nothing written ahead, ask the server for them, hand out a token
for each row."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Unpack

from hwruntime.batch import Run, Tenant, Visit, wants
from hwruntime.counters import Counters
from hwruntime.errors import HwError, RunError, ServerError
from hwruntime.program import Program, Value
from hwruntime.remote.drafts import drafted, flat, written
from hwruntime.remote.model import RemoteModel
from hwruntime.remote.refusals import Abilities, cannot_ban, refuse
from hwruntime.remote.runs import RemoteRun, RemoteSession
from hwruntime.remote.server import Manner, Reply, Request, Server
from hwruntime.result import Progress, Remote, Result
from hwruntime.rows import Draw, Outcome, Row
from hwruntime.runner import Watch, carried_out
from hwruntime.session import Known, Log, RunOptions

SYNC_INTERVAL = 16  # tokens


@dataclass(frozen=True)
class Wanted:
    """A row of a run for which the server has to be asked, and what it is asked."""

    run: RemoteRun
    row: Row
    request: Request


class RemoteEngine:
    """Runs programs on a server; the requests of all runs under way go out together.

    `sync_interval`: how many tokens the server writes for a worker before that sees what the others wrote meanwhile.
    With 1 it sees them as soon as they are there.
    """

    def __init__(self, server: Server, model: RemoteModel, sync_interval: int = SYNC_INTERVAL) -> None:
        self.model = model
        self.counters = Counters()
        self._server = server
        self._interval = sync_interval
        self._abilities = Abilities(server, model.tokenizer)
        self._begun = 0
        self._going = 0

    def run(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        watch: Watch | None = None,
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> Result:
        """Run a program to its end; all is as with `engine.Engine`. Raises `InputError`, `RunError`, `ServerError`."""
        return carried_out(self, self.start(program, inputs, log, known, **options), watch)

    def start(
        self,
        program: Program,
        inputs: Mapping[str, Value],
        log: Log | None = None,
        known: Iterable[Known] = (),
        **options: Unpack[RunOptions],
    ) -> RemoteRun:
        """Begin a run; all is as with `engine.Engine`. Raises `RunError` for what the server cannot do, too."""
        refuse(program, self._abilities)
        cost = Remote(self._server.url, self._interval)
        session = RemoteSession(program, inputs, self.model.tokenizer, self.model.context, log, options, cost)
        self._begun += 1
        self._going += 1
        self.counters.runs_begun += 1
        return RemoteRun(session, self._begun, stage="here", known=deque(known))

    def step(self, runs: Sequence[Tenant]) -> bool:
        """One pass of all these runs; whether any is left that goes on. One that fails ends alone (`Run.error`)."""
        began = time.perf_counter()
        asked = [run for run in runs if isinstance(run, RemoteRun) and run.stage != "over"]
        ready = [run for run in asked if self._made_ready(run)]
        self._ask([wanted for run in ready for wanted in self._wanted(run)])
        for run in ready:
            if run.stage != "over":
                self._end_pass(run)
        self.counters.passes += bool(ready)
        self.counters.pass_seconds += time.perf_counter() - began
        return any(run.stage != "over" for run in asked)

    def finish(self, run: Tenant) -> None:
        """End a run here. Once or more often."""
        if run.stage != "over" and isinstance(run, RemoteRun):
            self._going -= 1
            self.counters.runs_ended["error" if run.error else run.session.reason or "cancelled"] += 1
            run.drop_drafts()
        run.stage = "over"
        run.session.close(run.error)

    def progress(self, run: Run) -> Progress:
        """How far a run is; nothing is known of the server's cache."""
        session = run.session
        return Progress(session.passes, session.budget, session.sampled, 0, 0)

    def metrics(self) -> str:
        """The counters, and what is under way, as text for Prometheus."""
        return self.counters.exposition({'hw_runs{pages="no"}': self._going})

    # --- What coroutines want ---

    def visit(self) -> Visit:
        """Raises `RunError`: blocks that are written and seen in the same pass are not what a server has."""
        raise RunError(
            f"blocks and coroutines (`engine.block`, `generate`, `prefill`, `score`) see each other's tokens in "
            f"the same pass, which the server at {self._server.url} cannot do",
            help="run a program, or take an engine that has the model itself: hw.Engine(MODEL)",
        )

    def join(self, visit: Visit) -> None:
        raise AssertionError("there is no visit")

    def settle(self, visit: Visit) -> None:
        raise AssertionError("there is no visit")

    # --- A pass ---

    def _made_ready(self, run: RemoteRun) -> bool:
        """Begin a run's pass; whether it has any rows."""
        try:
            now = run.begin_pass()
        except HwError as error:
            self._fail(run, error)
            return False
        run.drop_disturbed(now.edits, now.rows)
        now.edits.clear()  # the session has carried them out on its texts, and there is no cache
        if not now.rows:
            self.finish(run)
        return bool(now.rows)

    def _wanted(self, run: RemoteRun) -> Iterator[Wanted]:
        """The rows that nothing is written ahead for. Passes that are known ask for nothing."""
        run.made += 1
        added = written(run.rows)
        for row in run.rows if not run.known else ():
            if not wants(row):
                continue
            draft = None if row.choices else run.drafts.get(row.writer)
            if draft is None or not draft.goes_on(row, run.made):
                yield Wanted(run, row, self._request(run, row, flat(row, added[row])))
            elif draft.tokens[0] in banned_in(row):
                yield without_banned(Wanted(run, row, self._request(run, row, flat(row, added[row]))))

    def _request(self, run: RemoteRun, row: Row, tokens: tuple[int, ...]) -> Request:
        """What the server is asked for a row."""
        if row.draw is None:
            return Request(tokens, 1, choices=row.choices)
        # A row that reads its view's last token once more writes to no block: nothing could go on behind it.
        again = row.block.kind == "throw-away"
        room = self.model.context - len(tokens)
        most = 1 if again else max(1, min(self._interval, run.session.left(row.writer), room))
        ends = self.model.tokenizer.end_tokens
        return Request(tokens, most, manner_of(row.draw), ends, run.session.stops(row.writer))

    def _ask(self, wanted: Sequence[Wanted]) -> None:
        """Get drafts for these rows, and outcomes for those with choices. Runs that get none fail."""
        if not wanted:
            return
        again: list[Wanted] = []
        replies = self._server.generate([each.request for each in wanted])
        for each, reply in zip(wanted, replies, strict=True):
            if each.run.stage == "over":  # another of its rows has failed
                continue
            try:
                if isinstance(reply, ServerError):
                    raise reply
                again += self._take(each, reply)
            except HwError as error:
                self._fail(each.run, error)
        self._ask([each for each in again if each.run.stage != "over"])

    def _take(self, wanted: Wanted, reply: Reply) -> list[Wanted]:
        """Keep what came for a row; what has to be asked once more: without the banned token that came. Raises
        `RunError`, `ServerError` where it cannot be used."""
        run, row, request = wanted.run, wanted.row, wanted.request
        run.session.count(request, reply)
        self.counters.rows += 1
        self.counters.encoded_tokens += len(request.tokens) - reply.cached
        if row.choices:
            run.chosen[row] = choice_of(reply, self._server)
            return []
        tokens = self._own(reply)
        run.keep(row.writer, drafted(row, tokens))
        if tokens[0] not in banned_in(row):
            return []
        if request.banned:
            raise cannot_ban(run.session.program, self._server)
        return [without_banned(wanted)]

    def _own(self, reply: Reply) -> tuple[int, ...]:
        """A reply's tokens as the tokenizer here has them: what ends a text for the server does so here, too."""
        last, ends = reply.tokens[-1], self.model.tokenizer.end_tokens
        strange = next((token for token in reply.tokens if token >= self.model.size), None)
        if strange is not None:
            raise ServerError(
                f"the server at {self._server.url} has written token {strange}, and the tokenizer here knows "
                f"{self.model.size}: they are of different models",
                help="give --model the model that the server runs",
            )
        return (*reply.tokens[:-1], min(ends)) if reply.ended and ends and last not in ends else reply.tokens

    def _end_pass(self, run: RemoteRun) -> None:
        """Hand out a token for each row, or what is known to have come."""
        outcomes = run.known[0].outcomes if run.known else [self._outcome(run, row) for row in run.rows]
        try:
            run.end_pass(outcomes)
        except HwError as error:
            self._fail(run, error)

    def _outcome(self, run: RemoteRun, row: Row) -> Outcome:
        if row.choices:
            return run.chosen.pop(row)
        if row.draw is None:
            return Outcome()
        self.counters.sampled_tokens += 1
        return Outcome(run.drafts[row.writer].take(run.made))

    def _fail(self, run: RemoteRun, error: HwError) -> None:
        run.error = error
        self.finish(run)


def banned_in(row: Row) -> frozenset[int]:
    return row.draw.banned if row.draw else frozenset()


def without_banned(wanted: Wanted) -> Wanted:
    """Asks for one token that is not banned. For one alone: what is banned behind it may be something else."""
    return replace(wanted, request=replace(wanted.request, most=1, banned=banned_in(wanted.row)))


def manner_of(draw: Draw) -> Manner:
    """How a server is to draw from a request on. Its random numbers are its own: `seed` follows from the stream's
    place, for servers that keep to one."""
    place = f"{draw.seed} {draw.stream} {draw.counter}".encode()
    seed = int.from_bytes(blake2b(place, digest_size=8).digest()) >> 1
    return Manner(draw.temperature, draw.top_p, draw.top_k, draw.min_p, seed)


def choice_of(reply: Reply, server: Server) -> Outcome:
    """The likeliest choice; the earlier one where two are equal. Raises `ServerError` where nothing tells."""
    if not reply.logprobs:
        raise ServerError(f"the server at {server.url} does not tell the probabilities of an `ask` any more")
    return Outcome(reply.logprobs.index(max(reply.logprobs)), reply.logprobs)
