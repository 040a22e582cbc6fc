"""The network: a Llama of a few million parameters, and its geometry.

Named and laid out as in GGUF (`blk.N.attn_q.weight`, rope on adjacent pairs), so that export is a copy.
Widths are multiples of 256: every quantised block type of the engine divides them.
"""

import torch
import torch.nn.functional as F
from torch import nn

N_VOCAB, N_EMBD, N_FF, N_LAYER, N_HEAD, N_HEAD_KV = 1536, 256, 512, 6, 8, 4
HEAD_DIM = N_EMBD // N_HEAD
N_CTX, RMS_EPS, ROPE_BASE = 1024, 1e-5, 10000.0


def rope_table(n):
    """cos and sin for positions 0..n-1, each [n, 1, HEAD_DIM / 2] float32."""
    freq = ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float32) / HEAD_DIM)
    angle = torch.arange(n, dtype=torch.float32)[:, None] * freq[None]
    return angle.cos()[:, None], angle.sin()[:, None]


def rope(x, cos, sin):
    """Rotates the pairs (0, 1), (2, 3), ... of each head. x is [batch, n, heads, HEAD_DIM]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda n_in, n_out: nn.Linear(n_in, n_out, bias=False)
        self.attn_norm = nn.Parameter(torch.ones(N_EMBD))
        self.attn_q = linear(N_EMBD, N_EMBD)
        self.attn_k = linear(N_EMBD, N_HEAD_KV * HEAD_DIM)
        self.attn_v = linear(N_EMBD, N_HEAD_KV * HEAD_DIM)
        self.attn_output = linear(N_EMBD, N_EMBD)
        self.ffn_norm = nn.Parameter(torch.ones(N_EMBD))
        self.ffn_gate = linear(N_EMBD, N_FF)
        self.ffn_up = linear(N_EMBD, N_FF)
        self.ffn_down = linear(N_FF, N_EMBD)

    def forward(self, x, cos, sin, mask, cache=None):
        n_batch, n, _ = x.shape
        h = F.rms_norm(x, (N_EMBD,), self.attn_norm, RMS_EPS)
        q = rope(self.attn_q(h).view(n_batch, n, N_HEAD, HEAD_DIM), cos, sin)
        k = rope(self.attn_k(h).view(n_batch, n, N_HEAD_KV, HEAD_DIM), cos, sin)
        v = self.attn_v(h).view(n_batch, n, N_HEAD_KV, HEAD_DIM)
        if cache is not None:
            k, v = torch.cat((cache["k"], k), 1) if cache else k, torch.cat((cache["v"], v), 1) if cache else v
            cache.update(k=k, v=v)
        k, v = (t.repeat_interleave(N_HEAD // N_HEAD_KV, dim=2) for t in (k, v))
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        # Written out: the fused CPU attention takes four times as long in bf16 at these lengths.
        scores = torch.baddbmm(mask.to(q.dtype), q, k.transpose(1, 2), alpha=HEAD_DIM ** -0.5)
        h = F.softmax(scores, -1, dtype=scores.dtype) @ v
        h = h.view(n_batch, N_HEAD, n, HEAD_DIM).transpose(1, 2).reshape(n_batch, n, N_EMBD)
        x = x + self.attn_output(h)
        h = F.rms_norm(x, (N_EMBD,), self.ffn_norm, RMS_EPS)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embd = nn.Embedding(N_VOCAB, N_EMBD)
        self.blk = nn.ModuleList(Block() for _ in range(N_LAYER))
        self.output_norm = nn.Parameter(torch.ones(N_EMBD))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                # Small output projections keep the residual stream calm at the start.
                scale = 0.3 if "output" in name or "down" in name else 1.0
                nn.init.normal_(p, std=0.02 if "embd" in name else scale * p.shape[1] ** -0.5)

    def forward(self, ids, cache=None):
        """ids [batch, n] int64 -> logits [batch, n, N_VOCAB]. `cache`, a list of N_LAYER dicts that start empty,
        holds the keys and values of the tokens before these."""
        n_past = cache[0]["k"].shape[1] if cache and cache[0] else 0
        n = ids.shape[1]
        cos, sin = (t[n_past:] for t in rope_table(n_past + n))
        mask = torch.full((n, n_past + n), float("-inf")).triu(n_past + 1)
        x = self.token_embd(ids)
        for i, block in enumerate(self.blk):
            x = block(x, cos, sin, mask, cache[i] if cache else None)
        return F.rms_norm(x, (N_EMBD,), self.output_norm, RMS_EPS) @ self.token_embd.weight.t()
