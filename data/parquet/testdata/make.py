"""Writes arrow-*.parquet, lz4.parquet and arrow.jsonl with pyarrow: python make.py"""
import json
import math
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
table = pa.table({
    "query": pa.array(["q1", 'q "2"\n', "é文🙂", None]).dictionary_encode(),
    "pos": pa.array([["a", "b"], [], None, ["c", None, "d"]], type=pa.list_(pa.string())),
    "nest": pa.array([{"x": 1, "y": [{"z": "u"}, {"z": None}]}, None, {"x": None, "y": None}, {"x": 4, "y": []}]),
    "n": pa.array([1, None, 3, 4], type=pa.int64()),
    "f": pa.array([1.5, float("nan"), None, -2], type=pa.float32()),
    "b": pa.array([True, False, None, True]),
    "u": pa.array([1, 2**64 - 1, 3, 4], type=pa.uint64()),
    "ll": pa.array([[["a"], []], [None], [], None], type=pa.list_(pa.list_(pa.string()))),
    "large": pa.array(["x"] * 4, type=pa.large_string()),
})
for codec in ["snappy", "gzip", "zstd", "none", "brotli"]:
    for page in ["1.0", "2.0"]:
        pq.write_table(table, here / f"arrow-{codec}-v{page[0]}.parquet", compression=codec, data_page_version=page, row_group_size=3)
pq.write_table(table, here / "lz4.parquet", compression="lz4")
pq.write_table(table, here / "arrow-old-lists.parquet", use_compliant_nested_type=False)
pq.write_table(table, here / "arrow-encodings.parquet", use_dictionary=False,
               column_encoding={"n": "DELTA_BINARY_PACKED", "large": "DELTA_BYTE_ARRAY", "f": "BYTE_STREAM_SPLIT"})


def plain(x):
    return "NaN" if isinstance(x, float) and math.isnan(x) else int(x) if isinstance(x, float) and x.is_integer() else x


with open(here / "arrow.jsonl", "w") as out:
    for row in pq.read_table(here / "arrow-snappy-v1.parquet").to_pylist():
        out.write(json.dumps({k: plain(v) for k, v in row.items()}, ensure_ascii=False, separators=(",", ":")) + "\n")
