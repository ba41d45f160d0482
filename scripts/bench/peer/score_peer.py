#!/usr/bin/env python3
"""The peer of scoring runs: pytrec_eval on one core.

  score_peer.py --write FOLDER    run.txt with 1,000 queries x 1,000 documents and qrels.txt with 50 judgments of each
  score_peer.py FOLDER            processor seconds of reading and scoring them as JSON: parse (both files), evaluate (trec_eval's official measures)
"""

import json
import random
import sys
import time
from pathlib import Path

QUERIES, DOCUMENTS, JUDGED = 1000, 1000, 50


def write(folder):
    rng = random.Random(1)
    with open(folder / "run.txt", "w") as run, open(folder / "qrels.txt", "w") as qrels:
        for q in range(QUERIES):
            documents = rng.sample(range(100_000), DOCUMENTS)
            scores = sorted((rng.random() for _ in documents), reverse=True)
            run.writelines(f"q{q} Q0 d{d} {i} {s:.6f} peer\n" for i, (d, s) in enumerate(zip(documents, scores), 1))
            judged = rng.sample(documents, JUDGED // 2) + rng.sample(range(100_000, 200_000), JUDGED // 2)
            qrels.writelines(f"q{q} 0 d{d} {rng.randrange(3)}\n" for d in sorted(judged))


def measure(folder):
    import pytrec_eval

    start = time.process_time()
    with open(folder / "run.txt") as f:
        run = pytrec_eval.parse_run(f)
    with open(folder / "qrels.txt") as f:
        qrels = pytrec_eval.parse_qrel(f)
    parsed = time.process_time()
    scores = pytrec_eval.RelevanceEvaluator(qrels, {"official"}).evaluate(run)
    done = time.process_time()
    average = {m: sum(s[m] for s in scores.values()) / len(scores) for m in ("map", "P_10", "Rprec", "recip_rank", "bpref")}
    print(json.dumps({"parse": parsed - start, "evaluate": done - parsed, "lines": sum(map(len, run.values())), "average": average}))


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write(Path(sys.argv[2]))
    else:
        measure(Path(sys.argv[1]))
