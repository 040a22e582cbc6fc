"""encoder_peers.py - the same BERT to onnxruntime, as float32 and as dynamically quantised int8, one JSON object a case.

    python encoder_peers.py FOLDER THREADS TOKENSxBATCH...     FOLDER: config.json, model.safetensors (F32), as encoder.mjs writes them

The graph is built here from the weights, with the fused operators where onnxruntime has them: its own optimizer merges attention, GELU and layer
norms of a BERT (level "all"). The best of three measurements of half a second each counts.
"""
import json
import struct
import sys
import time
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

folder, threads, cases = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
config = json.load(open(os.path.join(folder, "config.json")))
D, H, L = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]


def weights():
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    for name, t in head.items():
        if name != "__metadata__":
            yield name, np.frombuffer(data, np.float32, offset=t["data_offsets"][0], count=int(np.prod(t["shape"]))).reshape(t["shape"])


def build(path):
    nodes, inits = [], []
    w = dict(weights())

    def const(name, value):
        inits.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(kind, *inputs, **attrs):
        out = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **attrs))
        return out

    def dense(x, name):
        return op("Add", op("MatMul", x, const(name + ".w", w[name + ".weight"].T)), const(name + ".b", w[name + ".bias"]))

    def norm(x, name):
        return op("LayerNormalization", x, const(name + ".w", w[name + ".weight"]), const(name + ".b", w[name + ".bias"]), axis=-1, epsilon=1e-12)

    def heads(x, perm):
        return op("Transpose", op("Reshape", x, "split"), perm=perm)

    const("split", np.array([0, 0, H, D // H], np.int64))
    const("join", np.array([0, 0, D], np.int64))
    const("scale", np.array(1 / np.sqrt(D / H), np.float32))
    const("half", np.array(0.5, np.float32)), const("one", np.array(1, np.float32)), const("root", np.array(np.sqrt(2), np.float32))
    const("words", w["embeddings.word_embeddings.weight"])
    const("positions", w["embeddings.position_embeddings.weight"])
    const("type", w["embeddings.token_type_embeddings.weight"][0])
    x = op("Add", op("Add", op("Gather", "words", "ids"), op("Gather", "positions", "places")), "type")
    x = norm(x, "embeddings.LayerNorm")
    for i in range(L):
        p = f"encoder.layer.{i}."
        q, k, v = (dense(x, f"{p}attention.self.{n}") for n in ("query", "key", "value"))
        s = op("Softmax", op("Mul", op("MatMul", heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1])), "scale"), axis=-1)
        a = op("Reshape", op("Transpose", op("MatMul", s, heads(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3]), "join")
        x = norm(op("Add", dense(a, p + "attention.output.dense"), x), p + "attention.output.LayerNorm")
        u = dense(x, p + "intermediate.dense")
        u = op("Mul", op("Mul", u, op("Add", op("Erf", op("Div", u, "root")), "one")), "half")
        x = norm(op("Add", dense(u, p + "output.dense"), x), p + "output.LayerNorm")
    nodes.append(helper.make_node("ReduceMean", [x], ["vectors"], axes=[1], keepdims=0))
    ids, places = (helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in ("ids", "places"))
    graph = helper.make_graph(nodes, "bert", [ids, places], [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", D])], inits)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def per_s(session, n_tokens, n):
    rng = np.random.default_rng(1)
    feed = {"ids": rng.integers(0, config["vocab_size"], (n, n_tokens)), "places": np.tile(np.arange(n_tokens), (n, 1))}
    session.run(None, feed)
    best = 0
    for _ in range(3):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < 0.5:
            session.run(None, feed)
            done += n
        best = max(best, done / (time.perf_counter() - start))
    return best


full, small = os.path.join(folder, "float.onnx"), os.path.join(folder, "int8.onnx")
if not os.path.exists(small):
    build(full)
    quantize_dynamic(full, small + ".part", weight_type=QuantType.QInt8)
    os.rename(small + ".part", small)
for name, path in (("float32", full), ("int8", small)):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    for case in cases:
        n_tokens, n = map(int, case.split("x"))
        print(json.dumps({"kind": name, "tokens": n_tokens, "batch": n, "per_s": round(per_s(session, n_tokens, n), 2)}), flush=True)
