import numpy as np
import pytest

from dsdr_verl.scoring.embedder import Embedder
from dsdr_verl.scoring.options import EmbeddingOptions

SHORT = ["hello", "7 + 8 = 15", "x " * 60, "We add seven and eight, which gives \\boxed{15}."]
LONG = "First we add seven and eight. " * 40 + "The whole night it rained on the empty streets. " * 40


@pytest.fixture(scope="module")
def embedder():
    return Embedder(EmbeddingOptions(batch_size=3))


def test_short_texts_as_sentence_transformers_has_them(embedder):
    z = embedder.encode(SHORT)
    assert z.dtype == np.float32 and z.shape == (4, 384)
    np.testing.assert_allclose(z, embedder.model.encode(SHORT), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)


def test_rows_do_not_depend_on_the_batch(embedder):
    together = embedder.encode([*SHORT, LONG])
    another = Embedder()  # which remembers nothing
    alone = np.concatenate([another.encode([text]) for text in [*SHORT, LONG]])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_empty_texts_are_zero(embedder):
    z = embedder.encode(["", " \n", "a"])
    assert (z[:2] == 0).all() and np.linalg.norm(z[2]) == pytest.approx(1)
    assert embedder.encode([]).shape == (0, 384)


def test_equal_texts_are_embedded_once(embedder, monkeypatch):
    rows = []
    forward = embedder.model.forward
    monkeypatch.setattr(
        embedder.model, "forward", lambda features: rows.append(len(features["input_ids"])) or forward(features)
    )
    z = embedder.encode(["once", "b", "once", "once "])
    assert sum(rows) == 2
    assert (embedder.encode(["b", "c"])[0] == z[1]).all() and sum(rows) == 3  # remembered
    assert (z[0] == z[2]).all() and (z[0] == z[3]).all() and (z[0] != z[1]).any()


def test_truncate_is_the_literal_call(embedder):
    truncating = Embedder(EmbeddingOptions(long="truncate"))
    z = truncating.encode([LONG, "a"])
    np.testing.assert_allclose(z, embedder.model.encode([LONG, "a"]), atol=1e-6)
    ending_elsewhere = LONG[: len(LONG) // 2] + "Purple cows sing at dawn. " * 60
    np.testing.assert_allclose(truncating.encode([ending_elsewhere])[0], z[0], atol=1e-6)


def test_chunks_are_averaged_by_token_count(embedder):
    tokenizer = embedder.model.tokenizer
    ids = tokenizer(LONG, add_special_tokens=False)["input_ids"]
    chunks = [ids[i : i + 254] for i in range(0, len(ids), 254)]
    assert len(chunks) > 2 and len(chunks[-1]) != 254
    by_hand = np.zeros(384)
    for chunk in chunks:
        by_hand += len(chunk) * embedder.model.encode(tokenizer.decode(chunk))
    np.testing.assert_allclose(embedder.encode([LONG])[0], by_hand / np.linalg.norm(by_hand), atol=1e-5)
    assert embedder.encode([LONG])[0] @ embedder.model.encode(LONG) < 0.95


def test_of_a_very_long_text_evenly_spaced_windows(embedder):
    few, text = Embedder(EmbeddingOptions(max_windows=3)), LONG + LONG
    ids = embedder.model.tokenizer(text, add_special_tokens=False)["input_ids"]
    chunks = [ids[i : i + 254] for i in range(0, len(ids), 254)]
    assert len(chunks) > 3
    kept = [chunks[i * len(chunks) // 3] for i in range(3)]
    by_hand = sum(len(chunk) * embedder.model.encode(embedder.model.tokenizer.decode(chunk)) for chunk in kept)
    np.testing.assert_allclose(few.encode(["a", text])[1], by_hand / np.linalg.norm(by_hand), atol=1e-5)


def test_other_weights_type(embedder):
    z = Embedder(EmbeddingOptions(dtype="bfloat16")).encode(SHORT)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, embedder.encode(SHORT), atol=0.02)


def test_text_that_is_no_unicode(embedder):
    assert np.linalg.norm(embedder.encode(["\ud800 seven \0"])) == pytest.approx(1, abs=1e-6)


def test_weights_are_frozen(embedder):
    assert not any(p.requires_grad for p in embedder.model.parameters()) and not embedder.model.training


@pytest.mark.parametrize("model", ["/no/such/folder", "sentence-transformers/no-such-model"])
def test_missing_model_names_the_key(model):
    with pytest.raises(FileNotFoundError, match=r"scoring\.embedding\.model"):
        Embedder(EmbeddingOptions(model=model))
