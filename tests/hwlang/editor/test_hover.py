"""What is said of a place."""

import pytest

from hwlang.diagnostics import Source
from hwlang.editor.hover import hover
from hwlang.editor.index import analyse

TEXT = """\
role r { sees "{{name}}", pad, self step until "." on step { move self to pad } }
program p(topic: str) { # the worker
  scratchpad pad = "{{topic}}"
  worker Ann, Ben paused is r
}
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("to ", "scratchpad `pad` of program p, line 3"),
        ("{{", "the worker's name"),
        ("is ", "role `r`, line 1"),
        ("Ann, ", "worker Ann, Ben paused is r"),
        ("Ann", "**HW302**"),
        ("  worker Ann, Ben ", "until another one resumes it"),
        ("  scratch", "`move` and `post`"),
    ],
)
def test_names_words_and_problems_are_explained(before: str, said: str) -> None:
    found = hover(analyse(Source("x.hw", TEXT)), TEXT.index(before) + len(before))
    assert found
    assert said in found.text


@pytest.mark.parametrize("inside", ["the worker", '"."', "\n}"])
def test_comments_and_texts_say_nothing(inside: str) -> None:
    assert hover(analyse(Source("x.hw", TEXT)), TEXT.index(inside) + 1) is None
