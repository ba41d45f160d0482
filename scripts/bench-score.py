#!/usr/bin/env python3
"""Scores a run of a million lines with counterpoint and with pytrec-eval-terrier, on one core, in turns.

  pip install pytrec-eval-terrier
  go build -o /tmp/counterpoint . && scripts/bench-score.py /tmp/counterpoint

Both read the same files from disk, compute the same measures and print their means, which must agree to the four
decimals printed. Seconds are of the processor, so that other work on the machine does not count. "whole" is the process
from start to end; "parse" and "evaluate" are what pytrec_eval itself takes, without the start of Python. Shuffled runs have their lines in random order within each query.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile

MEASURES = ["map", "ndcg", "ndcg_cut.10", "recall.100", "P.5", "recip_rank", "Rprec", "bpref"]

PEER = """
import sys, time, pytrec_eval
began = time.process_time()
with open(sys.argv[1]) as f: qrels = pytrec_eval.parse_qrel(f)
with open(sys.argv[2]) as f: run = pytrec_eval.parse_run(f)
parsed = time.process_time()
values = pytrec_eval.RelevanceEvaluator(qrels, set(sys.argv[3:])).evaluate(run)
done = time.process_time()
names = sorted(next(iter(values.values())))
for name in names:
    print(name, "%.4f" % pytrec_eval.compute_aggregated_measure(name, [v[name] for v in values.values()]))
print("parse %.4f evaluate %.4f" % (parsed - began, done - parsed), file=sys.stderr)
"""


def write(folder, queries, depth, shuffled):
    """Writes a run of queries x depth lines and 100 judgments a query; returns the two paths."""
    rng = random.Random(7)
    run, qrels = os.path.join(folder, f"run-{shuffled}.txt"), os.path.join(folder, "qrels.txt")
    with open(run, "w") as r, open(qrels, "w") as q:
        for i in range(queries):
            documents = rng.sample(range(8_800_000), depth)
            scores = sorted((round(rng.gauss(20, 5), 4) for _ in documents), reverse=True)
            rows = list(zip(documents, scores))
            for d in documents[: depth // 10 : max(1, depth // 500)] + rng.sample(range(8_800_000), 50):
                q.write(f"{1000 + i} 0 msmarco_passage_{d} {rng.choice([0, 0, 1, 2, 3])}\n")
            if shuffled:
                rng.shuffle(rows)
            for rank, (d, s) in enumerate(rows, 1):
                r.write(f"{1000 + i} Q0 msmarco_passage_{d} {rank} {s} bm25\n")
    return run, qrels


def timed(command, env):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counterpoint", help="the binary")
    parser.add_argument("--python", default=sys.executable, help="a Python that has pytrec_eval")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    core = str(max(os.sched_getaffinity(0)))
    pin = ["taskset", "-c", core]
    env = dict(os.environ, GOMAXPROCS="1", OMP_NUM_THREADS="1")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for shuffled in (False, True):
            run, qrels = write(folder, args.queries, args.depth, shuffled)
            ours, whole, parse, evaluate = [], [], [], []
            for _ in range(args.rounds):
                flags = [x for m in MEASURES for x in ("-m", m)]
                t, text, _ = timed(pin + [args.counterpoint, "score", "--run", run, "--qrels", qrels] + flags, env)
                mine = {line.split()[0]: line.split()[2] for line in text.splitlines()}
                ours.append(t)
                t, text, err = timed(pin + [args.python, "-c", PEER, qrels, run] + MEASURES, env)
                theirs = dict(line.split() for line in text.splitlines())
                whole.append(t)
                words = err.split()
                parse.append(float(words[1]))
                evaluate.append(float(words[3]))
            median = statistics.median
            print(f"{args.queries * args.depth:,} lines, {'shuffled' if shuffled else 'in order'}: counterpoint {median(ours):.3f} s; pytrec_eval whole "
                  f"{median(whole):.3f} s, parse {median(parse):.3f} s, evaluate {median(evaluate):.3f} s; "
                  f"ratio whole {median(w / o for w, o in zip(whole, ours)):.1f}x, without its start {median((p + e) / o for p, e, o in zip(parse, evaluate, ours)):.1f}x")
            if mine != theirs:
                failed = True
                print("they differ:", mine, theirs)
    sys.exit(failed)


if __name__ == "__main__":
    main()
