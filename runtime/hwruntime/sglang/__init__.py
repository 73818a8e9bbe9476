"""Models on SGLang: its ModelRunner loads and runs them, on as many GPUs as they need; the session, the plan, and the
cache's pages are ours, as everywhere.

Read in this order. In the process of the session, which never imports SGLang:

    model       `SglangModel`, what the engine sees: it has every rank make the same calls
    ranks       starts the ranks, makes calls, notices who has died, and leaves no process behind; nodes
    wire        calls and replies as bytes
    installed   is the right SGLang here?

In the process of each rank:

    rank        its main loop: takes calls, replies
    shard       its share of the model: weights and heads, K/V, and what a call does
    runner      SGLang's ModelRunner, and batches for it
    backend     our attention in the place of SGLang's
    plugin      tells SGLang of it (entry point `sglang.srt.plugins`)
"""
