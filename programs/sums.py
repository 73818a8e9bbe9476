"""Workers share one list of problems: each takes one, works it out in the open, publishes it, takes the next."""

import hwlang as hw

PROBLEMS = """\
1) 47+38
2) reverse tapso
3) sort 5291
4) 86-29
5) reverse lemon
6) 58+67
"""


def solver(w: hw.Worker, done: hw.Scratchpad) -> None:
    w.sees("{{problems}}", done, hw.others, hw.me)
    w.step("\n{{name}}: ", until=".")
    w.on(hw.step, hw.move(hw.me, to=done))
    w.on("all taken", hw.stop(hw.me))


@hw.program
def sums(p: hw.ProgramBuilder, problems: str = PROBLEMS, n: int = 2) -> None:
    p.model("tiny")
    p.sampling(temperature=0)
    p.budget(400)
    done = p.scratchpad("done")
    solver(p.workers(n, "Alice", "Bob", "Carol", "Dave"), done)
    p.answer(done)


if __name__ == "__main__":
    print(sums.run().answer)
