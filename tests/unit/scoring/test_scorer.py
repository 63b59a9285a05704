import asyncio
from dataclasses import replace

import numpy as np
import psutil
import pytest

from dsdr_verl.scoring.formulas import formula_ids
from dsdr_verl.scoring.options import EmbeddingOptions, FormulaOptions, ScoringOptions, VerifierOptions
from dsdr_verl.scoring.scorer import Scorer

OPTIONS = ScoringOptions(verifier=VerifierOptions(timeout=2.0), embedding=EmbeddingOptions(max_wait_ms=1, batch_size=8))


@pytest.fixture(scope="module")
def scorer():
    scorer = Scorer(OPTIONS)
    asyncio.run(scorer.ready())
    yield scorer
    asyncio.run(scorer.close())


def test_a_score(scorer):
    score = asyncio.run(scorer.score("As $x$ and $x$, 7 + 8 = 15", "15"))
    assert score.verdict == "correct" and score.acc == 1.0
    assert score.embedding.dtype == np.float32 and np.linalg.norm(score.embedding) == pytest.approx(1, abs=1e-6)
    assert score.formula_ids.dtype == np.int64
    assert score.formula_ids.tolist() == formula_ids(["x", "15=7+8"]) and score.n_formulas == 2
    assert score.seconds > 0


def test_an_empty_response(scorer):
    score = asyncio.run(scorer.score("", "15"))
    assert score.verdict == "no_answer" and score.acc == 0.0
    assert score.n_formulas == 0 and score.formula_ids.dtype == np.int64
    assert not score.embedding.any()


def test_order_and_company_do_not_matter(scorer):
    responses = [rf"So {i} + 1 = {i + 1}, and \boxed{{x+{i}}}" for i in range(30)]

    async def together(order):
        scores = await asyncio.gather(*(scorer.score(responses[i], "3+x") for i in order))
        return dict(zip(order, scores, strict=True))

    forwards, backwards = asyncio.run(together(range(30))), asyncio.run(together(range(29, -1, -1)))
    for i in range(30):
        alone = asyncio.run(scorer.score(responses[i], "3+x")) if i % 10 == 3 else forwards[i]
        for other in (backwards[i], alone):
            assert other.verdict == forwards[i].verdict == ("correct" if i == 3 else "incorrect")
            assert other.formula_ids.tolist() == forwards[i].formula_ids.tolist()
            np.testing.assert_allclose(other.embedding, forwards[i].embedding, atol=1e-6)


def test_requests_share_batches(scorer, monkeypatch):
    sizes = []
    encode = scorer.embedder.encode
    monkeypatch.setattr(scorer.embedder, "encode", lambda texts: sizes.append(len(texts)) or encode(texts))

    async def run():
        await asyncio.gather(*(scorer.score(f"answer {i}", "1") for i in range(40)))

    asyncio.run(run())
    assert sum(sizes) == 40 and max(sizes) <= 8 and len(sizes) <= 10


def test_stats(scorer):
    async def run():
        before = await scorer.stats()
        await asyncio.gather(scorer.score("15", "15"), scorer.score(r"\boxed{x}", "y"))
        return before, await scorer.stats()

    before, after = asyncio.run(run())
    grown = {key: after[key] - before[key] for key in after}
    assert grown["items"] == 2 and grown["decided_early"] == 1
    assert grown["verdict/correct"] == grown["verdict/incorrect"] == 1
    assert all(grown[f"seconds/{part}"] > 0 for part in ("verify", "embed", "formulas"))
    assert after["scoring"] == after["verifying"] == after["embedding"] == 0


def test_an_encoder_error_reaches_the_caller_and_passes(scorer, monkeypatch):
    def fail(texts):
        raise RuntimeError("no memory on the device")

    with monkeypatch.context() as patched:
        patched.setattr(scorer.embedder, "encode", fail)
        with pytest.raises(RuntimeError, match="no memory on the device"):
            asyncio.run(scorer.score("15", "15"))
    assert asyncio.run(scorer.score("15", "15")).acc == 1.0


def test_an_encoder_without_a_thread_is_told(scorer, monkeypatch):
    def refuse(*work):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(scorer._encoder_thread, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            asyncio.run(asyncio.wait_for(scorer.score("15", "15"), 10))
    assert asyncio.run(scorer.score("15", "15")).acc == 1.0


def test_a_missing_model_names_the_key():
    with pytest.raises(FileNotFoundError, match=r"scoring\.embedding\.model"):
        Scorer(replace(OPTIONS, embedding=EmbeddingOptions(model="/no/such/folder")))


def test_close_leaves_no_process():
    before = set(psutil.Process().children(recursive=True))

    async def run():
        scorer = Scorer(OPTIONS)
        await scorer.ready()
        assert set(psutil.Process().children(recursive=True)) - before
        await scorer.close()

    asyncio.run(run())
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in left if "resource_tracker" not in " ".join(p.cmdline())]


def test_symbolic_formulas():
    """2x+2=4 and x+1=2 are one formula to algebra; what cannot be read, or hangs, stands for itself."""
    options = ScoringOptions(formulas=FormulaOptions("symbolic"), verifier=VerifierOptions(timeout=1.0))

    async def run():
        scorer = Scorer(options)
        try:
            texts = ("$2x+2=4$", "so $x+1=2$ and $4=2+2x$", "$x+1=3$", r"$\unreadable{?}$, $x+1=2$")
            return [set(score.formula_ids) for score in [await scorer.score(text, "1") for text in texts]]
        finally:
            await scorer.close()

    first, same, other, odd = asyncio.run(run())
    assert first == same and len(first) == 1 and not first & other
    assert first < odd and len(odd) == 2
