"""The checker: each check finds its slip, at its place, and says nothing about programs that are right."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwlang import syntax
from hwlang.checker import Checked, check_file, check_text, check_tree
from hwlang.diagnostics import CompileError, Source
from hwlang.lowering import lower
from tests.hwlang.programs import DESIGN, in_program, in_worker
from tests.hwlang.test_parser import PIECES, SOURCE
from tests.properties import examples


def found(checked: Checked) -> list[str]:
    """What was found, as `CODE line:column`."""
    return [f"{d.code} {d.span.line}:{d.span.column}" for d in checked.diagnostics]


def check(source: str) -> list[str]:
    return found(check_text(source))


def test_the_design_page_has_no_problems() -> None:
    assert found(check_file(DESIGN)) == []


@pytest.mark.parametrize(
    ("clauses", "want"),
    [
        # names
        ("    on step { move self to nowhere }", ["HW101 5:28"]),
        ("    on step { resume Bob }", ["HW101 5:22"]),
        ("    on nowhere { pause self }", ["HW101 5:8"]),
        ("    scratchpad topic", ["HW102 5:16"]),
        ('    scratchpad a = "x" scratchpad a = "y" on start { post "z" to a }', ["HW102 5:35"]),
        ('    begin "a" begin "b"', ["HW103 5:15"]),
        ('    match /a/ json "x.json"', ["HW103 5:15"]),
        ("    sampling { top_p 1 top_p 0.5 }", ["HW103 5:24"]),
        ("    scratchpad notes", ["HW105 5:16"]),
        ("    on step { pause topic }", ["HW106 5:21"]),
        ('    on step { post "x" to topic }', ["HW106 5:27"]),
        # holes
        ('    begin "{{topik}}"', ["HW107 5:12"]),
        ('    begin "{{name}} {{step}} {{workers}} {{topic}}"', []),
        ('    forbid "{{step}}"', ["HW107 5:13"]),
        ('    on step { say "{{1}}" }', ["HW307 5:20"]),
        ('    on /(a)(b)/ { say "{{1}} {{2}}" }', []),
        ('    on /(a)(b)/ { say "{{3}}" }', ["HW307 5:24"]),
        ('    on /(a)/ { say "{{0}}" }', ["HW307 5:21"]),
        ('    on /(a)(b)/ or /(c)/ { say "{{2}}" }', ["HW307 5:33"]),
        ('    on /(a)/ or step { say "{{1}}" }', ["HW307 5:29"]),
        ('    on /(a)/ { ask "{{1}}?" { "yes" { post "{{1}}" to self_ } "no" {} } } scratchpad self_', []),
        # views and blocks
        ('    on step { post "x" to Ann }', ["HW202 5:27"]),
        # triggers
        ("    on every 2 steps or every 3 tokens at step { pause self }", []),
        ('    on start { ask "?" { "a" {} } }', ["HW303 5:26"]),
        ('    on start { ask "?" { } }', ["HW303 5:16"]),
        ('    on start { ask "?" { "a" {} "b" { } "a" {} } }', ["HW304 5:41"]),
        ("    on start { stop stop }", ["HW305 5:21"]),
        ("    on start { stop self stop }", []),
        ("    on start { }", ["HW306 5:5"]),
        ("    on /x?/ { stop }", ["HW308 5:8"]),
        # values
        ("    max 0 tokens", ["HW406 5:9"]),
        ("    on every 0 tokens { stop }", ["HW406 5:14"]),
        ("    sampling { temperature -0.1 }", ["HW406 5:28"]),
        ("    sampling { top_p 0 }", ["HW406 5:22"]),
        ("    sampling { top_p 1.1 }", ["HW406 5:22"]),
        ("    sampling { top_k 0 }", ["HW406 5:22"]),
        ("    sampling { min_p 2 }", ["HW406 5:22"]),
        ("    sampling { seed -1 }", ["HW406 5:21"]),
        ("    sampling { temperature 0 top_p 1 top_k 1 min_p 0 seed 0 }", []),
        ("    match /(/", ["HW408 5:11"]),
        ("    on /[/ { stop }", ["HW408 5:8"]),
        ("    match /" + "(" * 5000 + ")" * 5000 + "/", ["HW408 5:11"]),
        ('    forbid "", "a"', ["HW409 5:12"]),
        ('    on "" { stop }', ["HW409 5:8"]),
        ('    on start { ask "?" { "" {} "b" {} } }', ["HW409 5:26"]),
        # files
        ('    json "x.json"', ["HW402 5:10"]),
        ('    json "{{topic}}.json"', ["HW107 5:11"]),
    ],
)
def test_clauses(clauses: str, want: list[str]) -> None:
    assert check(in_worker(clauses)) == want


@pytest.mark.parametrize(
    ("declarations", "entries", "want"),
    [
        # names
        ('scratchpad a = "x"', 'a, "{{topic}}", b, self', ["HW101 3:37"]),
        ('text a = "x"', "topic, self", ["HW105 2:6"]),
        ("stream a", "topic, self", ["HW105 2:8"]),
        ("stream a", "topic, a, self", []),
        ('text topic = "x"', "topic, self", ["HW102 2:6"]),
        ("scratchpad Ann", "topic, self", ["HW102 3:10"]),
        ('text a = "x" stream a', "topic, a, self", ["HW102 2:21"]),
        ('model "a" model "b"', "topic, self", ["HW103 2:11"]),
        ("answer Ann answer Ann", "topic, self", ["HW103 2:12"]),
        ("stream others", "topic, others, self", ["HW104 2:8"]),
        ("answer topic", "topic, self", ["HW106 2:8"]),
        ("answer nothing", "topic, self", ["HW101 2:8"]),
        ('model "{{topic}}"', "topic, self", ["HW107 2:8"]),
        ('scratchpad a = "{{name}}"', "topic, a, self", ["HW107 2:17"]),
        ('answer Ann else "{{name}}"', "topic, self", ["HW107 2:18"]),
        ("stream a", '"{{a}}", topic, a, self', ["HW107 3:22"]),
        ("", 'topic, "{{step}}", self', ["HW107 3:29"]),
        ('text a = "{{step}}"', "topic, a, self", ["HW107 3:28"]),
        ('text a = "{{nope}}"', 'topic, a, "{{a}}", self', ["HW107 2:11"]),
        ('text a = "{{a}}"', "topic, a, self", ["HW108 2:11"]),
        ('text a = "{{b}}" text b = "{{c}}" text c = "{{b}}"', "topic, a, self", ["HW108 2:45"]),
        # views and blocks
        ("", 'topic', ["HW201 3:21"]),
        ("", 'self, topic', ["HW201 3:21"]),
        ("", 'topic, self, self', ["HW201 3:34"]),
        ("", 'topic, Ann, self', ["HW201 3:28"]),
        ("scratchpad a", 'topic, a, self', ["HW204 2:12"]),
        ('scratchpad a = "x"', 'topic, a, self', []),
        ("scratchpad a answer a", 'topic, self', ["HW204 2:12"]),
        ("", 'topic, self layout contiguous', ["HW206 3:33"]),
        ("", 'topic layout interleaved', ["HW206 3:27"]),
        ("scratchpad a scratchpad b", 'topic layout combined', ["HW105 2:12", "HW105 2:25", "HW206 3:27"]),
        ('scratchpad a = "x"', 'topic layout interleaved before others "x"', ["HW206 3:60"]),
        ("stream a", 'topic, a, a, self', ["HW207 3:31"]),
        ("", 'topic, topic, self', []),
        ('worker Ben { sees "b", self }', 'topic, Ben, others, self', ["HW207 3:28"]),
        ('worker Ben { sees "b", self }', 'topic, others, others, self', ["HW207 3:36"]),
        # sync and answer
        ("sync every 0 tokens { stop }", "topic, self", ["HW301 2:1", "HW406 2:12"]),
        ("answer vote /(/", "topic, self", ["HW408 2:13"]),
        ('answer Ann else "So" max 0 tokens', "topic, self", ["HW406 2:26"]),
        ("budget 0 passes", "topic, self", ["HW406 2:8"]),
        ('model ""', "topic, self", ["HW409 2:7"]),
        ('text a = file "/etc/hostname"', "topic, a, self", ["HW402 2:15"]),
    ],
)  # fmt: skip
def test_declarations(declarations: str, entries: str, want: list[str]) -> None:
    assert check(in_program(declarations, entries)) == want


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("program p { }", ["HW208 1:9"]),
        ("role r { }", []),
        ('role r { sees "a", self } role r { sees "a", self }', ["HW102 1:32"]),
        ('role r { sees "a", self }\nprogram p { worker A { sees "a", self } }', ["HW105 1:6"]),
        ('program p { worker A { sees "a", self } }\nprogram p { worker A { sees "a", self } }', ["HW102 2:9"]),
        ('program p { worker A, A { sees "a", self } }', ["HW202 1:23"]),
        ("program p { worker A is nobody }", ["HW101 1:25"]),
        ("program p { worker A }", ["HW205 1:20"]),
        ("program p { worker A { layout contiguous } }", ["HW205 1:20"]),
        ('program p { workers 3 of A, B { sees "a", self } }', ["HW208 1:21"]),
        ('program p(n: int = 3) { workers n of A, B { sees "a", self } }', ["HW208 1:20"]),
        ('program p(n: int = 2) { workers n of A, B { sees "a", self } }', []),
        ('program p(n: str) { workers n of A, B { sees "a", self } }', ["HW106 1:29"]),
        ('program p { workers m of A, B { sees "a", self } }', ["HW101 1:21"]),
        ("program p(n: int = 1.5) { worker A { sees n, self } }", ["HW407 1:20"]),
        ("program p(n: float = 1) { worker A { sees n, self } }", []),
        ("program p(n: bool = 1) { worker A { sees n, self } }", ["HW407 1:21"]),
        ('program p(n: str = "{{n}}") { worker A { sees n, self } }', ["HW107 1:21"]),
        ('program p { worker A { sees "a", self on step or every 2 steps { stop } } }', ["HW301 1:42"]),
        ('program p { worker A { sees "a", self on every 2 tokens at step { stop } } }', ["HW301 1:42"]),
        ('program p { worker A { sees "a", self on A { stop } } }', ["HW301 1:42"]),
        # private scratchpads
        ('program p { worker A { scratchpad n = "x" sees n, self }\n'
         ' worker B { sees "b", self on start { post "x" to n } } }',
         ["HW203 2:51"]),
        ('program p { answer n worker A { scratchpad n = "x" sees n, self } }', ["HW203 1:20"]),
        ("program p { worker A { scratchpad n sees n, self } }", ["HW209 1:20", "HW204 1:35"]),
        ('program p { worker A { scratchpad n sees "a", n, self } }', ["HW204 1:35"]),
        ('program p { worker A, B { scratchpad n = "x" sees n, self } }', []),
        # paused workers
        ('program p { worker A paused { sees "a", self } }', ["HW302 1:20"]),
        ('program p { worker A { sees "a", self paused } }', ["HW302 1:20"]),
        ('program p { worker A { sees "a", self on end { resume B } } worker B paused { sees "b", self } }', []),
        ('program p { worker A paused { sees "a", self on end { resume B } }\n'
         'worker B paused { sees "b", self on end { resume A } } }', ["HW302 1:20", "HW302 2:8"]),
        ('program p { stream s worker A paused { sees s, self on s { resume self } } }', []),
        ('program p { worker A paused { sees "a", self on "x" { resume self } } }', ["HW302 1:20"]),
        ('program p { worker A { sees "a", self on start { ask "?" { "y" { resume B } "n" {} } } }\n'
         'worker B paused { sees "b", self } }', []),
        ('program p { worker A { sees "a", self step until "." } sync every 9 tokens { resume B }\n'
         'worker B paused { sees "b", self step until "." } }', []),
    ],
)  # fmt: skip
def test_programs(source: str, want: list[str]) -> None:
    assert check(source) == want


def test_a_slip_in_a_role_is_told_once_however_many_workers_share_it() -> None:
    role = 'role r { sees "{{nope}}", nowhere, self max 0 tokens }\n'
    source = role + 'program p { worker A, B is r worker C is r {} worker D is r { begin "D" } }'
    assert check(source) == ["HW107 1:16", "HW101 1:27", "HW406 1:45"]


@pytest.mark.parametrize(
    ("source", "want"),
    [
        # a name that is not there, wherever it is used: in rules, as the answer, in tests
        ('program p { worker A { sees "a", b, self on "x" { move self to b resume b } } answer b }\n'
         'test p "t" { says b "x" expect b "y" }\ntest p "u" { expect b "y" }', ["HW101 1:34"]),
        # in tests alone
        ('program p { worker A { sees "a", self } }\ntest p "t" { says B "x" expect B "y" }\n'
         'test p "u" { expect B "y" expect C "z" }', ["HW602 2:19", "HW602 3:34"]),
        # a role, in several programs
        ("program p { worker A is r }\nprogram q { worker B is r worker C is s }", ["HW101 1:25", "HW101 2:39"]),
        # what is declared by a word of the language may be what is meant
        ('program p { scratchpad step worker A { sees "a", notes, self on "x" { move self to notes } } }\n'
         'test p "t" { expect notes "x" }', ["HW104 1:24"]),
        ('program p { scratchpad step scratchpad notes worker A { sees "a", notes, self on "x" { clear note } } }',
         ["HW101 1:94", "HW104 1:24"]),
        ('role self { sees "a", self }\nprogram p { worker A is r }\ntest p "t" { expect A "x" }', ["HW104 1:6"]),
        ('program p(on: str) { worker A { sees user "{{topic}}", self } }', ["HW104 1:11"]),
    ],
)  # fmt: skip
def test_a_name_is_told_once(source: str, want: list[str]) -> None:
    assert sorted(check(source)) == want


def test_the_other_uses_of_a_name_are_labels() -> None:
    source = 'program p { worker A { sees "a", self } }\ntest p "t" { says B "x" expect B "y" }'
    (problem,) = check_text(source).diagnostics
    assert [(label.span.start, label.text) for label in problem.labels] == [((2, 32), "used here, too")]


def test_independent_problems_are_told_in_one_go() -> None:
    source = in_worker('    begin "\\q"\n    max 0 tokens\n    on step { say "{{1}}" move self to nowhere }')
    assert check(source) == ["HW005 5:12", "HW406 6:9", "HW307 7:20", "HW101 7:40"]


def test_an_unknown_name_does_not_make_others_unused() -> None:
    source = in_worker("    on step { move self to bord }", "scratchpad board")
    assert check(source) == ["HW101 5:28"]


@pytest.mark.parametrize(
    ("source", "help"),
    [
        (in_worker("    on stpe { stop }"), "did you mean `step`?"),
        (in_worker('    begin "{{topik}}"'), "did you mean `topic`?"),
        (in_program("", "topic, slef"), "did you mean `self`?"),
        (in_worker("    on step { move self to bord }", "scratchpad board"), "did you mean `board`?"),
        ('role solver { sees "a", self }\nprogram p { worker A is slover }', "did you mean `solver`?"),
    ],
)
def test_guesses(source: str, help: str) -> None:
    assert help in [d.help for d in check_text(source).diagnostics]


def test_raise_on_errors_lets_warnings_pass() -> None:
    check_text(in_worker("    on start { }")).raise_on_errors()
    with pytest.raises(CompileError):
        check_text(in_worker("    max 0 tokens")).raise_on_errors()


def test_a_tree_that_was_built_in_python_is_checked_in_the_same_way() -> None:
    own = (syntax.Constant(syntax.String(("Go.",))), syntax.Own())
    worker = syntax.Worker((syntax.Name("A"),), body=syntax.Body((syntax.Sees(own),)))
    tree = syntax.File((syntax.Program(syntax.Name("p"), declarations=(worker,)),))
    checked = check_tree(tree, Source("p.py", ""))
    assert checked.diagnostics == ()
    want = check_text('program p { worker A { sees "Go.", self } }', "p.py")
    assert checked.tree == want.tree
    assert "span" not in lower(checked.programs[0])
    bad = check_tree(syntax.File((syntax.Program(syntax.Name("p")),)), Source("p.py", ""))
    assert [d.code for d in bad.diagnostics] == ["HW208"]


# --- Whatever comes --------------------------------------------------------------------------------------------------


def answers(source: str) -> None:
    """The text is checked without an exception, and lowered if it has no errors."""
    checked = check_text(source, folder=DESIGN.parent)
    assert all(d.render() and d.to_json() for d in checked.diagnostics)
    for program in checked.programs if not checked.errors else ():
        lower(program)


@given(st.integers(0, len(SOURCE)), st.integers(0, 40), st.sampled_from(PIECES))
@examples(150)
def test_a_valid_program_with_a_piece_replaced(start: int, length: int, piece: str) -> None:
    answers(SOURCE[:start] + piece + SOURCE[start + length :])


WORDS = sorted({word for word in SOURCE.split() if word.isidentifier()})


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)), min_size=1, max_size=3))
@examples(150)
def test_a_valid_program_with_words_exchanged(pairs: list[tuple[str, str]]) -> None:
    source = SOURCE
    for old, new in pairs:
        source = source.replace(old, new)
    answers(source)


def workers(count: int, body: str = "") -> str:
    return "program p {\n" + "".join(f"worker A{i} is r {body}\n" for i in range(count)) + "}\n"


def chain(count: int, value: str) -> str:
    """Texts that are each made of the next one."""
    texts = [f'text t{i} = "{value.replace("?", f"{{{{t{i + 1}}}}}")}"\n' for i in range(count)]
    return in_program("".join(texts) + f'text t{count} = "."', "topic, t0, self")


ROLE = 'role r { sees user "Go.", others, self step until "." on step { say "{{name}}" } }\n'
LARGE_ROLE = 'role r { sees "a", self ' + 'on "x" { say "y" }\n' * 2_900 + "}\n"
LARGE = {
    "workers": (ROLE + workers(7_000), set()),
    "bodies": (ROLE + workers(3_500, '{ begin "Hi" }'), set()),
    "rules at the start": (
        "role r { sees others, self on start { pause self } "
        + "on start { resume A0 pause A1 }\n" * 2_500
        + "}\n"
        + workers(2_000),
        set(),
    ),
    "large role": (LARGE_ROLE + workers(1_400, '{ begin "Hi" }'), {"HW008"}),
    "large text": (in_program('text a = "' + "{{name}}" * 9_000 + '"', "topic, " + "a, " * 9_000 + "self"), {"HW008"}),
    "long chain of texts": (chain(5_900, "?"), set()),
    "billion laughs": (chain(60, "??"), {"HW008"}),
    "large texts in one": (
        in_program('text a = "' + "{{b}}" * 20_000 + '" text b = "' + "{{name}}" * 9_000 + '"', "topic, a, self"),
        {"HW008"},
    ),
    "unknown names": (in_program("", "topic, " + ", ".join(f"x{i}" for i in range(10_000)) + ", self"), {"HW101"}),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_programs_are_checked_in_time(name: str) -> None:
    source, codes = LARGE[name]
    start = time.process_time()
    assert {d.code for d in check_text(source).diagnostics} == codes
    assert time.process_time() - start < 4  # seconds; half of that at most on an idle machine
