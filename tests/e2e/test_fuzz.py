"""A short sample of `make fuzz`."""

import pytest

from tests.fuzz.generate import item
from tests.fuzz.run import Settings, fuzz

pytestmark = pytest.mark.e2e

SEED, ITEMS = 11, 600


def test_a_sample_of_the_fuzzer_finds_nothing():
    items = (item(SEED, number) for number in range(ITEMS))
    report = fuzz(items, Settings(limit=0.5, embed_every=100))
    assert not report.failures
    assert report.items == ITEMS and report.embedded > 5
    assert len(report.verdicts) >= 4  # or it would test little


def test_an_item_can_be_made_again():
    assert item(SEED, 7) == item(SEED, 7) != item(SEED, 8)
