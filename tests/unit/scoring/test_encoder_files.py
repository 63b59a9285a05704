"""A hostile encoder's folder is refused before anything of it is loaded."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from dsdr_verl.scoring.embedder import Embedder
from dsdr_verl.scoring.encoder_files import code_in, encoder_folder
from dsdr_verl.scoring.options import EmbeddingOptions


class Opens:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(encoder_folder(None), tmp_path / "encoder"))


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(ValueError, match=r"scoring\.embedding\.model is ") as error:
        Embedder(EmbeddingOptions(model=str(folder)))
    assert all(part in str(error.value) for part in parts), error.value


def test_the_packaged_one_and_a_copy_of_it_are_data_alone(folder):
    assert list(code_in(folder)) == []
    assert Embedder(EmbeddingOptions(model=str(folder))).encode(["a"]).shape == (1, 384)


@pytest.mark.parametrize("protocol", ["pickle", "torch"])
def test_weights_in_a_pickle(folder, tmp_path, protocol):
    made, weights = tmp_path / "made", folder / "pytorch_model.bin"
    if protocol == "torch":
        torch.save({"a": Opens(made)}, weights)
    else:
        weights.write_bytes(pickle.dumps(Opens(made)))
    (folder / "model.safetensors").unlink()
    refused(folder, "pytorch_model.bin is a pickle", "safe_serialization=True")
    assert not made.exists()
    pickle.loads(pickle.dumps(Opens(made)))
    assert made.exists(), "the pickle would have done it"


def test_a_pickle_of_a_further_module(folder, tmp_path):
    made, dense = tmp_path / "made", folder / "3_Dense"
    dense.mkdir()
    dense.joinpath("pytorch_model.bin").write_bytes(pickle.dumps(Opens(made)))
    sizes = {
        "in_features": 384,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    dense.joinpath("config.json").write_text(json.dumps(sizes))
    add_module(folder, "sentence_transformers.models.Dense", "3_Dense")
    refused(folder, "3_Dense/pytorch_model.bin is a pickle")
    assert not made.exists()


def test_a_pickle_beside_safe_weights_is_not_read(folder, tmp_path):
    folder.joinpath("pytorch_model.bin").write_bytes(pickle.dumps(Opens(tmp_path / "made")))
    Embedder(EmbeddingOptions(model=str(folder))).encode(["a"])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "kind",
    ["evil.Module", "os.system", "sentence_transformers", "sentence_transformersX.A", "sentence_transformers.a/../b"],
)
def test_a_module_from_elsewhere(folder, tmp_path, kind):
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\nModule = None\n")
    add_module(folder, kind, "")
    refused(folder, f"modules.json names {kind!r}")
    assert not (tmp_path / "made").exists()


def test_a_router_that_names_a_module_from_elsewhere(folder):
    (folder / "router_config.json").write_text(json.dumps({"types": {"query_0": "evil.Module"}, "structure": {}}))
    refused(folder, "router_config.json names 'evil.Module'")


def test_a_transformer_with_code_of_its_own(folder, tmp_path):
    """transformers would import it, if it were trusted."""
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileNotFoundError, match=r"scoring\.embedding\.model"):
        Embedder(EmbeddingOptions(model=str(folder)))
    assert not (tmp_path / "made").exists()


def add_module(folder: Path, kind: str, path: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": len(modules), "name": str(len(modules)), "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
