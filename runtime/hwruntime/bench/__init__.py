"""How long a pass takes, beside what the machine allows and what others need for the same (`hw bench`).

shapes      models of published sizes, with random weights
scene       workers behind a long opening, stepped by the engine
limits      what the machine allows: a copy's bandwidth, the linear layers alone
baselines   the same by plain transformers, and by the authors' code (`reference` runs in its own process)
measure     all of them by turns
"""
