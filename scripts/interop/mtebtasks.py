"""Local files as tasks of mteb, and our embeddings as its model."""

import csv
import gzip
import json

import mteb
import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta


def rows(path):
    with gzip.open(path, "rt") as f:
        return [json.loads(line) for line in f]


def metadata(name, kind, score, split="test"):
    return TaskMetadata(
        name=name, description="local files", reference=None, dataset={"path": f"local/{name}", "revision": "1"}, type=kind, category="t2t",
        modalities=["text"], eval_splits=[split], eval_langs=["eng-Latn"], main_score=score, date=None, domains=None, task_subtypes=None,
        license=None, annotations_creators=None, dialect=None, sample_creation=None, bibtex_citation=None)  # fmt: skip


def retrieval(folder, name):
    class Task(AbsTaskRetrieval):
        def load_data(self, **_):
            grades = {}
            with open(next((folder / "qrels").glob("*.tsv"))) as f:
                for query, document, grade in list(csv.reader(f, delimiter="\t"))[1:]:
                    grades.setdefault(query, {})[document] = int(grade)
            corpus = [{"id": r["_id"], "title": r.get("title") or "", "text": r["text"]} for r in rows(folder / "corpus.jsonl.gz")]
            queries = [{"id": r["_id"], "text": r["text"]} for r in rows(folder / "queries.jsonl.gz") if r["_id"] in grades]
            split = {"corpus": Dataset.from_list(corpus), "queries": Dataset.from_list(queries), "relevant_docs": grades, "top_ranked": None}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    Task.metadata = metadata(name, "Retrieval", "ndcg_at_10")
    return Task()


def sts(file, name):
    class Task(AbsTaskSTS):
        def load_data(self, **_):
            self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_list(rows(file))), True

    Task.metadata = metadata(name, "STS", "cosine_spearman")
    return Task()


def classification(train, test, name):
    class Task(AbsTaskClassification):
        def load_data(self, **_):
            parts = {"train": rows(train), "test": rows(test)}
            number = {label: i for i, label in enumerate(sorted({r["label"] for r in parts["train"]}))}
            self.dataset = DatasetDict({k: Dataset.from_list([{"text": r["text"], "label": number[r["label"]]} for r in v]) for k, v in parts.items()})
            self.data_loaded = True

    Task.metadata = metadata(name, "Classification", "accuracy")
    return Task()


class Vectors(AbsEncoder):
    """A model of mteb whose embeddings are those of `counterpoint embed`; embed is a function of a list of texts."""

    def __init__(self, embed):
        self.embed, self.known = embed, {}
        self.mteb_model_meta = ModelMeta.create_empty({"name": "counterpoint/interop", "revision": "1"})

    def encode(self, inputs, **_):
        texts = [t for batch in inputs for t in batch["text"]]
        new = sorted(set(texts) - self.known.keys())
        if new:
            self.known.update(zip(new, self.embed(new), strict=True))
        return np.stack([self.known[t] for t in texts])

    def similarity(self, a, b):
        return mteb.similarity_functions.cos_sim(a, b)

    def similarity_pairwise(self, a, b):
        return mteb.similarity_functions.pairwise_cos_sim(a, b)


def score(model, task):
    """All scores of the task by mteb: a map of measure and value."""
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].scores["test"][0]
