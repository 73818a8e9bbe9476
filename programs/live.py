"""Think while answering (arXiv 2512.10931): the thinker lets the writer speak when its thoughts are ahead of it."""

import sys

import hwlang as hw


@hw.program
def live(p: hw.ProgramBuilder, problem: str = "Which weighs more, a litre of oil or a litre of water?") -> None:
    user = p.stream("user")
    thinker = p.worker("Thinker")
    writer = p.worker("Writer", paused=True)

    thinker.sees(hw.system("Think in private."), hw.user(problem), user, writer, "[the reply continues]", hw.me)
    thinker.step(until="\n\n")
    thinker.on(
        hw.step | hw.every(20, "tokens"),
        hw.ask(
            "Are my thoughts one paragraph ahead of the reply? (yes/no): ",
            {"yes": hw.resume(writer), "no": hw.pause(writer)},
        ),
    )
    thinker.on(user, hw.pause(writer), hw.say("\n\nWait, the user just added: "))
    thinker.on("</think>", hw.resume(writer), hw.stop(hw.me))

    writer.sees(
        hw.system("Answer the user."),
        hw.user(problem),
        user,
        thinker,
        hw.in_context("[more thoughts]\n</think>\n"),
        hw.me,
    )
    writer.step(until="\n\n")
    writer.on(hw.step, hw.pause(hw.me))
    writer.on(hw.end, hw.stop())

    p.answer(writer)


if __name__ == "__main__":
    with live.stream(engine=hw.Engine(*sys.argv[1:])) as run:
        for event in run:
            if event.worker == "Writer":
                print(event.text, end="", flush=True)
