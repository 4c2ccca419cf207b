"""Which products are in the share of a shadow or a canary: the same ones on every worker and at any time."""

import hashlib


def point_of(name: str, product: str) -> float:
    """Return where a product lies among all, from 0 to below 1, for the models of a name.

    A product is in a share if its point is below it: all that are in 5 % are in 10 %, too. The name is part of the
    hash, so that two models are not always tried on the same products.
    """
    digest = hashlib.blake2b(f"{name}\0{product}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
