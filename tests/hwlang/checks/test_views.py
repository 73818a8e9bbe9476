"""Views: a worker that runs from the start has a text to start from. (What else can be wrong: test_checker.)"""

import pytest

from hwlang.checker import check_text


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("program p { worker A { sees self } }", ["HW209 1:20"]),
        ('program p { worker A { sees others, self } worker B { sees "b", A, self } }', ["HW209 1:20"]),
        ("program p { stream s worker A { sees s, self } }", ["HW209 1:29"]),
        ('program p { worker A { sees "", self begin "" step "" until "." } }', ["HW209 1:20"]),
        ('program p { worker A { sees user "", self } }', []),
        ("program p(q: str) { worker A { sees q, self } }", []),
        ('program p { text t = "t" worker A { sees t, self } }', []),
        ('program p { text t = file "no.md" worker A { sees t, self } }', ["HW402 1:27"]),
        ('program p { worker A { sees in context "a", self } }', []),
        ('program p { scratchpad a = "x" worker A { sees a, self } }', []),
        ("program p { scratchpad a worker A { sees a, self on start { move self to a } } }", ["HW209 1:33"]),
        ('program p { scratchpad a = "x" worker A { scratchpad b sees b, self on start { move self to b } } answer a }',
         ["HW209 1:39"]),
        ("program p { worker A { sees nobody, self } }", ["HW101 1:29"]),
        ("program p { worker A is r }", ["HW101 1:25"]),
        ('program p { worker A { sees self begin "a" } }', []),
        ('program p { worker A { sees self step "a" until "." } }', []),
        ('program p { worker A { sees self step until "." } }', ["HW209 1:20"]),
        ('program p { worker A { sees self on start { say "a" } } }', []),
        ('program p { worker A { sees self on start { ask "?" { "y" { say "a" } "n" { } } } } }', ["HW209 1:20"]),
        ('program p { worker A { sees self on "a" { say "a" } } }', ["HW209 1:20"]),
        ('program p { worker A paused { sees self } worker B { sees "b", self on end { resume A } } }', []),
        ("role r { sees others, self }\nprogram p { worker A, B is r worker C is r }", ["HW209 2:20"]),
        ('role r { sees others, self }\nprogram p { worker A paused is r worker B is r worker C is r { begin "c"\n'
         "on end { resume A } } }", ["HW209 2:41"]),
        ("program p { worker A { sees self on start { pause self } } }", []),
        ("program p { worker A { sees self on start { stop self } } }", []),
        ('program p { worker A { sees self } worker B { sees "b", self on start { pause A } } }', []),
        ('program p { worker A { sees self } worker B { sees "b", self on start { stop } } }', []),
        ('program p { worker A { sees self } worker B { sees "b", self on end { pause A } } }', ["HW209 1:20"]),
    ],
)  # fmt: skip
def test_every_worker_has_something_to_start_from(source: str, want: list[str]) -> None:
    assert [f"{d.code} {d.span.line}:{d.span.column}" for d in check_text(source).diagnostics] == want
