"""Rows of the table, and what makes a row a miss."""

import numpy as np

BOUND = 1e-5
EFFECT = 1e-3  # an adapter that is loaded moves embeddings by more than this; these move them by far more


def largest(got, want):
    """Largest absolute difference of two [N, D], each row in units of want's norm: of unit vectors, the plain difference."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    return float((np.abs(got - want) / np.linalg.norm(want, axis=1, keepdims=True)).max())


class Table:
    def __init__(self):
        self.rows, self.misses, self.worst, self.ids, self.vectors = [], 0, 0.0, 0, 0
        self.sums = {}  # by direction, form and reader: cases, largest difference, ids, least effect

    def row(self, what, form, reader, pairs, ids=None, effect=None):
        """pairs: (vectors, wanted ones), without and with a prompt; ids: (ours, theirs), lists of token ids; effect: as
        pairs, but vectors without the adapter, which must be others."""
        difference = max(largest(*p) for p in pairs)
        lists = [(a, b) for ours, theirs in ids or [] for a, b in zip(ours, theirs, strict=True)]
        same = sum(list(a) == list(b) for a, b in lists)
        moved = min(largest(*p) for p in effect) if effect else None
        ok = difference <= BOUND and same == len(lists) and (moved is None or moved > EFFECT)
        self.misses += not ok
        self.worst, self.ids, self.vectors = max(self.worst, difference), self.ids + same, self.vectors + sum(len(p[1]) for p in pairs)
        key = (self.direction, form, reader)
        cases, worst, count, least = self.sums.get(key, (0, 0.0, 0, float("inf")))
        self.sums[key] = (cases + 1, max(worst, difference), count + same, min(least, moved if moved is not None else least))
        self.add(what, form, reader, f"{difference:.1e}", f"{same}/{len(lists)}" if ids else "", "" if moved is None else f"{moved:.2f}", ok)

    def fact(self, what, form, reader, text, ok):
        """A row that is no comparison of embeddings."""
        self.misses += not ok
        self.add(what, form, reader, text, "", "", ok)

    def add(self, *cells):
        *texts, ok = cells
        self.rows.append((*texts, "ok" if ok else "MISS"))
        print("| " + " | ".join(self.rows[-1]) + " |", flush=True)

    def summary(self):
        print("\n| way | form | read by | cases | largest difference | ids equal | moved by at least |\n|---|---|---|---|---|---|---|")
        for (way, form, reader), (cases, worst, ids, least) in self.sums.items():
            print(f"| {way} | {form} | {reader} | {cases} | {worst:.1e} | {ids or ''} | {'' if least == float('inf') else f'{least:.2f}'} |")

    def heading(self, direction, title):
        self.direction = direction
        print(f"\n{direction}: {title}\n\n| what | form | read by | largest difference | ids equal | moved by | |\n|---|---|---|---|---|---|---|", flush=True)
