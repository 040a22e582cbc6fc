"""Makes the small random Llama models that src/models/llama_test.c compares with PyTorch, and their logits.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0
    VENV/bin/python tests/reference/llama_tiny.py tests/reference

Each model goes to llama-NAME.gguf, written here byte by byte so that reader and writer share nothing; the logits that
transformers computes on the same (dequantised) weights in float32, and what it writes greedily after the first 8 tokens,
go to llama-tiny.json. Each greedy choice leads by at least MARGIN, so other float32 sums must choose alike. Between them the models turn on
every feature of the family: grouped and single key-value heads, tied and separate output, explicit head size, biases,
linear and Llama 3 position scaling, and each weight type. 64 positions cross a page border of the KV cache; the window
of the Llama 3 scaling (16) lies inside them.
"""
import json
import struct
import sys

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

N_VOCAB, N_TOKENS, POSITIONS = 160, 64, [0, 9, 31, 32, 63]
N_PROMPT, N_GREEDY, MARGIN = 8, 40, 2e-3
MODELS = {
    "f32": dict(type="F32", kv=2),
    "f16": dict(type="F16", kv=2, tied=True, head_dim=24,
                rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=16)),
    "bf16": dict(type="BF16", kv=4, bias=True, rope=dict(rope_type="linear", factor=4.0)),
    "q8_0": dict(type="Q8_0", kv=1, tied=True),
    "q4_0": dict(type="Q4_0", kv=2, seed=1, rope=dict(rope_type="linear", factor=2.0)),
    "q4_k": dict(type="Q4_K", kv=1, tied=True, head_dim=64, n_embd=256, n_layer=1),  # with some Q6_K, as files have it
}
TYPE_NUMBER = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "BF16": 30}


# ---- weight types: rows of float32 to bytes, and the values that the bytes mean

def pack_bf16(w):
    bits = w.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded.tobytes(), (rounded.astype(np.uint32) << 16).view(np.float32)


def pack_q8_0(w):
    b = w.reshape(-1, 32)
    d = (np.abs(b).max(1, keepdims=True) / 127).astype(np.float16)
    q = np.clip(np.rint(b / d.astype(np.float32)), -127, 127).astype(np.int8)
    data = b"".join(dd.tobytes() + qq.tobytes() for dd, qq in zip(d, q))
    return data, (d.astype(np.float32) * q.astype(np.float32)).reshape(w.shape)


def pack_q4_0(w):
    b = w.reshape(-1, 32)
    extreme = np.take_along_axis(b, np.abs(b).argmax(1)[:, None], 1)
    d = (extreme / -8).astype(np.float16)
    q = np.clip(np.rint(b / d.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = q[:, :16] | (q[:, 16:] << 4)
    data = b"".join(dd.tobytes() + qq.tobytes() for dd, qq in zip(d, packed))
    return data, (d.astype(np.float32) * (q.astype(np.float32) - 8)).reshape(w.shape)


# The two below take only the shape of w: blocks are drawn at random, which reaches scales and bits that no fit would.
def draw_q4_k(w):
    n = w.size // 256
    rng = np.random.default_rng(n)
    d = rng.uniform(0.0004, 0.001, (n, 1)).astype(np.float16)
    dmin = (7.5 * d.astype(np.float32)).astype(np.float16)
    sc = rng.integers(1, 64, (n, 8))
    m = np.clip(sc + rng.integers(-3, 4, (n, 8)), 0, 63)
    q = rng.integers(0, 16, (n, 8, 32))
    head = np.zeros((n, 12), np.uint8)  # 6 bits each: 4 pairs whole, the other 4 as low nibbles with their top bits above
    head[:, 0:4] = sc[:, :4] | (sc[:, 4:] >> 4) << 6
    head[:, 4:8] = m[:, :4] | (m[:, 4:] >> 4) << 6
    head[:, 8:] = (sc[:, 4:] & 15) | (m[:, 4:] & 15) << 4
    quads = (q[:, 0::2] | q[:, 1::2] << 4).astype(np.uint8)  # groups 2i and 2i + 1 share bytes
    data = b"".join(d[i].tobytes() + dmin[i].tobytes() + head[i].tobytes() + quads[i].tobytes() for i in range(n))
    f32 = np.float32
    meant = (d.astype(f32) * sc.astype(f32))[:, :, None] * q.astype(f32) - (dmin.astype(f32) * m.astype(f32))[:, :, None]
    return data, meant.reshape(w.shape)


def draw_q6_k(w):
    n = w.size // 256
    rng = np.random.default_rng(n)
    d = rng.uniform(0.0001, 0.0003, (n, 1)).astype(np.float16)
    sc = rng.integers(-40, 41, (n, 16)).astype(np.int8)
    q = rng.integers(0, 64, (n, 2, 4, 32))  # half, quarter, element
    low = np.concatenate([(q[:, :, 0] & 15) | (q[:, :, 2] & 15) << 4, (q[:, :, 1] & 15) | (q[:, :, 3] & 15) << 4], 2).astype(np.uint8)
    high = sum(q[:, :, k] >> 4 << 2 * k for k in range(4)).astype(np.uint8)
    data = b"".join(low[i].tobytes() + high[i].tobytes() + sc[i].tobytes() + d[i].tobytes() for i in range(n))
    scale = np.repeat(d.astype(np.float32) * sc.astype(np.float32), 16, 1)
    return data, (scale * (q.reshape(n, 256) - 32).astype(np.float32)).reshape(w.shape)


def pack(w, type_name):
    w = np.ascontiguousarray(w, dtype=np.float32)
    if type_name == "F32":
        return w.tobytes(), w
    if type_name == "F16":
        return w.astype(np.float16).tobytes(), w.astype(np.float16).astype(np.float32)
    return {"BF16": pack_bf16, "Q8_0": pack_q8_0, "Q4_0": pack_q4_0, "Q4_K": draw_q4_k, "Q6_K": draw_q6_k}[type_name](w)


# ---- the file

def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(v):
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    kind = {str: 8, float: 6, int: 5, bool: 7}[type(v[0])]
    items = b"".join(text(i) if kind == 8 else struct.pack({5: "<i", 6: "<f", 7: "<?"}[kind], i) for i in v)
    return struct.pack("<IIQ", 9, kind, len(v)) + items


def write_gguf(path, meta, tensors):
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    for k, v in meta.items():
        head += text(k) + value(v)
    data = b""
    for name, shape, number, raw in tensors:
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", number, len(data))
        data += raw + bytes(-len(raw) % 32)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)


# ---- models

def neighbours(w, n_head):
    """Rows from rotate-half order (pair i in rows i and i + half) to neighbours (2i and 2i + 1)."""
    half = w.shape[0] // n_head // 2
    return w.reshape(n_head, 2, half, -1).swapaxes(1, 2).reshape(w.shape)


def halves(w, n_head):
    half = w.shape[0] // n_head // 2
    return w.reshape(n_head, half, 2, -1).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(config, rope):
    """How much slower each pair turns: 1 for short waves, factor for long ones, a blend between."""
    n = config.head_dim
    wave = 2 * np.pi * config.rope_parameters["rope_theta"] ** (np.arange(0, n, 2) / n)
    window, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    blend = np.clip((window / wave - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / rope["factor"] + blend)).astype(np.float32)


def build(name, spec):
    rope = spec.get("rope")
    heads, kv, head_dim = 4, spec["kv"], spec.get("head_dim", 16)
    n_embd, n_layer = spec.get("n_embd", 64), spec.get("n_layer", 2)
    theta = {"rope_theta": 10000.0}
    config = LlamaConfig(vocab_size=N_VOCAB, hidden_size=n_embd, intermediate_size=n_embd,
                         num_hidden_layers=n_layer,
                         num_attention_heads=heads, num_key_value_heads=kv, head_dim=head_dim,
                         max_position_embeddings=128, rms_norm_eps=1e-5, attention_bias=spec.get("bias", False),
                         tie_word_embeddings=spec.get("tied", False), attn_implementation="eager",
                         rope_parameters={**theta, **(rope or {"rope_type": "default"})})
    torch.manual_seed(sum(map(ord, name)) + spec.get("seed", 0))
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.normal_(1.0 if "norm" in key else 0.0, 0.2)

    meta = {"general.architecture": "llama", "general.name": "tiny " + name,
            "llama.context_length": 128, "llama.embedding_length": n_embd, "llama.block_count": n_layer,
            "llama.feed_forward_length": n_embd, "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv,
            "llama.attention.key_length": head_dim, "llama.attention.value_length": head_dim,
            "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": head_dim,
            "llama.rope.freq_base": 10000.0,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"] + [chr(0x21 + i) for i in range(N_VOCAB - 3)],
            "tokenizer.ggml.scores": [float(-i) for i in range(N_VOCAB)],
            "tokenizer.ggml.token_type": [2, 3, 3] + [1] * (N_VOCAB - 3),
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    tensors = []
    if rope and rope["rope_type"] == "linear":
        meta |= {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": rope["factor"]}
    elif rope:
        factors = llama3_factors(config, rope)
        tensors.append(("rope_freqs.weight", factors.shape, 0, factors.tobytes()))

    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    with torch.no_grad():
        for key, p in model.named_parameters():
            part, leaf = key.rsplit(".", 1)
            gguf_name = names[part] if part in names else "blk.{}.{}".format(part.split(".")[2],
                                                                              names[part.split(".", 3)[3]])
            w = p.numpy().copy()
            n_head = heads if "q_proj" in key else kv if "k_proj" in key else 0
            w = neighbours(w, n_head) if n_head else w
            type_name = spec["type"] if w.ndim == 2 else "F32"
            if type_name == "Q4_K" and any(x in key for x in ("embed", "v_proj", "down_proj")):
                type_name = "Q6_K"
            raw, meant = pack(w, type_name)
            tensors.append((gguf_name + "." + leaf, w.shape, TYPE_NUMBER[type_name], raw))
            p.copy_(torch.from_numpy(halves(meant, n_head) if n_head else meant))

        tokens = torch.randint(3, N_VOCAB, (N_TOKENS,))
        tokens[0] = 1
        logits = model(tokens[None]).logits[0]
        greedy = tokens[:N_PROMPT].tolist()
        for _ in range(N_GREEDY):
            top = model(torch.tensor([greedy])).logits[0, -1].topk(2)
            assert top.values[0] - top.values[1] > MARGIN, f"{name}: a close choice; take another seed"
            greedy.append(top.indices[0].item())
    return meta, tensors, {"file": f"llama-{name}.gguf", "tokens": tokens.tolist(), "positions": POSITIONS,
                           "greedy": greedy[N_PROMPT:],
                           "logits": [[float(f"{v:.7g}") for v in logits[i].tolist()] for i in POSITIONS]}


def main(folder):
    cases = []
    for name, spec in MODELS.items():
        meta, tensors, case = build(name, spec)
        write_gguf(f"{folder}/llama-{name}.gguf", meta, tensors)
        cases.append(case)
    with open(f"{folder}/llama-tiny.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
