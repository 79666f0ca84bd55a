"""Token keys: a span of the document is as good as its best token.

The adapter's own cross query of one layer meets that lower layer's key of every token, turned as injection would turn
both. Per head the products are standardized over all tokens; a token counts with its best head.
"""
from __future__ import annotations

import torch
from torch import Tensor


def token_scores(query: Tensor, keys: Tensor, heads: list[int] | None = None) -> Tensor:
    """query [h,d], keys [g,T,d], both turned -> scores [T], in standard deviations above the mean of all tokens."""
    groups = len(keys)
    products = torch.einsum("gad,gtd->gat", query.unflatten(0, (groups, -1)), keys).flatten(0, 1)
    if heads:
        products = products[heads]
    mean = products.mean(1, keepdim=True)
    deviation = (products - mean).square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    return ((products - mean) / deviation).max(0).values
