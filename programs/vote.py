"""Five workers who cannot see one another answer the same question at random; the majority of their answers wins."""

import hwlang as hw


@hw.program
def vote(p: hw.ProgramBuilder, problem: str = "1) 47+38") -> None:
    p.model("tiny")
    p.sampling(temperature=1.5)
    p.budget(60)
    voters = p.worker("A", "B", "C", "D", "E")
    voters.sees("{{problem}}", hw.me)
    voters.step("\nAlice: ", until=".")  # the voice that `tiny` knows for a worker by itself
    p.answer(hw.vote(r"(\w+)\)?$"))


if __name__ == "__main__":
    print(vote.run().answer)
