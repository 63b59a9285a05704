"""The embedder against sentence-transformers itself on the same texts, device and threads, on one core.

python -m tests.bench.embedding ROUNDS TEXTS CORE prints its figures as JSON; `section` runs that in its own process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median

from tests.bench.report import say, table, target

TARGET = 0.9
ROOT = Path(__file__).resolve().parents[2]
TEXT = "we have the number of x and so that is equal to 12 + 7 = 19 which gives $y = \\frac{3}{4}$ because each side is"
WORDS = TEXT.split()


def section(rounds: int, texts: int) -> tuple[list[str], float]:
    """Markdown, and seconds a full window, for the cost model."""
    from tests.bench.race import CORE

    command = [sys.executable, "-m", "tests.bench.embedding", str(rounds), str(texts), str(CORE)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment).stdout
    found = json.loads(output.splitlines()[-1])
    rows, ratios = [], {}
    for name, row in found["rows"].items():
        ratios[name] = median(raw / ours for raw, ours in zip(row["raw"], row["ours"], strict=True))
        ours, raw = (row["windows"] / median(row[who]) for who in ("ours", "raw"))
        rows.append(
            [name, row["windows"], f"{ours:.1f}", f"{raw:.1f}", f"{ratios[name]:.2f}", f"{row['difference']:.0e}"]
        )
        say(f"embedding, {name}: {ratios[name]:.2f} of sentence-transformers' own speed")
    lines = [
        "### Sentence embeddings",
        "",
        "`Embedder.encode` against `SentenceTransformer.encode` of the same model, in float32 on one core with one "
        f"thread, batches of {found['batch_size']}, all texts different, {rounds} rounds, taking turns. A window is at "
        f"most {found['window']} word pieces, or one pass of the model. Long texts have several: `truncate` is "
        "compared on the same texts, `chunk` on its own windows handed to sentence-transformers as texts.",
        *table(["texts", "windows", "ours, windows/s", "raw, windows/s", "ours / raw", "largest difference"], rows),
    ]
    said = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ratios.items())
    return lines + target("speed", f"at least {TARGET}", said, min(ratios.values()) >= TARGET), found[
        "seconds_per_window"
    ]


def measure(rounds: int, count: int) -> dict:
    import torch

    from dsdr_verl.scoring.embedder import Embedder
    from dsdr_verl.scoring.options import EmbeddingOptions

    torch.set_num_threads(1)
    chunk, truncate = (Embedder(EmbeddingOptions(long=long)) for long in ("chunk", "truncate"))
    batch_size = chunk.options.batch_size
    tokenizer, window = chunk.model.tokenizer, chunk.model.max_seq_length

    def windows_of(text: str) -> list[str]:
        ids = tokenizer(text, truncation=True, max_length=window, return_overflowing_tokens=True)["input_ids"]
        return tokenizer.batch_decode(ids, skip_special_tokens=True)

    def raw(texts: list[str]):
        encode = chunk.model.encode
        return encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)

    rows: dict[str, dict] = {}
    random = Random(0)
    for name, embedder, words in (
        ("within the window", chunk, (3, 100)),
        ("long, `truncate`", truncate, (400, 1200)),
        ("long, `chunk`", chunk, (400, 1200)),
    ):
        many = count if words[1] <= 100 else max(count // 4, 4)
        row = rows[name] = {"ours": [], "raw": [], "windows": 0, "difference": 0.0}
        for turn in range(rounds + 1):  # the first warms up
            texts = [
                " ".join(random.choices(WORDS, k=random.randint(*words))) + f" {random.random()}" for _ in range(many)
            ]
            same = [w for text in texts for w in windows_of(text)] if name == "long, `chunk`" else texts
            seconds, results = {}, {}
            for who in ("ours", "raw")[:: 1 if turn % 2 else -1]:
                start = time.perf_counter()
                results[who] = embedder.encode(texts) if who == "ours" else raw(same)
                seconds[who] = time.perf_counter() - start
            if turn:
                row["ours"].append(seconds["ours"])
                row["raw"].append(seconds["raw"])
                row["windows"] = max(row["windows"], len(same))
                if len(same) == len(texts):
                    row["difference"] = max(row["difference"], float(abs(results["ours"] - results["raw"]).max()))
    full = [" ".join(random.choices(WORDS, k=600)) for _ in range(batch_size)]
    start = time.perf_counter()
    truncate.encode(full)
    per_window = (time.perf_counter() - start) / len(full)
    return {"rows": rows, "batch_size": batch_size, "window": window, "seconds_per_window": per_window}


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[3])})  # before torch makes its threads
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
