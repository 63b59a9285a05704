"""The frozen sentence encoder f_φ of Eq. 4."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import groupby
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache

from dsdr_verl.scoring.encoder_files import encoder_folder
from dsdr_verl.scoring.options import EmbeddingOptions

REMEMBERED = 2048  # texts whose vectors are kept


class Embedder:
    """Responses to unit vectors, by a sentence-transformers model from the local disk.

    A response longer than the model's window is cut into windows of `max_seq_length` word pieces. With `long="chunk"`
    all of them are embedded (of more than `max_windows`, that many evenly spaced ones), and the response's vector is
    their average weighted by token count; with "truncate" only the first is.

    Raises:
        FileNotFoundError: the model is not on this machine. Nothing is ever downloaded.
        ValueError: its folder holds pickles or names code of its own, which are never loaded.
    """

    def __init__(self, options: EmbeddingOptions | None = None):
        self.options = options or EmbeddingOptions()
        self.model = _load(self.options)
        self.dimension: int = self.model.get_embedding_dimension()
        self._remembered: LRUCache[bytes, np.ndarray] = LRUCache(REMEMBERED)

    def encode(self, texts: list[str]) -> np.ndarray:
        """float32 [n, D], rows of norm 1; an empty text's row is 0. Equal texts are embedded once, and remembered."""
        texts = [text.strip() for text in texts]
        keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        known = {key: self._remembered[key] for key in keys if key in self._remembered}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        known |= dict(zip(new, self._encode(list(new.values())), strict=True))
        self._remembered.update({key: known[key].copy() for key in new})  # else a row would keep its whole batch
        return np.stack([known[key] for key in keys]) if texts else np.empty((0, self.dimension), np.float32)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> np.ndarray:
        windows, row_W = self._windows(texts)
        z_WD = torch.empty(len(windows), self.dimension)
        by_length = sorted(range(len(windows)), key=lambda w: -len(windows[w]["input_ids"]))
        for start in range(0, len(windows), self.options.batch_size):
            batch = by_length[start : start + self.options.batch_size]
            features = self.model.tokenizer.pad([windows[w] for w in batch], return_tensors="pt")
            features = {name: tensor.to(self.model.device) for name, tensor in features.items()}
            z_WD[batch] = self.model(features)["sentence_embedding"].float().cpu()
        special = self.model.tokenizer.num_special_tokens_to_add()
        tokens_W = torch.tensor([float(len(window["input_ids"]) - special) for window in windows])
        z_RD = torch.zeros(len(texts), self.dimension).index_add_(
            0, torch.tensor(row_W, dtype=torch.long), tokens_W[:, None] * z_WD
        )
        return torch.nn.functional.normalize(z_RD, dim=1).numpy()

    def _windows(self, texts: list[str]) -> tuple[list[dict[str, list[int]]], list[int]]:
        """The model's inputs for every window of every text, and which text each window is of."""
        if not texts:
            return [], []
        tokenizer = self.model.tokenizer
        encoded = tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts],  # a lone surrogate is no Unicode
            truncation=True,
            max_length=self.model.max_seq_length,
            return_overflowing_tokens=self.options.long == "chunk",
        )
        names = [name for name in tokenizer.model_input_names if name in encoded]
        count = len(encoded["input_ids"])
        rows = list(encoded.get("overflow_to_sample_mapping", range(count)))
        kept = list(_spread(rows, self.options.max_windows))
        return [{name: encoded[name][w] for name in names} for w in kept], [rows[w] for w in kept]


def _spread(rows: list[int], most: int) -> Iterator[int]:
    """Positions in `rows` (ascending), evenly spaced ones of a row that occurs more than `most` times."""
    for _, positions in groupby(range(len(rows)), key=rows.__getitem__):
        found = list(positions)
        n = min(len(found), most)
        yield from (found[i * len(found) // n] for i in range(n))


def _load(options: EmbeddingOptions) -> Any:
    from sentence_transformers import SentenceTransformer  # seconds of import, which those who only verify are spared

    folder = encoder_folder(options.model)
    weights = {"dtype": options.dtype, "use_safetensors": True} if options.backend == "torch" else {}
    try:
        return (
            SentenceTransformer(
                str(folder),
                device=options.device,
                backend=options.backend,
                model_kwargs=weights,
                local_files_only=True,
                trust_remote_code=False,
            )
            .eval()
            .requires_grad_(False)
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"scoring.embedding.model is {options.model!r}, which cannot be loaded as a sentence-transformers model "
            f"({error}); set it to a folder of one, or to null for the default"
        ) from error
