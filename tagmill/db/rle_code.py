"""Pack COCO's compressed run lengths into half as many bytes, by a fixed Huffman code over their 64 characters.

Most runs of a mask differ little from the run beside them, so a few characters make up most of the text: a Huffman code
(Huffman 1952) made from the masks of the starter segmenter takes 4.06 bits a character. Deflate takes as much, but SQL
cannot read it. PostgreSQL reads this code with the function `tagmill_rle` of the views, so that they show the text.
"""

import re

#: bits -> characters with a code of that length. It is part of what is stored: changing it needs a migration.
_LENGTHS = {
    2: "0",
    3: "1O",
    4: "2MN",
    5: "3L",
    6: "45K",
    7: "67IJVk",
    8: "89GHPQRSTUWXYZ[\\]^_`abcdefghijlmno",
    9: ":;<=>@BCDEF",
    10: "?A",
}


def _canonical() -> dict[str, str]:
    """Return character -> bits: consecutive numbers, shortest codes first. The last code is ones only."""
    codes, code, length = {}, 0, 0
    for bits, characters in _LENGTHS.items():
        for character in characters:
            code, length = code << (bits - length), bits
            codes[character] = f"{code:0{bits}b}"
            code += 1
    return codes


CODES = _canonical()
_CHARACTERS = {bits: character for character, bits in CODES.items()}
#: matches one code at a time: no code is the beginning of another
PATTERN = "|".join(CODES.values())


def pack(text: str) -> bytes:
    """Return the packed form of COCO's `counts`. Raise KeyError for a character that COCO does not use."""
    bits = "".join([CODES[character] for character in text])
    # Up to seven ones fill the last byte: they are the beginning of the longest code, and so no character.
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def unpack(packed: bytes) -> str:
    """Return the text that `pack` was given."""
    bits = f"{int.from_bytes(packed, 'big'):0{8 * len(packed)}b}" if packed else ""
    return "".join([_CHARACTERS[found] for found in re.findall(PATTERN, bits)])
