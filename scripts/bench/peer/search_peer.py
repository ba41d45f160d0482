#!/usr/bin/env python3
"""The peer of exact search: faiss IndexFlatIP. search_peer.py QUERIESxDOCUMENTSxWIDTH K THREADS prints seconds as JSON, the best of three."""

import json
import sys
import time

import faiss
import numpy as np

q, d, width = map(int, sys.argv[1].split("x"))
faiss.omp_set_num_threads(int(sys.argv[3]))
rng = np.random.default_rng(1)
documents, queries = rng.standard_normal((d, width), np.float32), rng.standard_normal((q, width), np.float32)
index = faiss.IndexFlatIP(width)
index.add(documents)
seconds = []
for _ in range(3):
    start = time.perf_counter()
    index.search(queries, int(sys.argv[2]))
    seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": min(seconds), "faiss": faiss.__version__, "options": faiss.get_compile_options()}))
