"""Lowering: what the runtime reads is what the program says."""

import json
from pathlib import Path

import pytest

from hwlang.checker import check_file, check_text
from hwlang.lowering import lower
from hwruntime import program as data
from hwruntime.program import Hole, Program, Text
from tests.hwlang.programs import DESIGN, in_program, in_worker

PARITY = sorted((Path(__file__).parents[1] / "parity").glob("*.hw"))
PROGRAMS = sorted((Path(__file__).parents[2] / "programs").glob("*.hw"))


def compiled(source: str, folder: Path | None = None) -> Program:
    checked = check_text(source, folder=folder)
    checked.raise_on_errors()
    return Program.from_json(lower(checked.programs[0]))


def text(value: str) -> Text:
    return Text((value,))


@pytest.mark.parametrize("path", [DESIGN, *PARITY, *PROGRAMS], ids=lambda path: path.name)
def test_what_is_written_is_what_is_read(path: Path) -> None:
    checked = check_file(path)
    assert not checked.errors
    for resolved in checked.programs:
        written = lower(resolved)
        read = Program.from_json(json.loads(json.dumps(written)))
        assert read.to_json() == written
        assert Program.from_json(read.to_json()) == read


def test_the_first_program_of_the_design_page() -> None:
    math = Program.from_json(lower(check_file(DESIGN).programs[0]))
    rules = "Work together. Do not repeat what the others do.\n"
    alice, bob = math.workers
    assert (math.name, math.model, math.budget) == ("math", "Qwen/QwQ-32B", 4096)
    assert math.sampling == data.Sampling(temperature=0.6, top_p=0.95)
    assert (alice.name, alice.begin) == ("Alice", text("Hi, I'm Alice. Here's how we can"))
    assert (
        alice.sees
        == bob.sees
        == (
            data.Constant("user", Text((rules, "\n\n", Hole("problem")))),
            data.PadEntry("history"),
            data.Constant("text", text("### Work in progress (others)\n\n")),
            data.OthersEntry(),
            data.Constant("text", text("<...>\n\n### Work in progress (own)\n\n")),
            data.SelfEntry(),
        )
    )
    assert alice.step == data.Step(
        Text(("**", Hole("name"), " [", Hole("step"), "]:** ")), (text("\n\n"),), after_sentence=True
    )
    assert alice.rules == (data.Rule((data.AtStep(),), (data.Move("history"),)),)
    assert math.syncs[0].every == 256
    assert math.answer == data.Answer(
        "regex",
        r"\\boxed\{([^}]*)\}",
        text("\n\nWait, given the limited time, the final answer is \\boxed{"),
        16,
    )


def test_the_third_program_of_the_design_page() -> None:
    live = Program.from_json(lower(check_file(DESIGN).programs[2]))
    thinker, writer = live.workers
    assert live.streams == ("user",)
    assert thinker.sees[2:4] == (data.StreamEntry("user"), data.WorkerEntry("Writer"))
    assert writer.paused
    assert not thinker.paused
    assert data.Constant("text", text("[more thoughts]\n</think>\n"), in_context=True) in writer.sees
    ask = thinker.rules[0].actions[0]
    assert isinstance(ask, data.Ask)
    assert [choice.actions for choice in ask.choices] == [(data.Resume("Writer"),), (data.Pause("Writer"),)]
    assert writer.rules[1] == data.Rule((data.AtEnd(),), (data.Stop(),))


OPENING = data.Constant("user", Text((Hole("topic"),)))


@pytest.mark.parametrize(
    ("layout", "want"),
    [
        ("contiguous", (OPENING, data.OthersEntry(), data.SelfEntry())),
        ("interleaved", (OPENING, data.PadEntry("history"), data.SelfEntry())),
        ("combined", (OPENING, data.PadEntry("history"), data.OthersEntry(), data.SelfEntry())),
        (
            'combined before others "O" before self "S"',
            (
                OPENING,
                data.PadEntry("history"),
                data.Constant("text", text("O")),
                data.OthersEntry(),
                data.Constant("text", text("S")),
                data.SelfEntry(),
            ),
        ),
    ],
)
def test_layouts_are_written_out(layout: str, want: tuple[data.Entry, ...]) -> None:
    source = in_program('scratchpad history = "-" scratchpad board = "-"', f'user "{{{{topic}}}}" layout {layout}')
    assert compiled(source).workers[0].sees == want


def test_the_only_scratchpad_is_the_history_whatever_its_name() -> None:
    source = in_program('scratchpad done = "-"', 'user "{{topic}}" layout interleaved')
    assert compiled(source).workers[0].sees[1] == data.PadEntry("done")


def test_a_worker_overrides_what_its_role_says_once_and_adds_to_the_rest() -> None:
    source = """
      role base {
        sees "role", self
        step until "."
        begin "role"
        max 5 tokens
        sampling { temperature 1 top_p 0.5 }
        forbid "a"
        stop at "b"
        on start { say "role" }
      }
      program p {
        worker Ann is base {
          sees "own", self
          begin "own"
          sampling { temperature 0 }
          forbid "c"
          on start { say "own" }
        }
      }"""
    (ann,) = compiled(source).workers
    assert ann.sees[0] == data.Constant("text", text("own"))
    assert (ann.begin, ann.max_tokens) == (text("own"), 5)
    assert ann.sampling == data.Sampling(temperature=0.0, top_p=0.5)
    assert ann.forbid == (text("a"), text("c"))
    assert ann.stop_at == (text("b"),)
    assert [rule.actions for rule in ann.rules] == [(data.Say(text("role")),), (data.Say(text("own")),)]


def test_a_view_of_the_workers_own_replaces_the_layout_of_its_role() -> None:
    source = 'role r { sees "a" layout contiguous }\nprogram p { worker Ann is r { sees "b", self } worker Ben is r }'
    ann, ben = compiled(source).workers
    assert ann.sees == (data.Constant("text", text("b")), data.SelfEntry())
    assert ben.sees == (data.Constant("text", text("a")), data.OthersEntry(), data.SelfEntry())


def test_a_layout_of_the_workers_own_takes_its_opening_from_the_role() -> None:
    source = 'role r { sees "a" }\nprogram p { worker Ann is r { layout contiguous } }'
    assert compiled(source).workers[0].sees == (data.Constant("text", text("a")), data.OthersEntry(), data.SelfEntry())


def test_texts_are_written_into_texts() -> None:
    source = in_program('text all = "<{{one}}{{topic}}>"\ntext one = "{{name}}!"', 'all, "{{all}}", topic, self')
    parts = ("<", Hole("name"), "!", Hole("topic"), ">")
    assert compiled(source).workers[0].sees[:3] == (
        data.Constant("text", Text(parts)),
        data.Constant("text", Text(parts)),
        data.Constant("text", Text((Hole("topic"),))),
    )


def test_the_contents_of_files_are_literal(tmp_path: Path) -> None:
    (tmp_path / "rules.md").write_text("{{topic}} \\n", newline="")
    source = in_program('text rules = file "rules.md"', 'user "{{rules}}{{topic}}", self')
    assert compiled(source, tmp_path).workers[0].sees[0] == data.Constant(
        "user", Text(("{{topic}} \\n", Hole("topic")))
    )


def test_imported_roles_read_next_to_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "roles.hw").write_text('import "more.hw"\nrole a { sees "a", self json "s.json" }')
    (tmp_path / "lib" / "more.hw").write_text('role b { sees "b", self }')
    (tmp_path / "lib" / "s.json").write_text('{"type": "object"}')
    source = 'import "lib/roles.hw"\nprogram p { worker Ann is a worker Ben is b }'
    ann, ben = compiled(source, tmp_path).workers
    assert ann.constraint == data.Constraint("json", '{"type": "object"}')
    assert ben.sees[0] == data.Constant("text", text("b"))


def test_groups_and_worker_order() -> None:
    source = (
        'role r { sees "a", self }\nprogram p(n: int) { worker Zoe is r workers n of Ann, Ben is r worker Ada is r }'
    )
    read = compiled(source)
    assert [worker.name for worker in read.workers] == ["Zoe", "Ann", "Ben", "Ada"]
    assert read.groups == (data.Group("n", ("Ann", "Ben")),)


def test_parameters() -> None:
    params = 'a: str, b: int = 2, c: float = 2, d: bool = false, e: str = "x\\n"'
    source = f"program p({params}) {{ worker A {{ sees a, b, c, d, e, self }} }}"
    assert compiled(source).params == (
        data.Param("a", "str"),
        data.Param("b", "int", 2),
        data.Param("c", "float", 2.0),
        data.Param("d", "bool", False),
        data.Param("e", "str", "x\n"),
    )


def test_a_scratchpad_of_the_worker_is_its_own() -> None:
    source = in_program("", 'user "{{topic}}", self').replace("sees", 'scratchpad notes = "{{name}}" sees notes,')
    (ann,) = compiled(source).workers
    assert ann.pads == (data.Pad("notes", Text((Hole("name"),))),)
    assert ann.sees[0] == data.PadEntry("notes")


def test_spans_are_kept() -> None:
    (ann,) = compiled(in_worker('    on step { say "Hi {{name}}" }')).workers
    say = ann.rules[0].actions[0]
    assert isinstance(say, data.Say)
    assert say.span == data.Span(5, 15, 5, 32)
    hole = say.text.parts[1]
    assert isinstance(hole, Hole)
    assert hole.span == data.Span(5, 23, 5, 31)


def test_spans_of_imported_roles_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "roles.hw").write_text(
        'role r { sees "a", "{{rules}}", board, self begin "{{name}}" on start { stop } }'
    )
    source = """
      import "roles.hw"
      program p {
        text rules = "{{workers}}"
        scratchpad board = "x"
        worker Ann is r { on end { stop } }
      }"""
    (ann,) = compiled(source, tmp_path).workers
    assert ann.span == data.Span(6, 16, 6, 19)
    assert [entry.span for entry in ann.sees] == [None] * 4
    text = ann.sees[1].text
    assert (text.span, text.parts[0].span) == (None, data.Span(4, 23, 4, 34))  # its hole is the program's
    assert (ann.begin.span, ann.begin.parts[0].span) == (None, None)
    imported, own = ann.rules
    assert (imported.span, imported.triggers[0].span, imported.actions[0].span) == (None, None, None)
    assert (own.span, own.actions[0].span) == (data.Span(6, 27, 6, 42), data.Span(6, 36, 6, 40))


def test_schemas_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "roles.hw").write_text('role a { sees "a", self json "s.json" }')
    (tmp_path / "lib" / "s.json").write_text('{"type": "object"}')
    (tmp_path / "s.json").write_text('{"type": "array"}')
    source = 'import "lib/roles.hw"\nprogram p { worker Ann is a worker Ben { sees "b", self json "s.json" } }'
    ann, ben = compiled(source, tmp_path).workers
    assert ann.constraint == data.Constraint("json", '{"type": "object"}')
    assert ben.constraint == data.Constraint("json", '{"type": "array"}')
