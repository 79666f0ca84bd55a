"""Reading and writing safetensors files."""
from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
         torch.int32: "I32", torch.int64: "I64"}
TYPES = {name: dtype for dtype, name in NAMES.items()}


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    header: dict = {"__metadata__": metadata} if metadata else {}
    blobs, offset = [], 0
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        raw = t.view(torch.int16) if t.dtype == torch.bfloat16 else t
        blob = raw.numpy().tobytes()
        header[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    partial.replace(path)


def read(path: Path) -> dict[str, Tensor]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = (8 + size + x for x in entry["data_offsets"])
        dtype = TYPES[entry["dtype"]]
        kind = {torch.bfloat16: np.int16}.get(dtype) or torch.empty(0, dtype=dtype).numpy().dtype
        t = torch.from_numpy(np.frombuffer(data[begin:end], dtype=kind).copy())
        out[name] = (t.view(torch.bfloat16) if dtype == torch.bfloat16 else t).reshape(entry["shape"])
    return out
