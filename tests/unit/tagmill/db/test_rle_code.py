"""Packed run lengths: what was packed comes back, in fewer bytes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from tagmill.db import rle_code

#: every character that COCO uses: six bits each, from "0" on
CHARACTERS = "".join(map(chr, range(48, 112)))


def test_every_character_of_coco_has_a_code_and_none_begins_another() -> None:
    assert sorted(rle_code.CODES) == sorted(CHARACTERS)
    codes = sorted(rle_code.CODES.values())
    assert not any(second.startswith(first) for first, second in pairwise(codes))


@given(st.text(CHARACTERS))
def test_any_text_comes_back(text: str) -> None:
    assert rle_code.unpack(rle_code.pack(text)) == text


@pytest.mark.parametrize("text", ["", *CHARACTERS, CHARACTERS, CHARACTERS * 100])
def test_each_character_comes_back(text: str) -> None:
    assert rle_code.unpack(rle_code.pack(text)) == text


@given(st.text(st.characters(exclude_characters=CHARACTERS), min_size=1))
def test_a_character_that_coco_does_not_use_is_refused(text: str) -> None:
    with pytest.raises(KeyError):
        rle_code.pack(text)


def test_a_mask_takes_half_as_many_bytes() -> None:
    rows, columns = np.ogrid[:256, :256]
    disc = ((rows - 120) ** 2 + (columns - 130) ** 2 < 80**2).astype(np.uint8, order="F")
    text = coco.encode(disc)["counts"].decode()
    assert rle_code.unpack(rle_code.pack(text)) == text
    assert len(rle_code.pack(text)) < 0.6 * len(text)
