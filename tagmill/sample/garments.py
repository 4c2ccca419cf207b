"""The ten categories and what draws each."""

from collections.abc import Callable

from numpy.random import Generator

from tagmill.sample.bottoms import pants, shorts, skirt
from tagmill.sample.coats import outwear
from tagmill.sample.dresses import dress
from tagmill.sample.hats import hat
from tagmill.sample.shoes import shoes
from tagmill.sample.sketch import Sketch
from tagmill.sample.tops import longsleeve, shirt, tshirt

#: in the order of the labels
GARMENTS: dict[str, Callable[[Generator], Sketch]] = {
    "dress": dress,
    "hat": hat,
    "longsleeve": longsleeve,
    "outwear": outwear,
    "pants": pants,
    "shirt": shirt,
    "shoes": shoes,
    "shorts": shorts,
    "skirt": skirt,
    "t-shirt": tshirt,
}
