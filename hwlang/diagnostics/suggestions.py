"""Did you mean ...?"""

from collections.abc import Iterable

LONGEST = 40  # characters of a word that are compared


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was most likely meant; of equally likely ones the first."""
    best, least = None, float("inf")
    for candidate in candidates:
        unlike = unlikeness(word, candidate)
        if unlike is not None and unlike < least:
            best, least = candidate, unlike
    return best


def unlikeness(word: str, candidate: str) -> float | None:
    """How far apart two words are, in slips of the fingers; None where one was hardly meant by the other."""
    word, candidate = word[:LONGEST], candidate[:LONGEST]
    most = slips_allowed(min(len(word), len(candidate)))
    old, new = word.lower(), candidate.lower()
    if old == new:
        return 0.5 * (word != candidate)
    if abs(len(old) - len(new)) <= most:
        count = distance(old, new, most)
        if count is not None and (max(len(old), len(new)) > 2 or sorted(old) == sorted(new)):
            return count
    cut = min(len(old), len(new)) >= 3 and (old.startswith(new) or new.startswith(old))
    return most + 0.5 if cut else None


def slips_allowed(length: int) -> int:
    return 1 if length < 5 else 2 if length < 9 else 3


def distance(old: str, new: str, most: int) -> int | None:
    """How many letters to insert, leave out, replace or exchange with their neighbour; None if more than `most`."""
    before: list[int] = []
    row = list(range(len(new) + 1))
    for i, letter in enumerate(old, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(new, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == new[j - 2] and old[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return None
    return row[-1] if row[-1] <= most else None
