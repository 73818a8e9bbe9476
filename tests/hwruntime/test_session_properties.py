"""Random programs on random scripts: what a session says of its blocks is what a cache that obeys it holds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hwruntime.rows import Block, ClearBlock, MoveBlock, Row
from tests.play import Play

ACTIONS = [
    'say "said. "',
    'post "{{name}} posts. " to board',
    "move self to board",
    "move self to notes",
    "clear board",
    "clear notes",
    "pause self",
    "resume Ann",
    "resume Ben resume Cid",
    "pause Ben",
    "stop self",
    "stop Cid",
    'ask "well? " { "yes" { say "y " } "no" { post "n " to notes resume Ann } }',
]
TRIGGERS = ["step", "every 3 tokens", "every 5 passes", "every 2 steps", "start", "end", '"b"', "/c/", "chat"]


def rule(triggers: list[str], actions: list[str]) -> str:
    return f"on {' or '.join(triggers)} {{ {' '.join(actions)} }}"


RULES = st.builds(
    rule,
    st.lists(st.sampled_from(TRIGGERS), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3),
)
ANSWERS = st.sampled_from(["", "answer board", "answer Ann", 'answer /c(.)/ else "c"', "answer vote /a(.)/"])


@st.composite
def programs(draw: st.DrawFn) -> str:
    workers = [
        f"""worker {name} {"paused" if draw(st.booleans()) else ""} {{
          scratchpad notes = "N: "
          sees "Go. ", board, others, {"chat," if draw(st.booleans()) else ""} "mine: ", notes, self
          step {'"<{{name}} {{step}}> "' if draw(st.booleans()) else ""} until ".", "\\n"
          {'begin "Hi "' if draw(st.booleans()) else ""}
          {"max 20 tokens" if draw(st.booleans()) else ""}
          {" ".join(draw(st.lists(RULES, max_size=3)))}
          on chat {{ resume Ann resume Ben resume Cid }}
        }}"""
        for name in ("Ann", "Ben", "Cid")
    ]
    sync = draw(st.sampled_from(["", 'sync every 6 tokens { say "sync? " }']))
    declarations = 'stream chat scratchpad board = "B: "'
    return f"program p {{ budget 30 passes {declarations} {sync} {' '.join(workers)} {draw(ANSWERS)} }}"


SCRIPTS = st.fixed_dictionaries({name: st.text("abc .\n", max_size=25) for name in ("Ann", "Ben", "Cid", "answer")})
FEEDS = st.dictionaries(st.integers(0, 20), st.tuples(st.just("chat"), st.text("xy ", max_size=5)), max_size=3)


class Cache:
    """Holds what rows write and does what edits say."""

    def __init__(self, openings: list[Row]) -> None:
        self.blocks: dict[Block, list[int]] = {}
        for row in openings:
            self.write(row)

    def write(self, row: Row) -> None:
        self.blocks.setdefault(row.block, []).extend(row.tokens)

    def edit(self, edit: ClearBlock | MoveBlock) -> None:
        if isinstance(edit, ClearBlock):
            self.blocks[edit.block] = []
        else:
            self.blocks.setdefault(edit.target, []).extend(self.blocks[edit.source])
            self.blocks[edit.source] = []

    def holds_what_it_should(self) -> bool:
        return all(tokens == block.tokens for block, tokens in self.blocks.items() if block.kind != "throw-away")


@settings(max_examples=150, deadline=None)
@given(programs(), SCRIPTS, FEEDS, st.booleans())
def test_a_session_and_an_obedient_cache_agree(source, scripts, feeds, yes):
    game = Play(source, scripts, {"well?": "yes" if yes else "no"}, feeds=feeds)
    cache = Cache(game.session.openings)
    while game.step():
        for edit in game.edits[-1]:
            cache.edit(edit)
        for row in game.passes[-1]:
            assert row.tokens
            assert list(row.view).count(row.block) == 1
            cache.write(row)
    for edit in game.edits[-1]:
        cache.edit(edit)
    assert cache.holds_what_it_should()
    result = game.session.result("scripted")
    assert result.passes <= 30
    assert result.reason in ("answer", "stopped", "done", "budget", "stalled")
    assert len(game.passes) - result.passes - result.usage.finisher_passes in (0, 1)  # one for posts at the end
    spoken = dict.fromkeys(result.workers, "")
    for event in game.events:
        if event.kind in ("token", "say") and event.worker in spoken:
            spoken[event.worker] += event.text
    assert spoken == {name: worker.text for name, worker in result.workers.items()}
    assert sum(worker.steps for worker in result.workers.values()) == len(game.kinds("step"))


@settings(max_examples=50, deadline=None)
@given(programs(), SCRIPTS, FEEDS)
def test_a_run_can_be_repeated(source, scripts, feeds):
    first, second = (Play(source, scripts, feeds=feeds) for _ in range(2))
    assert first.run() == second.run()
    assert first.events == second.events
