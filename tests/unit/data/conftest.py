"""Models and data prepared once a session, in a cache of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from dsdr_verl.data import models


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache folder."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny(cache: Path) -> Path:
    """The folder of the tiny model."""
    return models.prepare_committed(models.TINY, cache)


@pytest.fixture(scope="session")
def tokenizer(tiny: Path):
    """The tiny model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture(scope="session")
def smollm2(cache: Path) -> Iterator[Path]:
    """The folder of the converted demo model; the conversion takes about 20 s."""
    pytest.importorskip("gguf")
    try:
        folder = models.prepare_smollm2(cache)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield folder
    shutil.rmtree(folder)  # 540 MB, which pytest would keep
