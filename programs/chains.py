"""Problems that use results of others: a worker reads what it needs from whoever finds it, does another meanwhile."""

import hwlang as hw

PROBLEMS = """\
1) 47+38
2) reverse tapso
3) #1+17
4) sort 5291
5) reverse #2
6) #1-29
7) reverse #4
8) count a in banana
"""


def solver(w: hw.Worker, done: hw.Scratchpad) -> None:
    w.sees("{{problems}}", done, hw.others, hw.me)
    w.step("\n{{name}}: ", until=".")
    w.on(hw.step, hw.move(hw.me, to=done))
    w.on("all taken", hw.stop(hw.me))


@hw.program
def chains(p: hw.ProgramBuilder, problems: str = PROBLEMS, n: int = 2) -> None:
    p.model("tiny")
    p.sampling(temperature=0)
    p.budget(400)
    done = p.scratchpad("done")
    solver(p.workers(n, "Alice", "Bob", "Carol", "Dave"), done)
    p.sync(64, hw.say("Quick check: am I doing redundant work? (yes/no): "))
    p.answer(done)


if __name__ == "__main__":
    print(chains.run().answer)
