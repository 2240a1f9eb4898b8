#!/usr/bin/env python3
"""The peer case of docs/performance.md in PyTorch: whole training steps of a small dropless mixture-of-experts
transformer on random tokens, FP32, AdamW. Prints one JSON object: tokens/s (median and best) and peak memory.

The arithmetic is that of `cadre bench peer`: RMSNorm, rotary embedding, causal attention, SwiGLU experts behind a
softmax top-k router with balance loss and z-loss, an untied head, clipping by the global norm. Rows are sorted by
expert, each expert has parameters of its own (a stacked tensor would have its whole gradient written once more), and
whatever a newer PyTorch does better (fused attention, RMSNorm, AdamW) is used when it is there.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    def __init__(self, size, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotary_table(length, dim, theta=10000.0):
    angles = torch.outer(torch.arange(length).float(), theta ** (-torch.arange(0, dim, 2).float() / dim))
    return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([-angles.sin(), angles.sin()], -1)


class Attention(nn.Module):
    def __init__(self, hidden, heads, length):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        cos, sin = rotary_table(length, hidden // heads)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)
        self.register_buffer("mask", torch.full((length, length), float("-inf")).triu(1))

    def rotate(self, x):
        half = x.shape[-1] // 2
        return x * self.cos + torch.roll(x, half, -1) * self.sin

    def forward(self, x):
        batch, length, hidden = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = self.rotate(qkv[0]), self.rotate(qkv[1]), qkv[2]
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1)) + self.mask
            y = torch.matmul(scores.softmax(-1), v)
        return self.out(y.transpose(1, 2).reshape(batch, length, hidden))


class Experts(nn.Module):
    def __init__(self, hidden, experts, top_k, ffn):
        super().__init__()
        self.top_k, self.count = top_k, experts
        self.router = nn.Linear(hidden, experts, bias=False)
        self.up = nn.ModuleList(nn.Linear(hidden, 2 * ffn, bias=False) for _ in range(experts))
        self.down = nn.ModuleList(nn.Linear(ffn, hidden, bias=False) for _ in range(experts))

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        logits = self.router(x)
        probs = logits.softmax(-1)
        weights, ids = probs.topk(self.top_k, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        flat = ids.reshape(-1)
        order = torch.sort(flat, stable=True)[1]
        counts = torch.bincount(flat, minlength=self.count)
        tokens = torch.div(order, self.top_k, rounding_mode="floor")
        parts = []
        for expert, rows in enumerate(x.index_select(0, tokens).split(counts.tolist())):
            gate, up = self.up[expert](rows).chunk(2, -1)
            parts.append(self.down[expert](F.silu(gate) * up))
        y = torch.cat(parts) * weights.reshape(-1).index_select(0, order).unsqueeze(-1)
        out = torch.zeros_like(x).index_add_(0, tokens, y)
        fractions = counts / flat.numel()
        auxiliary = 0.01 * self.count * (fractions * probs.mean(0)).sum() + 0.001 * logits.logsumexp(-1).square().mean()
        return out.view(shape), auxiliary


class Block(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(o.hidden), RMSNorm(o.hidden)
        self.attention = Attention(o.hidden, o.heads, o.length)
        self.experts = Experts(o.hidden, o.experts, o.top_k, o.ffn)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y, auxiliary = self.experts(self.norm2(x))
        return x + y, auxiliary


class Model(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embedding = nn.Embedding(o.vocabulary, o.hidden)
        self.blocks = nn.ModuleList(Block(o) for _ in range(o.layers))
        self.norm = RMSNorm(o.hidden)
        self.head = nn.Linear(o.hidden, o.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x, total = self.embedding(tokens), 0.0
        for block in self.blocks:
            x, auxiliary = block(x)
            total = total + auxiliary
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1)) + total


def make_optimizer(model, kind):
    options = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    kinds = [kind] if kind else ["fused", "foreach", "loop"]
    for name in kinds:
        try:
            return name, torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                           **options[name])
        except (RuntimeError, TypeError):  # this PyTorch has no such AdamW for the CPU
            continue
    raise SystemExit(f"no AdamW of kind {kind}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in dict(hidden=256, layers=4, heads=4, experts=8, top_k=2, ffn=512, length=256, batch=8,
                            vocabulary=256, threads=2).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--optimizer", choices=["loop", "foreach", "fused"])
    parser.add_argument("--no-mkldnn", action="store_true", help="matrix products by the BLAS that PyTorch links")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def main():
    o = arguments()
    torch.set_num_threads(o.threads)
    torch.backends.mkldnn.enabled = not o.no_mkldnn
    torch.manual_seed(1)
    model = Model(o)
    kind, optimizer = make_optimizer(model, o.optimizer)

    def step():
        tokens = torch.randint(o.vocabulary, (o.batch, o.length))
        targets = torch.randint(o.vocabulary, (o.batch, o.length))
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    for _ in range(3):
        step()
    seconds, start = [], time.perf_counter()
    while time.perf_counter() - start < o.seconds or len(seconds) < 5:
        began = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - began)
    if o.profile:
        with torch.autograd.profiler.profile() as profile:
            step()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    tokens = o.batch * o.length
    print(json.dumps({
        "program": f"PyTorch {torch.__version__}", "threads": o.threads, "steps": len(seconds), "adamw": kind,
        "loss": round(float(loss.detach()), 4),
        "tokens_per_second": round(tokens / statistics.median(seconds), 1),
        "best_tokens_per_second": round(tokens / min(seconds), 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
