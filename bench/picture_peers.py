"""picture_peers.py - the same ResNet-50 to onnxruntime, as float32 and as statically quantised int8, one JSON object each.

    python picture_peers.py FOLDER THREADS     FOLDER: config.json, model.safetensors (F32), as pictures.mjs writes them

The best of five measurements of a third of a second each counts.
"""
import json
import os
import struct
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

folder, threads = sys.argv[1], int(sys.argv[2])
config = json.load(open(os.path.join(folder, "config.json")))
ort.set_default_logger_severity(3)


def weights():
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    return {k: np.frombuffer(data, np.float32, offset=t["data_offsets"][0], count=int(np.prod(t["shape"]))).reshape(t["shape"]) for k, t in head.items()}


def build(path):
    w, nodes, inits = weights(), [], []

    def const(name):
        inits.append(numpy_helper.from_array(np.ascontiguousarray(w[name]), name))
        return name

    def op(kind, *inputs, **attrs):
        out = f"t{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **attrs))
        return out

    def conv(x, name, k, stride):
        x = op("Conv", x, const(name + ".convolution.weight"), kernel_shape=[k, k], strides=[stride, stride], pads=[k // 2] * 4)
        return op("BatchNormalization", x, *[const(f"{name}.normalization.{leaf}") for leaf in ("weight", "bias", "running_mean", "running_var")], epsilon=1e-5)

    x = op("Relu", conv("x", "resnet.embedder.embedder", 7, 2))
    x = op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, depth in enumerate(config["depths"]):
        for i in range(depth):
            p, stride = f"resnet.encoder.stages.{stage}.layers.{i}.", 2 if stage > 0 and i == 0 else 1
            skip = conv(x, p + "shortcut", 1, stride) if i == 0 else x
            y = op("Relu", conv(x, p + "layer.0", 1, 1))
            y = op("Relu", conv(y, p + "layer.1", 3, stride))
            x = op("Relu", op("Add", conv(y, p + "layer.2", 1, 1), skip))
    x = op("Flatten", op("GlobalAveragePool", x))
    nodes.append(helper.make_node("Gemm", [x, const("classifier.1.weight"), const("classifier.1.bias")], ["y"], transB=1))
    graph = helper.make_graph(nodes, "resnet", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, config["num_labels"]])], inits)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


class Noise(CalibrationDataReader):
    def __init__(self):
        self.left = 4

    def get_next(self):
        self.left -= 1
        return {"x": np.random.default_rng(self.left).standard_normal((1, 3, 224, 224)).astype(np.float32)} if self.left >= 0 else None


def measure(path, kind):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    feed = {"x": np.random.default_rng(9).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    s.run(None, feed)
    best, best_cpu = 1e9, 1e9
    for _ in range(5):
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < 0.333:
            s.run(None, feed)
            done += 1
        best = min(best, (time.perf_counter() - start) * 1000 / done)
        best_cpu = min(best_cpu, (time.process_time() - cpu) * 1000 / done)
    print(json.dumps({"type": kind, "ms": best, "cpu_ms": best_cpu}))


f32, int8 = os.path.join(folder, "float32.onnx"), os.path.join(folder, "int8.onnx")
if not os.path.exists(int8):
    build(f32)
    quantize_static(f32, int8, Noise(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True)
measure(f32, "float32")
measure(int8, "int8")
