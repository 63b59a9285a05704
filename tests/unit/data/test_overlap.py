"""Overlap between files: the same problem, a near copy and a different one; against a brute-force reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdr_verl.data import overlap, tasks
from dsdr_verl.data.problem_files import Item, to_row

TRAIN = [
    "Let $x$ and $y$ be positive integers such that $x^2 - y^2 = 2024$. Find the number of ordered pairs $(x, y)$.",
    "A bag holds 5 red and 7 blue marbles. Two are drawn, not put back. What is the probability that both are red?",
    "What is 2+2?",
]
NEAR = "A bag holds 5 red and 9 blue marbles. Two are drawn, not put back. What is the probability that both are red?"
FAR = "Compute the area of the triangle with sides 13, 14 and 15."


def write(path, questions):
    return tasks.write_parquet([to_row(Item(q, "1"), "x", "test", i) for i, q in enumerate(questions)], path)


def test_same_near_and_different():
    same = TRAIN[0].upper().replace(" ", "\n ")
    found = overlap.overlaps(TRAIN, [FAR, NEAR, same, "what is 2 + 2 ?"])
    assert [(match.eval_row, match.train_row) for match in found] == [(2, 0), (3, 2), (1, 1)]
    assert found[0].similarity == found[1].similarity == 1 and 0.6 < found[2].similarity < 0.8
    assert [match.eval_row for match in overlap.overlaps(TRAIN, [FAR, NEAR, same], threshold=0.9)] == [2]


WORDS = st.lists(st.sampled_from("ab+1"), max_size=7).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS, st.integers(1, 4))
def test_nearest_is_the_exact_maximum(train, text, n):
    def jaccard(one, other):
        one, other = overlap.ngrams(one, n), overlap.ngrams(other, n)
        return len(one & other) / len(one | other) if one | other else 0.0

    expected = [jaccard(text, other) for other in train]
    nearest = overlap.Index(train, n).nearest(text)
    if max(expected) == 0:
        assert nearest is None
    else:
        assert nearest == (expected.index(max(expected)), max(expected))


def test_ngrams():
    assert overlap.ngrams("Find \\frac{1}{2}", 5) == {
        ("find", "\\frac", "{", "1", "}"),
        ("\\frac", "{", "1", "}", "{"),
        ("{", "1", "}", "{", "2"),
        ("1", "}", "{", "2", "}"),
    }
    assert overlap.ngrams("Go", 5) == {("go",)} and overlap.ngrams(" ", 5) == set()
    assert overlap.ngrams("已知三角", 2) == {("已", "知"), ("知", "三"), ("三", "角")}


def test_command(tmp_path, capsys):
    train = write(tmp_path / "train.parquet", TRAIN)
    clean = write(tmp_path / "clean.parquet", [FAR])
    taken = write(tmp_path / "taken.parquet", [FAR, NEAR, TRAIN[2]])
    assert overlap.main([str(train), str(clean)]) == 0
    assert overlap.main([str(train), str(clean), str(taken)]) == 1
    said = capsys.readouterr().out
    assert "1.00  taken.parquet row 2: What is 2+2?" in said and "train.parquet row 1: A bag holds 5 red" in said
    assert "66.7%" in said
    assert overlap.main([str(train), str(taken), "--show", "1"]) == 1
    assert "... and 1 more (--show)" in capsys.readouterr().out


def test_files_of_other_writers(tmp_path):
    path = tasks.write_parquet(
        [
            {
                "data_source": "x",
                "prompt": [{"role": "system", "content": "Maths"}, {"role": "user", "content": TRAIN[0]}],
                "reward_model": {"ground_truth": "1"},
            }
        ],
        tmp_path / "a.parquet",
    )
    assert overlap.read_questions(path) == [TRAIN[0]]


@pytest.mark.parametrize("options", [["--threshold", "0"], ["--ngram", "0"]])
def test_bad_input(tmp_path, capsys, options):
    train = write(tmp_path / "train.parquet", TRAIN)
    assert overlap.main([str(train), str(train), *options]) == 2
    (tmp_path / "b.jsonl").write_text('{"prompt": "no list"}\n')
    assert overlap.main([str(train), str(tmp_path / "b.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "--ngram must be at least 1" in said and "b.jsonl: `prompt` is a str, not a list" in said
