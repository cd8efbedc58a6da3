"""The grid that an index on points has: cells of a hundredth of a degree, numbered from south to north, west to east.

All points within a distance lie in the ranges of cells, one for each row of the grid, that `ranges` gives.
"""
import math

PER_DEGREE = 100
ROW = 360 * PER_DEGREE + 1  # cells of one row: 180 degrees east is a cell of its own
MAX_ROWS = 700  # what is larger is looked for without the grid
RADII = (0.0002, 0.0008, 0.003, 0.012, 0.05)  # radians, tried one after the other for the nearest
Ranges = tuple[tuple[int, int], ...]


def ranges(latitude: float, longitude: float, angle: float) -> Ranges | None:
    """The ranges of cells that hold every point within `angle` radians; None for too many."""
    reach = math.degrees(angle) + 1e-6
    south, north = _row(max(-90.0, latitude - reach)), _row(min(90.0, latitude + reach))
    if north - south > MAX_ROWS:
        return None
    widest = max(abs(latitude - reach), abs(latitude + reach))
    if widest >= 89:  # around a pole every meridian is near
        return tuple((row * ROW, row * ROW + ROW - 1) for row in range(south, north + 1))
    # The meridian that touches the circle; a hair more for rounding.
    wide = math.degrees(math.asin(min(1.0, math.sin(min(angle, 1.5)) / math.cos(math.radians(latitude))))) + reach * 1e-6 + 1e-6
    west, east = longitude - wide, longitude + wide
    spans = [(max(west, -180.0), min(east, 180.0))]
    if west < -180:
        spans.append((west + 360, 180.0))
    if east > 180:
        spans.append((-180.0, east - 360))
    return tuple(
        (row * ROW + _column(start), row * ROW + _column(end)) for row in range(south, north + 1) for start, end in spans
    )


def _row(latitude: float) -> int:
    return math.floor((latitude + 90) * PER_DEGREE)


def _column(longitude: float) -> int:
    return math.floor((longitude + 180) * PER_DEGREE)
