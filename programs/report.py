"""A planner splits the job and wakes two writers, who keep private notes and publish single lines to a shared board."""

import sys

import hwlang as hw


@hw.program
def report(p: hw.ProgramBuilder, topic: str = "why bread rises") -> None:
    board = p.scratchpad("board")

    planner = p.worker("Planner")
    planner.sees(hw.user("Split {{topic}} between {{workers}}. End with PLAN DONE."), board, hw.me)
    planner.on("PLAN DONE", hw.resume("Ann"), hw.resume("Ben"))

    writers = p.worker("Ann", "Ben", paused=True)
    notes = writers.scratchpad("notes")
    task = hw.user(f"Your topic: {topic}. Publish a finding as a line that starts with PUBLISH:")
    writers.sees(task, planner, board, "# My notes\n", notes, hw.me)
    writers.step(until="\n\n")
    writers.on(hw.step, hw.move(hw.me, to=notes))
    writers.on(hw.regex(r"^PUBLISH: (.+)$"), hw.post("{{name}}: {{1}}\n", to=board))
    writers.on(hw.every(400, "tokens"), hw.say("Is this already on the board? (yes/no): "))

    p.answer(board)


if __name__ == "__main__":
    print(report.run(engine=hw.Engine(*sys.argv[1:])).answer)
