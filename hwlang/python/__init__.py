"""Programs as Python functions, and runs as Python sees them, to be read in this order:

functions      a function, called once, and the syntax tree that it makes
words          the words of the language as values and calls
crews          workers, each clause a call           handles    parameters, texts, scratchpads and streams
values         Python values -> nodes                places     the spans of nodes that a call makes
runs           a run: its events, its texts at any time          batches    many runs, side by side
coroutines     blocks and coroutines, for what a program cannot say
frontend       a program in a function of SGLang's frontend
"""
