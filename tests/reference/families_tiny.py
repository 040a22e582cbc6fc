"""Makes small random models of the families beside Llama, as GGUF and as Hugging Face folders, and their logits.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0
    VENV/bin/python tests/reference/families_tiny.py tests/reference

Each goes to NAME.gguf and to the folder NAME/ (config.json as transformers writes it, weights, tokenizer.json), with the numbers
that transformers computes on the same weights in families-tiny.json; llama_tiny.py says how these are made. Between them: a sliding
window of 20 positions, which is shorter than a page, in all layers, or in the first or the last only; biases of q, k and v, and of
everything; norms of each head; YaRN in its variants; learned positions; other activations and scales in GPT-2; weights in one file and
in two; float32, float16 and bfloat16 in folders. For a folder, also what it answers to a message in a chat, as text.
"""
import json
import math
import os
import sys

import tokenizers
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers import MinistralConfig, MinistralForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from llama_tiny import MARGIN, N_GREEDY, N_PROMPT, N_TOKENS, N_VOCAB, POSITIONS, TYPE_NUMBER, neighbours, pack, write_gguf

N_CTX, N_LAYER, HEADS = 128, 2, 4
THETA = {"rope_theta": 10000.0, "rope_type": "default"}
YARN = {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}


def common(**more):
    return dict(vocab_size=N_VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=N_LAYER, num_attention_heads=HEADS,
                max_position_embeddings=N_CTX, rms_norm_eps=1e-5, attn_implementation="eager") | more


def small(**more):
    return common(**({"hidden_size": 32, "intermediate_size": 48} | more))


def small_gpt2(**more):
    return GPT2Config(vocab_size=N_VOCAB, bos_token_id=1, eos_token_id=2, n_positions=N_CTX, n_embd=32, n_layer=N_LAYER, n_head=2,
                      attn_implementation="eager", **more)


# type: of the GGUF's matrices; dtype: of the folder's weights, which the GGUF's are made from; shards, parts: files in folder and GGUF
MODELS = {
    "mistral": dict(arch="llama", type="BF16", dtype=torch.bfloat16, shards=1, model=MistralForCausalLM,
                    config=MistralConfig(**common(num_key_value_heads=2, sliding_window=20, rope_parameters=THETA))),
    "qwen2": dict(arch="qwen2", type="F16", dtype=torch.float16, shards=2, model=Qwen2ForCausalLM,
                  config=Qwen2Config(**common(num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=YARN))),
    "qwen3": dict(arch="qwen3", type="BF16", dtype=torch.bfloat16, shards=1, parts=2, model=Qwen3ForCausalLM,
                  config=Qwen3Config(**common(num_key_value_heads=1, head_dim=32, tie_word_embeddings=True, rope_parameters=THETA))),
    "llama3": dict(arch="llama", type="F16", dtype=torch.float16, shards=2, model=LlamaForCausalLM,
                   config=LlamaConfig(**common(num_key_value_heads=2, head_dim=24, tie_word_embeddings=True, rope_parameters=LLAMA3))),
    "gpt2": dict(arch="gpt2", type="F32", dtype=torch.float32, shards=1, model=GPT2LMHeadModel,
                 config=GPT2Config(vocab_size=N_VOCAB, bos_token_id=1, eos_token_id=2, n_positions=N_CTX, n_embd=48, n_layer=N_LAYER,
                                   n_head=HEADS, n_inner=96, attn_implementation="eager")),
    "ministral": dict(arch="llama", type="F16", dtype=torch.float16, shards=1, model=MinistralForCausalLM,
                      config=MinistralConfig(**small(num_key_value_heads=2, head_dim=16, sliding_window=20, rope_parameters=THETA,
                                                     layer_types=["sliding_attention", "full_attention"]))),
    "qwen2-window": dict(arch="qwen2", type="BF16", dtype=torch.bfloat16, shards=1, model=Qwen2ForCausalLM,
                         config=Qwen2Config(**small(num_key_value_heads=2, use_sliding_window=True, sliding_window=20, max_window_layers=1,
                                                    rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 1.3}))),
    "qwen3-bias": dict(arch="qwen3", type="F16", dtype=torch.float16, shards=2, model=Qwen3ForCausalLM,
                       config=Qwen3Config(**small(num_key_value_heads=2, head_dim=24, attention_bias=True, use_sliding_window=True,
                                                  sliding_window=20, max_window_layers=0,
                                                  rope_parameters=YARN | {"attention_factor": 1.2, "beta_fast": 16}))),
    "llama-bias": dict(arch="llama", type="F32", dtype=torch.float32, shards=1, eos_at=9, model=LlamaForCausalLM,
                       config=LlamaConfig(**small(num_key_value_heads=4, attention_bias=True, mlp_bias=True,
                                                  rope_parameters=YARN | {"truncate": False}))),
    "gpt2-gelu": dict(arch="gpt2", type="F32", dtype=torch.float32, shards=1, model=GPT2LMHeadModel,
                      config=small_gpt2(activation_function="gelu", scale_attn_by_inverse_layer_idx=True)),
    "gpt2-relu": dict(arch="gpt2", type="F32", dtype=torch.float16, shards=1, model=GPT2LMHeadModel,
                      config=small_gpt2(activation_function="relu", scale_attn_weights=False)),
}
ONLY_FOLDERS = {"llama3",  # llama_tiny.py has made such a file
                "llama-bias", "gpt2-gelu", "gpt2-relu"}  # no keys of GGUF say these
CHAT_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
         "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
         "mlp.c_proj": "ffn_down"}


def gguf_name(key):
    part, leaf = key.rsplit(".", 1)
    if part in NAMES:
        return f"{NAMES[part]}.{leaf}"
    _, _, layer, rest = part.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{leaf}"


def gguf_meta(arch, c):
    meta = {"general.architecture": arch, "general.name": "tiny " + c.model_type,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"] + [chr(0x21 + i) for i in range(N_VOCAB - 3)],
            "tokenizer.ggml.scores": [float(-i) for i in range(N_VOCAB)],
            "tokenizer.ggml.token_type": [2, 3, 3] + [1] * (N_VOCAB - 3),
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    keys = {"context_length": N_CTX, "embedding_length": c.hidden_size, "block_count": N_LAYER, "attention.head_count": HEADS}
    if arch == "gpt2":
        keys |= {"feed_forward_length": c.n_inner, "attention.layer_norm_epsilon": c.layer_norm_epsilon}
    else:
        head_dim = getattr(c, "head_dim", None) or c.hidden_size // HEADS
        rope = c.rope_parameters
        keys |= {"feed_forward_length": c.intermediate_size, "attention.head_count_kv": c.num_key_value_heads,
                 "attention.key_length": head_dim, "attention.value_length": head_dim, "rope.dimension_count": head_dim,
                 "attention.layer_norm_rms_epsilon": c.rms_norm_eps, "rope.freq_base": rope["rope_theta"]}
        if rope["rope_type"] == "yarn":
            keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": rope["factor"],
                     "rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
            usual = 0.1 * math.log(rope["factor"]) + 1  # which readers multiply with
            if "attention_factor" in rope:
                keys |= {"rope.scaling.attn_factor": rope["attention_factor"] / usual, "rope.scaling.yarn_beta_fast": float(rope["beta_fast"])}
            elif "mscale" in rope:
                own, whole = (0.1 * rope[k] * math.log(rope["factor"]) + 1 for k in ("mscale", "mscale_all_dim"))
                keys |= {"rope.scaling.attn_factor": own / whole / usual}
        slides = [t == "sliding_attention" for t in getattr(c, "layer_types", None) or []] or [c.model_type == "mistral"]
        if any(slides):
            keys |= {"attention.sliding_window": c.sliding_window}
            keys |= {} if all(slides) else {"attention.sliding_window_pattern": slides}
    return meta | {f"{arch}.{k}": v for k, v in keys.items()}


def tokenizer():
    """160 tokens: three special ones, then the first characters of the byte-level alphabet."""
    specials = ["<unk>", "<s>", "</s>"]
    printable = [chr(b) for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF]
    alphabet = ["\u0120", "\u010a"] + printable
    vocab = {t: i for i, t in enumerate(specials + alphabet[:N_VOCAB - 3])}
    added = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, t in enumerate(specials)]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    return dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=level, post_processor=None,
                decoder=level,
                model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                           fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab, merges=[]))


def write_folder(folder, spec, state):
    os.makedirs(folder, exist_ok=True)
    config = spec["config"].to_dict() | {"architectures": [spec["model"].__name__], "dtype": str(spec["dtype"]).split(".")[1],
                                         "bos_token_id": 1, "eos_token_id": 2}
    with open(f"{folder}/config.json", "w") as f:
        json.dump({k: v for k, v in config.items() if v is not None and k not in ("id2label", "label2id")}, f, indent=1)
    with open(f"{folder}/tokenizer.json", "w") as f:
        json.dump(tokenizer(), f, ensure_ascii=False)
    with open(f"{folder}/tokenizer_config.json", "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False,
                   "chat_template": CHAT_TEMPLATE}, f, indent=1)
    keys, n = sorted(state), spec["shards"]
    if n == 1:
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
        return
    where = {k: f"model-{i * n // len(keys) + 1:05}-of-{n:05}.safetensors" for i, k in enumerate(keys)}
    for name in sorted(set(where.values())):
        save_file({k: state[k] for k in keys if where[k] == name}, f"{folder}/{name}", metadata={"format": "pt"})
    with open(f"{folder}/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": where}, f, indent=1)


def write_parts(folder, name, meta, tensors, n):
    """One file, or n that llama.cpp's gguf-split might have made; the name of the first."""
    if n == 1:
        write_gguf(f"{folder}/{name}.gguf", meta, tensors)
        return f"{name}.gguf"
    names = [f"{name}-{i + 1:05}-of-{n:05}.gguf" for i in range(n)]
    for i, part in enumerate(names):
        own = tensors[len(tensors) * i // n:len(tensors) * (i + 1) // n]
        split = {"split.no": i, "split.count": n, "split.tensors.count": len(tensors)}
        write_gguf(f"{folder}/{part}", (meta if i == 0 else {}) | split, own)
    return names[0]


def numbers(model, seed):
    torch.manual_seed(seed)
    tokens = torch.randint(3, N_VOCAB, (N_TOKENS,))
    tokens[0] = 1
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
        greedy = tokens[:N_PROMPT].tolist()
        for _ in range(N_GREEDY):
            top = model(torch.tensor([greedy])).logits[0, -1].topk(2)
            if top.values[0] - top.values[1] <= MARGIN:
                return None
            greedy.append(top.indices[0].item())
    return {"tokens": tokens.tolist(), "positions": POSITIONS, "greedy": greedy[N_PROMPT:],
            "logits": [[float(f"{v:.7g}") for v in logits[i].tolist()] for i in POSITIONS]}


def continued(model, tokens, n):
    """Greedy, or None where two tokens were too close to tell which is first."""
    for _ in range(n):
        with torch.no_grad():
            top = model(torch.tensor([tokens])).logits[0, -1].topk(2)
        if top.values[0] - top.values[1] <= MARGIN:
            return None
        tokens = tokens + [top.indices[0].item()]
    return tokens


def chat(folder, model, spec):
    """What the folder answers; with a generation_config.json that lets it end early where the model is one for that."""
    t = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    for content in ("Who are you?", "Tell me more.", "Why?", "Hello!", "What is a loom?", "And then?", "Go on.", "1 + 1?"):
        prompt = t.encode(f"[user] {content}\n", add_special_tokens=False).ids
        all_tokens = continued(model, prompt, N_GREEDY)
        answer = all_tokens and all_tokens[len(prompt):]
        if not answer or 2 in answer:
            continue
        if "eos_at" in spec:
            eos = answer[spec["eos_at"]]
            answer = answer[:answer.index(eos)]
            if len(answer) < 4:
                continue
            with open(f"{folder}/generation_config.json", "w") as f:
                json.dump({"eos_token_id": [2, eos], "temperature": 0.7, "transformers_version": "5.24.0"}, f, indent=1)
        return {"content": content, "n_prompt": len(prompt), "n_answer": len(answer), "ended": "eos_at" in spec, "text": t.decode(answer)}
    return None


def build(folder, name, spec):
    c = spec["config"]
    torch.manual_seed(sum(map(ord, name)))
    model = spec["model"](c).float().eval()
    state, tensors = {}, []
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.normal_(1.0 if "norm" in key or ".ln_" in key and key.endswith("weight") else 0.0, 0.2)
            p.copy_(p.to(spec["dtype"]))
            w = p.numpy().copy()
            conv = spec["arch"] == "gpt2" and w.ndim == 2 and not key.startswith("transformer.w")
            w = w.T.copy() if conv else w  # GPT-2's linear layers keep [in, out]
            n_head = 0
            if spec["arch"] == "llama":
                n_head = HEADS if "q_proj" in key else c.num_key_value_heads if "k_proj" in key else 0
            type_name = spec["type"] if w.ndim == 2 else "F32"
            raw, meant = pack(neighbours(w, n_head) if n_head else w, type_name)
            tensors.append((gguf_name(key), w.shape, TYPE_NUMBER[type_name], raw))
            assert (meant == (neighbours(w, n_head) if n_head else w)).all()  # GGUF and folder mean the same
            state[key] = p.to(spec["dtype"]).clone().contiguous()
    if spec["arch"] == "gpt2":  # as its first files were called
        state = {k.removeprefix("transformer."): v for k, v in state.items()}
    write_folder(f"{folder}/{name}", spec, state)
    case = next(n for n in (numbers(model, seed) for seed in range(100)) if n)
    of_folder = {"file": name, "chat": chat(f"{folder}/{name}", model, spec)} | case
    if name in ONLY_FOLDERS:
        return [of_folder]
    return [{"file": write_parts(folder, name, gguf_meta(spec["arch"], c), tensors, spec.get("parts", 1))} | case, of_folder]


def main(folder):
    os.umask(0o022)
    cases = [case for name, spec in MODELS.items() for case in build(folder, name, spec)]
    with open(f"{folder}/families-tiny.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main(sys.argv[1])
