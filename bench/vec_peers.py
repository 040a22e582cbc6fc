"""vec_peers.py - the same questions to hnswlib, usearch and FAISS, one JSON object a line.

    python vec_peers.py PREFIX D        reads what `vec_bench gen` wrote; batch calls on one thread, so Python costs nothing a query
"""
import json
import os
import resource
import sys
import time

import numpy as np

prefix, d = sys.argv[1], int(sys.argv[2])
base = np.fromfile(prefix + ".base.f32", dtype=np.float32).reshape(-1, d)
query = np.fromfile(prefix + ".query.f32", dtype=np.float32).reshape(-1, d)
truth = np.fromfile(prefix + ".truth.i32", dtype=np.int32).reshape(len(query), -1)
threads = len(os.sched_getaffinity(0))
K = 10


def recall(ids, right=None, k=K):
    right = truth if right is None else right
    return float(np.mean([len(set(map(int, a[:k])) & set(map(int, b[:k]))) / k for a, b in zip(ids, right)]))


def rss():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024


def out(**kw):
    print(json.dumps(kw), flush=True)


def timed(peer, param, ask, case="plain", right=None):
    ask()
    start = time.perf_counter()
    ids = ask()
    s = time.perf_counter() - start
    out(case=case, peer=peer, effort=param, k=K, recall=round(recall(ids, right), 4), qps=round(len(ids) / s))


def built(peer, before, start):
    s = time.perf_counter() - start
    out(case="build", peer=peer, ready_s=round(s, 2), vectors_per_s=round(len(base) / s), rss_mb=round(rss() - before, 1))


def run_hnswlib():
    import hnswlib
    before, start = rss(), time.perf_counter()
    h = hnswlib.Index(space="ip", dim=d)
    h.init_index(max_elements=len(base), M=16, ef_construction=200 if len(base) <= 100000 else 100)
    h.add_items(base, num_threads=threads)
    built("hnswlib", before, start)
    for ef in (16, 24, 32, 48, 64, 96, 128, 200, 300, 500):
        h.set_ef(ef)
        timed("hnswlib", ef, lambda: h.knn_query(query, k=K, num_threads=1)[0])
    tagged = np.nonzero(np.arange(len(base)) % 100 == 7)[0]
    near = np.argsort(-(query[:100] @ base[tagged].T), axis=1)[:, :K]
    h.set_ef(32)
    timed("hnswlib", 32, lambda: h.knn_query(query[:100], k=K, num_threads=1, filter=lambda i: i % 100 == 7)[0], "filter 1%", tagged[near])


def run_usearch():
    from usearch.index import Index
    for dtype in ("bf16", "i8"):
        before, start = rss(), time.perf_counter()
        u = Index(ndim=d, metric="ip", dtype=dtype, connectivity=16, expansion_add=128, expansion_search=16)
        u.add(np.arange(len(base)), base, threads=threads)
        built("usearch " + dtype, before, start)
        for ef in (16, 24, 32, 48, 64, 128, 200, 300):
            u.expansion_search = ef
            timed("usearch " + dtype, ef, lambda: u.search(query, K, threads=1).keys)


def run_faiss():
    import faiss
    faiss.omp_set_num_threads(threads)
    before, start = rss(), time.perf_counter()
    f = faiss.IndexHNSWFlat(d, 16, faiss.METRIC_INNER_PRODUCT)
    f.hnsw.efConstruction = 100
    f.add(base)
    built("faiss HNSW", before, start)
    faiss.omp_set_num_threads(1)
    for ef in (16, 24, 32, 48, 64, 128, 200, 300, 500):
        f.hnsw.efSearch = ef
        timed("faiss HNSW", ef, lambda: f.search(query, K)[1])


for run in (run_hnswlib, run_usearch, run_faiss):
    if len(sys.argv) <= 3 or run.__name__.endswith(sys.argv[3]):
        try:
            run()
        except ImportError as e:
            print(f"vec_peers: {e}", file=sys.stderr)
