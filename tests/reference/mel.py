"""Writes mel.json: what transformers' Whisper feature extractor makes of a synthetic sound, with 80 and with 128 mels.

    VENV/bin/python tests/reference/mel.py      (VENV: see encoders_tiny.py)

The sound is made of whole numbers only, so that the test makes the same: sample i is ((i * i * 31 + i * 17) mod 20001 - 10000) * ((i / 400) mod 5 + 1) / 5,
divisions cut. Some frames are kept, and of each all numbers.
"""
import json
import os

import numpy as np
from transformers import WhisperFeatureExtractor

HERE = os.path.dirname(os.path.abspath(__file__))
N, FRAMES = 48000, [0, 1, 2, 57, 150, 211, 297]


def main():
    i = np.arange(N, dtype=np.int64)
    v = (i * i * 31 + i * 17) % 20001 - 10000
    v = np.fix(v * (i // 400 % 5 + 1) / 5).astype(np.int64)
    out = {"n": N, "frames": FRAMES}
    for n_mels in (80, 128):
        extract = WhisperFeatureExtractor(feature_size=n_mels)
        f = extract(v.astype(np.float64) / 32768, sampling_rate=16000, return_tensors="np").input_features[0]
        out[str(n_mels)] = [[float(f"{x:.7g}") for x in f[:, k]] for k in FRAMES]
    with open(os.path.join(HERE, "mel.json"), "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


main()
