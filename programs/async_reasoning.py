"""Think while answering (arXiv 2512.10931) with coroutines: the rules of live.hw are decisions of Python here."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack

import hwlang as hw

PROBLEM = "Which weighs more, a litre of oil or a litre of water?"
QUESTION = "Are my thoughts one paragraph ahead of the reply? (yes/no): "
NAMES = ("private", "public", "user", "Thinker", "Writer", "the reply continues", "more thoughts")


class Live:
    """A thinker and a writer. `tell` hears of each token: who, and its text. `added`: what the user says meanwhile."""

    def __init__(self, engine: hw.Engine, tell: Callable[[str, str], object], seed: int = 0, temperature: float = 0.0):
        self.engine, self.tell, self.seed, self.temperature = engine, tell, seed, temperature
        self.added: asyncio.Queue[str] = asyncio.Queue()
        self.may_write = asyncio.Event()

    async def run(self, problem: str = PROBLEM) -> str:
        """The reply. All blocks are free at the end, also where it is cancelled."""
        with ExitStack() as held:
            blocks = [held.enter_context(self.engine.block(name)) for name in NAMES]
            self.private, public, self.user, self.thinker, self.writer, reply, thoughts = blocks
            asked = hw.user(hw.literal(problem))
            await self.engine.prefill(self.private, hw.system("Think in private."), asked)
            await self.engine.prefill(public, hw.system("Answer the user."), asked)
            await self.engine.prefill(reply, "[the reply continues]", opening=False)
            await self.engine.prefill(thoughts, "[more thoughts]\n</think>\n", context=[public])
            self.thinker_sees = [self.private, self.user, self.writer, reply, self.thinker]
            self.writer_sees = [public, self.user, self.thinker, thoughts, self.writer]
            async with asyncio.TaskGroup() as tasks:
                self.thinking = tasks.create_task(self.think())
                listening = tasks.create_task(self.listen())
                await self.write()
                self.thinking.cancel()
                listening.cancel()
            return self.writer.text

    async def think(self) -> None:
        """Write thoughts, and ask after each paragraph, or every 20 tokens, whether the writer may go on."""
        unasked, ending = 0, None
        async with asyncio.TaskGroup() as asking:
            while ending != "end":
                step = self.generate(self.thinker_sees, stream=0)
                async for token in step:
                    self.tell("Thinker", token.text)
                    unasked += 1
                    if step.ending or unasked == 20:
                        asking.create_task(self.ask())
                        unasked = 0
                    if "</think>" in step.text:
                        self.may_write.set()
                        await self.engine.prefill(self.thinker, context=self.thinker_sees[:-1])  # its last token
                        return
                ending = step.ending
            if step.text:
                asking.create_task(self.ask())

    async def ask(self) -> None:
        """In the thinker's next pass, beside its own token."""
        scores = await self.engine.score(self.thinker_sees, QUESTION, ["yes", "no"])
        if scores["yes"] >= scores["no"]:
            self.may_write.set()
        else:
            self.may_write.clear()

    async def write(self) -> None:
        """Write the reply, a paragraph at a time, wherever that is allowed."""
        ending = None
        while ending != "end" and await self.allowed():
            step = self.generate(self.writer_sees, stream=1)
            async for token in step:
                self.tell("Writer", token.text)
                if step.ending:
                    self.may_write.clear()
                elif not await self.allowed():
                    return
            ending = step.ending

    async def allowed(self) -> bool:
        """Wait until the writer may go on; False where nobody is left to say so."""
        await asyncio.sleep(0)  # what the others decide in this turn of the event loop comes first
        if not self.may_write.is_set():
            waiting = asyncio.create_task(self.may_write.wait())
            await asyncio.wait([waiting, self.thinking], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        return self.may_write.is_set()

    async def listen(self) -> None:
        """Take what the user adds into a block of its own, and point the thinker to it."""
        while True:
            text = await self.added.get()
            if not self.thinking.done():
                self.may_write.clear()
                self.thinker.say("\n\nWait, the user just added: ")
            await self.engine.prefill(self.user, text, context=[self.private], opening=False)

    def generate(self, view: list[hw.Block], stream: int) -> hw.Generation:
        """A paragraph; the likeliest one without a temperature."""
        return self.engine.generate(view, stop="\n\n", stream=stream, seed=self.seed, temperature=self.temperature)


if __name__ == "__main__":

    def show(who: str, text: str) -> None:
        if who == "Writer":
            print(text, end="", flush=True)

    asyncio.run(Live(hw.Engine(*sys.argv[1:]), show).run())
