"""Scores an exported folder on BEIR folders with sentence-transformers alone: its texts, its search, its own measure."""

import csv
import gzip
import json
import math
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


def rows(folder, name):
    path = next(p for p in (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl") if p.exists())
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as f:
        return [json.loads(line) for line in f]


def judgments(folder):
    """Grades above 0 by query and document."""
    grades = {}
    with open(next((folder / "qrels").glob("*.tsv"))) as f:
        for query, document, grade in list(csv.reader(f, delimiter="\t"))[1:]:
            if int(grade) > 0:
                grades.setdefault(query, {})[document] = int(grade)
    return grades


def ndcg(ranking, grades, k=10):
    """nDCG@k as trec_eval: gain = grade, discount log2(rank + 1), over the best ranking of all judged documents."""
    def dcg(gains):
        return sum(g / math.log2(i + 2) for i, g in enumerate(gains[:k]))

    return dcg([grades.get(d, 0) for d in ranking]) / dcg(sorted(grades.values(), reverse=True))


def score(folder, suites, threads):
    """nDCG@10 by suite; suites are those of the run file."""
    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder))
    scores = {}
    for suite in suites:
        path, begin = Path(suite["path"]), time.time()
        model.max_seq_length = suite["max_length"]
        documents, grades = rows(path, "corpus"), judgments(path)
        queries = [q for q in rows(path, "queries") if q["_id"] in grades]
        texts = [f"{d.get('title') or ''} {d['text']}".strip() for d in documents]
        d = model.encode(texts, batch_size=16, convert_to_tensor=True, show_progress_bar=False)
        q = model.encode([x["text"] for x in queries], prompt=suite["instruction"] + ": ", batch_size=16, convert_to_tensor=True, show_progress_bar=False)
        # equal scores: the larger id first, as trec_eval
        order = sorted(range(len(documents)), key=lambda i: documents[i]["_id"], reverse=True)
        ranked = torch.sort(model.similarity(q, d[order]), dim=1, descending=True, stable=True).indices[:, :10].tolist()
        values = [ndcg([documents[order[i]]["_id"] for i in r], grades[x["_id"]]) for r, x in zip(ranked, queries, strict=True)]
        name = suite.get("name") or path.name
        scores[name] = sum(values) / len(values)
        print(f"sentence-transformers: {name}: nDCG@10 {scores[name]:.4f}, {len(queries)} queries, {len(documents)} documents, {time.time() - begin:.0f} s", flush=True)
    return scores
