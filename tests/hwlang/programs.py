"""Small programs for the tests of the language."""

from pathlib import Path

DATA = Path(__file__).parent / "data"
DESIGN = DATA / "design.hw"  # the three programs of the design page


def in_worker(clauses: str, declarations: str = "") -> str:
    """A program whose only worker, Ann, has steps, a view and these clauses (they begin on line 5)."""
    return (
        "program example(topic: str) {\n"
        f"  {declarations}\n"
        '  worker Ann { step until "."\n'
        '    sees user "{{topic}}", self\n'
        f"{clauses}\n"
        "  }\n"
        "}\n"
    )


def in_program(declarations: str, entries: str = 'user "{{topic}}", self') -> str:
    """A program with these declarations (they begin on line 2) and one worker that sees these entries."""
    return f"program example(topic: str) {{\n{declarations}\n  worker Ann {{ sees {entries} }}\n}}\n"
