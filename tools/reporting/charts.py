"""What a figure shows, before it is drawn: lines over something, or a dot for each value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.reporting.tables import Value


@dataclass(frozen=True)
class Line:
    """A method on a data set."""

    label: str
    method: str
    points: dict[int, Value]
    dashed: bool = False

    @property
    def numbers(self) -> list[float]:
        """What is drawn: where an average is not complete the line is interrupted."""
        return [math.nan if value.number is None else value.number for value in self.points.values()]

    @property
    def incomplete(self) -> bool:
        return any(value.remark for value in self.points.values())


@dataclass(frozen=True)
class LinesChart:
    """A panel for each data set, with a line for each method.

    Attributes:
        name: of its files.
        panels: the lines by data set.
        label: what the lines go over.
        accuracy: what the other axis is called.
        notes: what must be said with it.
    """

    name: str
    title: str
    panels: Mapping[str, Sequence[Line]]
    label: str
    accuracy: str
    notes: Sequence[str]


@dataclass(frozen=True)
class Dots:
    """A method's row of dots: a value for each panel."""

    label: str
    method: str
    values: list[Value]


@dataclass(frozen=True)
class DotsChart:
    """A panel for each value, with a row for each method.

    Attributes:
        name, accuracy, notes: as above.
        panels: their names.
        heading: what stands above the figure, if it is more than the title.
    """

    name: str
    title: str
    panels: Sequence[str]
    rows: Sequence[Dots]
    accuracy: str
    notes: Sequence[str]
    heading: str = ""


@dataclass(frozen=True)
class Reliability:
    """Of one model, or of several together.

    Attributes:
        points: of each bin of confidences its share of the images, their mean confidence and how many of them are
            right, in percent; () where nothing is known.
        ece: in percent.
    """

    points: tuple[tuple[float, float, float], ...]
    ece: float | None


@dataclass(frozen=True)
class ReliabilityChart:
    """A panel for each method: how many images are right over how sure the model is of them.

    Attributes:
        name, notes: as above.
        panels: of each method without and with a fitted temperature.
    """

    name: str
    title: str
    panels: Mapping[str, tuple[Reliability, Reliability]]
    notes: Sequence[str]


Chart = LinesChart | DotsChart | ReliabilityChart
