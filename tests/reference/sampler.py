"""Computes the distributions that src/engine/sampler_test.c draws from, by the definitions in src/engine/sampler.h.

    python -m venv VENV && VENV/bin/pip install numpy==2.4.6 scipy==1.17.1
    VENV/bin/python tests/reference/sampler.py tests/reference/sampler.json

Everything is float64, whole sorts and no shortcuts, and shares nothing with the sampler but the definitions. For each case: the options, the
probability of each token, and the value that chi-squared of DRAWS draws exceeds once in ten thousand samplers that are right. Also what the
random numbers of some seeds are, and log probabilities.
"""
import json
import sys

import numpy as np
from scipy.stats import chi2

N, DRAWS, RARE = 40, 20000, 1e-4
MASK = (1 << 64) - 1


def logits(seed, scale):
    """Of eighths, so that float32 holds them exactly and some are equal."""
    g = np.random.default_rng(seed)
    return np.round(g.normal(0, scale, N) * 8) / 8


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def keep(p, order, n):
    out = np.zeros_like(p)
    out[order[:n]] = p[order[:n]]
    return out / out.sum()


def fewest(p, order, share):
    """How many of that order reach the share: the bound is well off every running sum in all cases below."""
    sums = np.cumsum(p[order])
    assert np.abs(sums - share).min() > 1e-5, np.abs(sums - share).min()
    return int(np.searchsorted(sums, share)) + 1


def by_p(p):
    return sorted(range(len(p)), key=lambda i: (-p[i], i))


def distribution(l, o, prompt, text):
    l = l.copy()
    for token, bias in o.get("logit_bias", []):
        l[token] += bias
    r = o.get("repetition_penalty", 1)
    for t in set(prompt) | set(text):
        l[t] = l[t] / r if l[t] > 0 else l[t] * r
    for t in set(text):
        l[t] -= o.get("frequency_penalty", 0) * text.count(t) + o.get("presence_penalty", 0)
    l = l / o["temperature"]
    p = softmax(l)
    if 0 < o.get("top_k", 0) < N:
        p = keep(p, by_p(p), o["top_k"])
    if 0 < o.get("typical_p", 0) < 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            info = np.where(p > 0, -np.log(p), np.inf)
            entropy = np.sum(np.where(p > 0, p * info, 0))
        far = np.round(np.abs(info - entropy), 9)
        order = [i for i in sorted(range(N), key=lambda i: (far[i], i)) if p[i] > 0]
        p = keep(p, order, fewest(p, order, o["typical_p"]))
    if 0 < o.get("top_p", 0) < 1:
        order = by_p(p)
        p = keep(p, order, fewest(p, order, o["top_p"]))
    if o.get("min_p", 0) > 0:
        ratio = p / p.max()
        assert np.abs(ratio - o["min_p"]).min() > 1e-5
        p = np.where(ratio >= o["min_p"], p, 0)
        p /= p.sum()
    return p


def chi2_limit(p):
    """Tokens that are expected less than 5 times count as one."""
    expected = p * DRAWS
    n = int((expected >= 5).sum()) + int(0 < expected[(expected > 0) & (expected < 5)].sum())
    return float(chi2.ppf(1 - RARE, n - 1)) if n > 1 else 0.0


CASES = [
    {"temperature": 1},
    {"temperature": 0.4},
    {"temperature": 3},
    {"temperature": 1, "top_k": 1},
    {"temperature": 1, "top_k": 2},
    {"temperature": 1, "top_k": 15},
    {"temperature": 1, "top_k": N},
    {"temperature": 1, "top_p": 0.05},
    {"temperature": 1, "top_p": 0.6},
    {"temperature": 1, "top_p": 0.97},
    {"temperature": 1, "min_p": 0.02},
    {"temperature": 1, "min_p": 0.3},
    {"temperature": 1, "min_p": 0.9995},
    {"temperature": 1, "typical_p": 0.05},
    {"temperature": 1, "typical_p": 0.5},
    {"temperature": 2, "typical_p": 0.9},
    {"temperature": 1, "logit_bias": [[3, 4], [5, -100], [7, -1.5], [9, 100]]},
    {"temperature": 1, "logit_bias": [[3, 2.5], [5, -100], [7, -1.5]]},
    {"temperature": 1, "repetition_penalty": 1.8},
    {"temperature": 1, "repetition_penalty": 0.7},
    {"temperature": 1, "frequency_penalty": 0.6},
    {"temperature": 1, "frequency_penalty": -0.4},
    {"temperature": 1, "presence_penalty": 1.7},
    {"temperature": 1, "presence_penalty": -1},
    {"temperature": 1.3, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.5, "logit_bias": [[1, 3], [2, -3]]},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 20, "min_p": 0.1},
    {"temperature": 0.8, "top_k": 20, "typical_p": 0.7},
    {"temperature": 1.5, "typical_p": 0.8, "top_p": 0.7},
    {"temperature": 1.5, "typical_p": 0.4, "min_p": 0.6},
    {"temperature": 1.5, "top_p": 0.9, "min_p": 0.3},
    {"temperature": 1.2, "top_k": 30, "typical_p": 0.95, "top_p": 0.85, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": 0.4,
     "logit_bias": [[4, 1.5]]},
]


def case(i, o):
    g = np.random.default_rng(1000 + i)
    l = logits(i, 1.5)
    prompt, text = [[int(t) for t in g.integers(0, 12, n)] for n in (6, 9)]
    p = distribution(l, o, prompt, text)
    return {"logits": l.tolist(), "prompt": prompt, "text": text, "options": o, "p": [round(float(x), 12) for x in p],
            "chi2": round(chi2_limit(p), 4)}


def splitmix(seed, n):
    out = []
    for _ in range(n):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(((z ^ (z >> 31)) >> 11) / 2.0**53)
    return out


def main():
    seeds = [0, 1, 42, 2**63, 2**64 - 1]
    l = logits(77, 4)
    out = {
        "draws": DRAWS,
        "cases": [case(i, o) for i, o in enumerate(CASES)],
        # Of 1,024 equal tokens, u chooses the one at floor(1024 u).
        "seeds": [{"seed": str(s), "tokens": [int(u * 1024) for u in splitmix(s, 12)]} for s in seeds],
        "logprobs": {"logits": l.tolist(), "logprobs": [round(float(x), 9) for x in np.log(softmax(l))]},
    }
    with open(sys.argv[1], "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


main()
