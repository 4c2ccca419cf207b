"""The outlines of a mask as polygons."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

#: pixels that an outline may be off when points are left out, and of the smallest outline that is kept beside others
_TOLERANCE, _SMALLEST = 0.75, 4.0
#: right, down, left, up, as (x, y)
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(inside: NDArray[np.bool_]) -> list[Points]:
    """Return polygons [N, 2] of x and y around the parts of a mask bool [height, width], the largest first.

    Coordinates are corners of pixels. A polygon fills the holes of its part.
    """
    loops = [(_area(loop), loop) for loop in _loops(inside)]
    outer = sorted(((area, loop) for area, loop in loops if area > 0), key=lambda one: -one[0])
    kept = [loop for number, (area, loop) in enumerate(outer) if number == 0 or area >= _SMALLEST]
    return [_simplified(loop) for loop in kept]


def _loops(inside: NDArray[np.bool_]) -> list[Points]:
    """Return the closed borders of a mask, with the mask to the right of each step: outer ones are clockwise."""
    steps = _border_steps(inside)
    loops = []
    while steps:
        start = next(iter(steps))
        at, direction = start, min(steps[start])
        corners: list[tuple[int, int]] = []
        while True:
            options = steps[at]
            # Where two borders touch, the sharper turn to the right keeps parts apart that touch at a corner.
            turned = next(turn for turn in (direction + 1, direction, direction - 1) if turn % 4 in options) % 4
            options.remove(turned)
            if not options:
                del steps[at]
            if turned != direction or not corners:
                corners.append(at)
            direction = turned
            at = (at[0] + _STEPS[direction][0], at[1] + _STEPS[direction][1])
            if at == start:
                break
        loops.append(np.array(corners, dtype=np.float64))
    return loops


def _border_steps(inside: NDArray[np.bool_]) -> dict[tuple[int, int], set[int]]:
    """Return corner of a pixel -> directions of the borders that go on from it."""
    padded = np.pad(inside, 1)
    shape = padded[1:-1, 1:-1]
    steps: dict[tuple[int, int], set[int]] = defaultdict(set)
    # Of each direction: the pixels on its left, and at which corner of the pixel on its right it starts.
    above, right_of, below, left_of = padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]
    sides = ((above, 0, 0), (right_of, 1, 0), (below, 1, 1), (left_of, 0, 1))
    for direction, (beside, right, down) in enumerate(sides):
        rows, columns = np.nonzero(shape & ~beside)
        for x, y in zip((columns + right).tolist(), (rows + down).tolist(), strict=True):
            steps[x, y].add(direction)
    return steps


def _area(points: Points) -> float:
    """Return the area inside a clockwise polygon (y points down); that of another one is negative."""
    x, y = points[:, 0], points[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _simplified(points: Points) -> Points:
    """Leave out points that the rest shows within the tolerance (Douglas and Peucker 1973)."""
    far = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([points, points[:1]])
    kept = {0, far}
    waiting = [(0, far), (far, len(points))]
    while waiting:
        first, last = waiting.pop()
        between = closed[first + 1 : last]
        if not len(between):
            continue
        off = _distances(between, closed[first], closed[last])
        worst = int(off.argmax())
        if off[worst] > _TOLERANCE:
            middle = first + 1 + worst
            kept.add(middle)
            waiting += [(first, middle), (middle, last)]
    chosen = points[sorted(kept)]
    return chosen if len(chosen) > 2 else points


def _distances(points: Points, start: Points, end: Points) -> NDArray[np.float64]:
    """Return the distance of each point to the line through two others, or to the point if they are one."""
    line, offset = end - start, points - start
    length = float(np.hypot(*line))
    if length == 0:
        return np.asarray(np.hypot(offset[:, 0], offset[:, 1]))
    return np.asarray(np.abs(line[0] * offset[:, 1] - line[1] * offset[:, 0]) / length)
