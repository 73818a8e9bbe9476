"""Runs on any SGLang server or router, over HTTP: an approximation of what the other engines do exactly.

A server reads texts, not blocks of a shared cache. So each worker has it write a few tokens (the sync interval) behind
all that the worker sees, and only then sees what the others wrote meanwhile. The session is the same as anywhere else:
prefixes, steps, moves, posts, budgets, answers and traces are exact, what the next token is is not.

    engine    makes passes: which rows have to be asked of the server, and what comes of them
    runs      a run's session and drafts, and what it has cost
    drafts    what a server has written ahead for a worker; a view as one flat text
    refusals  what a program asks for that a server cannot do
    model     the tokenizer of the server's model, and that it is the right one
    server    the one seam: `Server`, with requests and replies
    client    the real server, over HTTP
    fake      one without a model, for tests
"""
