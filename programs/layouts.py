"""The paper's three layouts side by side, one program each."""

import hwlang as hw

PROBLEMS = "1) 47+38\n2) reverse tapso\n3) sort 5291\n4) 86-29"


def worker_at_work(w: hw.Worker) -> None:
    w.sees("{{problems}}")
    w.step("\n{{name}}: ", until=".")
    w.on("all taken", hw.stop(hw.me))


@hw.program
def contiguous(p: hw.ProgramBuilder, problems: str = PROBLEMS) -> None:  # others, self
    p.model("tiny")
    p.budget(200)
    team = p.worker("Alice", "Bob")
    worker_at_work(team)
    team.layout("contiguous")
    p.answer(team["Alice"])


@hw.program
def interleaved(p: hw.ProgramBuilder, problems: str = PROBLEMS) -> None:  # finished steps, self
    p.model("tiny")
    p.budget(200)
    history = p.scratchpad("history")
    team = p.worker("Alice", "Bob")
    worker_at_work(team)
    team.layout("interleaved")
    team.on(hw.step, hw.move(hw.me, to=history))
    p.answer(history)


@hw.program
def combined(p: hw.ProgramBuilder, problems: str = PROBLEMS) -> None:  # finished steps, others, self
    p.model("tiny")
    p.budget(200)
    history = p.scratchpad("history")
    team = p.worker("Alice", "Bob")
    worker_at_work(team)
    team.layout("combined")
    team.on(hw.step, hw.move(hw.me, to=history))
    p.answer(history)


if __name__ == "__main__":
    for program in (contiguous, interleaved, combined):
        print(program.name, program.run().passes)
