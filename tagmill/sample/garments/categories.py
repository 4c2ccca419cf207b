"""The ten categories and the function that draws each."""

from collections.abc import Callable

from numpy.random import Generator

from tagmill.sample.drawing.sketch import Sketch
from tagmill.sample.garments.bottoms import pants, shorts, skirt
from tagmill.sample.garments.coats import outwear
from tagmill.sample.garments.dresses import dress
from tagmill.sample.garments.hats import hat
from tagmill.sample.garments.shoes import shoes
from tagmill.sample.garments.tops import longsleeve, shirt, tshirt

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
