"""Objects that the readers of all formats return, and the faults that they collect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qsdt_mm.errors import InputError

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]
Box = tuple[
    float, float, float, float
]  # left, top, right, bottom: edges in pixels, the picture's own are 0 and its sides
TOLERANCE = 1.0  # pixels by which a box may stand out of its picture: what rounding does


@dataclass
class AnnotatedObject:
    """One object: class, box in pixels (edges, from 0), and what is known of its outline.

    Args:
        label: the class.
        box: left, top, right, bottom.
        outlines: polygons, whose union it is; empty if only the box is known.
        masks: left, top and pixels ``(h, w)`` of parts that were painted.
        ignored: neither right nor wrong when found (VOC's difficult ones).
        place: where in the file it stands.
        may_stand_out: what reaches beyond the picture is cut off without a word (circles).

    >>> AnnotatedObject('cell', box=(0.0, 0.0, 8.0, 4.0)).outlines
    []
    """

    label: str
    box: Box
    outlines: list[list[Point]] = field(default_factory=list)
    masks: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    ignored: bool = False
    place: str = ''
    may_stand_out: bool = False


@dataclass
class AnnotatedPicture:
    """A picture, its size when it stands upright, and its objects.

    ``turn`` turns points of the objects upright, where they were drawn on the picture as it is stored, on its side.

    >>> picture = AnnotatedPicture(Path('a.jpg'), 4, 8, [AnnotatedObject('cell', (0, 0, 2, 1))], lambda p: (p[1], p[0]))
    >>> picture.stand_upright()
    >>> picture.objects[0].box
    (0, 0, 1, 2)
    """

    path: Path
    width: int
    height: int
    objects: list[AnnotatedObject] = field(default_factory=list)
    turn: Callable[[Point], Point] | None = None

    def stand_upright(self) -> None:
        """Turn the objects upright, if they need it, in place."""
        if self.turn is not None:
            for item in self.objects:
                item.outlines = [[self.turn(point) for point in outline] for outline in item.outlines]
                item.box = box_around([self.turn(item.box[:2]), self.turn(item.box[2:])])
            self.turn = None


class Faults:
    """Collector of what is wrong with a data set: all of it is looked at before anything is refused.

    >>> faults = Faults()
    >>> faults.add(Path('a.xml'), 'object 2', 'no box')
    >>> faults.refuse()
    Traceback (most recent call last):
    qsdt_mm.errors.InputError: a.xml, object 2: no box
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.left_out: Counter[str] = Counter()  # what is no fault, but is not in the result, by reason
        self.notes: list[str] = []  # what was found out about the set as a whole

    def add(self, path: Path, place: str, what: str) -> None:
        """Note one fault."""
        self.lines.append(f'{path}{", " if place else ""}{place}: {what}')

    def refuse(self) -> None:
        """Raise ``InputError`` with the first fault and how many more there are, if there is any."""
        if self.lines:
            more = len(self.lines) - 1
            raise InputError(self.lines[0] + (f' (and {more} more fault{"s" * (more > 1)})' if more else ''))


def box_around(points: list[Point]) -> Box:
    """Return the smallest box that holds all points."""
    xs, ys = zip(*points)
    return min(xs), min(ys), max(xs), max(ys)


def corners(box: Box) -> list[Point]:
    """Return the corners of a box."""
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def area(outline: list[Point]) -> float:
    """Return the area of a polygon: ``|sum(x_i y_{i+1} - x_{i+1} y_i)| / 2``."""
    turned = outline[1:] + outline[:1]
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(outline, turned))) / 2


def clipped(outline: list[Point], width: float, height: float) -> list[Point]:
    """Return the part of a polygon inside ``[0, width] x [0, height]`` (Sutherland and Hodgman, one side at a time)."""
    for axis, edge, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        kept: list[Point] = []
        for one, other in zip(outline, outline[1:] + outline[:1]):
            inside, next_inside = sign * (one[axis] - edge) >= 0, sign * (other[axis] - edge) >= 0
            if inside:
                kept.append(one)
            if inside != next_inside:
                share = (edge - one[axis]) / (other[axis] - one[axis])
                cut = [a + share * (b - a) for a, b in zip(one, other)]
                cut[axis] = edge
                kept.append((cut[0], cut[1]))
        outline = kept
    return outline


def fit(picture: AnnotatedPicture, file: Path, faults: Faults, clip: bool) -> None:
    """Cut objects off at the edges of their picture, in place; what stands out by more than a pixel is a fault.

    Args:
        picture: the picture.
        file: of annotations, for the faults.
        faults: takes what is wrong.
        clip: cut off whatever stands out, and leave out what has no area; both are counted.
    """
    width, height = picture.width, picture.height
    kept, seen = [], set()
    for item in picture.objects:
        left, top, right, bottom = item.box
        out = max(-left, -top, right - width, bottom - height)
        spot = f'box from ({left:.7g}, {top:.7g}) to ({right:.7g}, {bottom:.7g})'
        if out > TOLERANCE and not item.may_stand_out:
            if not clip:
                faults.add(file, item.place, f'{spot} stands out of the picture of {width} x {height}')
                continue
            faults.left_out['parts outside of the picture'] += 1
        box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        outlines = item.outlines
        if out > 0:
            outlines = [part for part in (clipped(outline, width, height) for outline in outlines) if len(part) > 2]
        flat = item.outlines and not item.masks and not sum(map(area, outlines)) > 0
        if not (box[2] > box[0] and box[3] > box[1]) or flat:
            if clip or item.may_stand_out:
                faults.left_out['objects without an area'] += 1
            else:
                faults.add(file, item.place, f'{spot} has no area')
            continue
        item.box, item.outlines = box, outlines
        key = (item.label, box, tuple(map(tuple, outlines)))
        if key in seen and not item.masks:
            faults.left_out['repetitions of an object'] += 1
            continue
        seen.add(key)
        kept.append(item)
    picture.objects = kept
