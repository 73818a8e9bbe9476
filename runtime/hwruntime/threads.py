"""How torch's threads wait for one another on a CPU. OpenMP reads this once, when torch is imported: nothing else is
imported here."""

import os

# Turns of a loop, some hundreds of microseconds: until the next product of a pass begins. Threads that sleep at once
# are woken hundreds of times a pass, which takes a fifth longer; threads that turn without end stall a pass many times
# over where other processes use the cores (docs/performance.md has the figures).
SPINS = "100000"
OURS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}


def wait_briefly() -> None:
    """Let threads wait busily for a moment, then sleep; unless the user has said otherwise. To be called before torch
    is imported: afterwards it changes nothing."""
    if not OURS.keys() & os.environ.keys():
        os.environ.update(OURS)


def as_found() -> dict[str, str]:
    """The environment without what `wait_briefly` has set, for others' code that is compared with ours."""
    ours = OURS.items() <= os.environ.items()
    return {name: value for name, value in os.environ.items() if not (ours and name in OURS)}
