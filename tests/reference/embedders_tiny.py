"""Writes encoders/qwen3-embedding: a small decoder with random weights that makes vectors of texts, and embedders-tiny.json: what transformers computes with
it in float32: the last token's vector behind the last norm.

The folder has what sentence-transformers writes beside such models: modules.json, 1_Pooling, and a tokenizer that puts an end behind a text. The
weights are named without "model.", as those of models saved without their output matrix are.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3
    VENV/bin/python tests/reference/embedders_tiny.py
"""
import json
import os
import shutil

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["the quiet river", "A small house in the garden, with green windows!", "x", "Überall naïve Bücher, 川 and 石", "one two three " * 10, "1234 5678, 9!",
         "spaces  and\ttabs\n\nlines", "the " * 80 + "end"]
N_CTX = 96


def tokenizer():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(sorted(TEXTS), trainer)
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", tok.token_to_id("<|endoftext|>"))])])
    return t.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def write(folder, name, value):
    os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, indent=1)


torch.manual_seed(3)
folder = os.path.join(HERE, "encoders", "qwen3-embedding")
shutil.rmtree(folder, ignore_errors=True)
tok = tokenizer()
config = t.Qwen3Config(vocab_size=len(tok) + 6, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                       max_position_embeddings=N_CTX, tie_word_embeddings=True, rope_theta=1000000.0)
model = t.Qwen3Model(config).float().eval()
with torch.no_grad():
    for name, p in model.named_parameters():
        p.copy_(1 + 0.2 * torch.randn_like(p) if "norm" in name else 0.2 * torch.randn_like(p))
model.save_pretrained(folder)
tok.save_pretrained(folder)
write(folder, "modules.json", [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                               for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])])
write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 48, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False,
                                        "pooling_mode_lasttoken": True, "include_prompt": True})
cases = []
for text in TEXTS:
    ids = tok(text)["input_ids"]
    ids = ids if len(ids) <= N_CTX else ids[:N_CTX - 1] + ids[-1:]
    with torch.no_grad():
        last = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    cases.append({"texts": [text], "ids": ids, "last": [float(f"{v:.9g}") for v in last.tolist()]})
with open(os.path.join(HERE, "embedders-tiny.json"), "w") as f:
    json.dump({"qwen3-embedding": {"n_ctx": N_CTX, "cases": cases}}, f, separators=(",", ":"), ensure_ascii=False)
    f.write("\n")
