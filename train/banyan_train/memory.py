"""How a document is compressed, and what a question reads of it.

Shapes: B rows, S slots in total, g kv heads, d head size.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from . import tree


@dataclass(frozen=True)
class TreeConfig:
    """How a document is compressed."""

    layers: int  # M, the number of injecting layers
    depth: int = 3
    last_p: str = "64"
    do_retrieval: bool = True
    semantics: str = "paper"
    slot_kind: str = "strided"
    chunk_size: int = 1024
    selection: str = "cosine"  # or "token_keys"
    selection_layer: int = 0
    selection_heads: tuple[int, ...] = ()  # empty: all
    positions: str = "sum"  # or "banded" (nested)
    slot_budget: float = 0  # 0: none
    budget_unit: str = "chunk"  # or "group" (nested with token_keys)

    @staticmethod
    def of(keys: dict, semantics: str = "released") -> "TreeConfig":
        """From the keys of a checkpoint's config.json or of an adapter_config.json."""
        get = keys.get
        return TreeConfig(
            layers=-keys["num_cross_attn_layers"], depth=get("segment_tree_depth", 3), last_p=str(get("last_p", "64")),
            do_retrieval=get("do_retrieval", True), semantics=get("semantics", semantics), slot_kind=get("slot_kind", "strided"),
            chunk_size=get("chunk_size", 1024), selection=get("selection", "cosine"), selection_layer=get("selection_layer", 0),
            selection_heads=tuple(get("selection_heads") or ()), positions=get("positions", "sum"),
            slot_budget=get("slot_budget", 0), budget_unit=get("budget_unit", "chunk"))

    def hugging_face(self) -> dict:
        """The same keys; those that say nothing new are left out."""
        keys = {"semantics": self.semantics, "slot_kind": self.slot_kind, "num_cross_attn_layers": -self.layers,
                "segment_tree_depth": self.depth, "last_p": self.last_p, "chunk_size": self.chunk_size,
                "do_retrieval": self.do_retrieval}
        if self.selection != "cosine":
            keys.update(selection=self.selection, selection_layer=self.selection_layer)
            keys.update({"selection_heads": list(self.selection_heads)} if self.selection_heads else {})
        if self.positions != "sum":
            keys["positions"] = self.positions
        if self.slot_budget:
            keys.update(slot_budget=self.slot_budget, budget_unit=self.budget_unit)
        return keys

    @property
    def p(self) -> int | float:
        return tree.parse_last_p(self.last_p)

    def check(self) -> None:
        if self.positions == "banded" and self.semantics != "nested":
            raise ValueError("positions: banded is of nested only")
        if self.slot_budget and self.budget_unit == "group" and (self.semantics, self.selection) != ("nested", "token_keys"):
            raise ValueError("budget_unit: group is of nested with token keys only")
        if self.selection == "token_keys" and not 0 <= self.selection_layer < self.layers:
            raise ValueError(f"selection_layer: {self.selection_layer} is none of the {self.layers} injecting layers")


@dataclass
class Memory:
    """All slots of a document: per layer keys (rotated by the position in the node only) and values [B,g,S,d]."""

    keys: list[Tensor]
    values: list[Tensor]
    row: Tensor  # [B,S] or [1,S]: second rotation of the keys
    query: Tensor  # [B] or [1]: position of the cross query
    positions: list[int] = field(default_factory=list)  # document position of every slot (B = 1)
    levels: list[tree.Level] = field(default_factory=list)
    vectors: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # level -> node vectors, similarities
    query_vector: Tensor | None = None
    size: int = 0  # tokens of a chunk: what a banded query's fast pairs are turned by
    selected: list = field(default_factory=list)  # nested: what was injected, chunk by chunk
