"""Two workers reason about one problem in the paper's combined layout: finished steps, the others' work, their own."""

import sys

import hwlang as hw


def solver(w: hw.Worker, history: hw.Scratchpad) -> None:
    w.sees(
        hw.user("{{rules}}\n\n{{problem}}"),
        history,
        "### Work in progress (others)\n\n",
        hw.others,
        "<...>\n\n### Work in progress (own)\n\n",
        hw.me,
    )
    w.step("**{{name}} [{{step}}]:** ", until="\n\n", after_sentence=True)
    w.forbid("#", "</think>")
    w.on(hw.step, hw.move(hw.me, to=history))


@hw.program
def math(p: hw.ProgramBuilder, problem: str = "What is the sum of the first ten odd numbers?") -> None:
    p.model("Qwen/QwQ-32B")
    p.sampling(temperature=0.6, top_p=0.95)
    p.budget(4096)
    p.text("rules", file="rules.md")
    history = p.scratchpad("history")
    solver(p.worker("Alice", begin="Hi, I'm Alice. Here's how we can"), history)
    solver(p.worker("Bob", begin="Hi, I'm Bob."), history)
    p.sync(256, hw.say("Quick check: am I doing redundant work? (yes/no): "))
    p.answer(
        hw.regex(r"\\boxed\{([^}]*)\}"),
        otherwise="\n\nWait, given the limited time, the final answer is \\boxed{",
        max_tokens=16,
    )


if __name__ == "__main__":
    print(math.run(engine=hw.Engine(*sys.argv[1:] or ["Qwen/QwQ-32B"])).answer)
