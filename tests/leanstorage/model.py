"""The documented semantics of `where`, in plain Python over plain objects: what the databases are measured against."""
import math
import re

MISSING = object()


def matches(row, where, related=None):
    """Whether an object (with objectId) matches a decoded where of the operators that need no other object."""
    for key, value in where.items():
        if key == "$or":
            if not any(matches(row, part) for part in value):
                return False
        elif key == "$and":
            if not all(matches(row, part) for part in value):
                return False
        elif not field_matches(reach(row, key.split(".")), value):
            return False
    return True


class Whole(list):
    """An array that a number led to: it stands for itself, not for its elements."""


def reach(value, names):
    """All values at a dotted key, MISSING where an object has no such key: arrays are gone through, by MongoDB's rules."""
    if not names:
        return [value]
    name, rest = names[0], names[1:]
    if isinstance(value, dict):
        return reach(value[name], rest) if name in value else [MISSING]
    if not isinstance(value, list):
        return [MISSING]
    found = [one for element in value if isinstance(element, dict) for one in reach(element, names)]
    for place, element in enumerate(value):
        if str(place) == name and (not rest or isinstance(element, (dict, list))):
            found += reach(element, rest) if rest else [Whole(element) if isinstance(element, list) else element]
    return found


def field_matches(values, condition):
    if not (isinstance(condition, dict) and any(name.startswith("$") for name in condition)):
        return any(equal(value, condition) for value in values)
    return all(has(values, name, operand, condition) for name, operand in condition.items() if name in OPERATORS)


def has(values, name, operand, condition):
    if name == "$all":  # each may be in another place
        return bool(operand) and all(any(equal(value, item) for value in values) for item in operand)
    if name in NEGATIONS:
        return not has(values, NEGATIONS[name], operand, condition)
    if name == "$exists":
        return operand == any(value is not MISSING for value in values)
    return any(OPERATORS[name](value, operand, condition) for value in values)


def same(left, right):
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def equal(value, operand):
    if operand is None and (value is MISSING or value is None):
        return True
    if value is MISSING:
        return False
    return same(value, operand) or any(same(element, operand) for element in elements(value))


def kind(value):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict) and value.get("__type") == "Date":
        return "date"
    return None


def ordered(compare):
    def one(value, operand):
        if kind(value) is None or kind(value) != kind(operand):
            return False
        if kind(value) == "date":
            return compare(value["iso"], operand["iso"])
        return compare(value, operand)

    return lambda value, operand, _: any(one(item, operand) for item in [value, *elements(value)])


def elements(value):
    return value if isinstance(value, list) and not isinstance(value, Whole) else []


def within(value, operand, _):
    return any(is_within(item, operand) for item in [value, *elements(value)])


def is_within(value, operand):
    if not (isinstance(value, dict) and value.get("__type") == "GeoPoint"):
        return False
    low, high = operand["$box"]
    return (
        low["latitude"] <= value["latitude"] <= high["latitude"]
        and low["longitude"] <= value["longitude"] <= high["longitude"]
    )


def near(value, operand, condition):
    return any(is_near(item, operand, condition) for item in [value, *elements(value)])


def is_near(value, operand, condition):
    if not (isinstance(value, dict) and value.get("__type") == "GeoPoint"):
        return False
    limit = condition.get("$maxDistanceInRadians", math.inf)
    return angle(value, operand) <= limit + 1e-12


def angle(a, b):
    one, two = math.radians(a["latitude"]), math.radians(b["latitude"])
    turn = math.radians(b["longitude"] - a["longitude"])
    half = math.sin((two - one) / 2) ** 2 + math.cos(one) * math.cos(two) * math.sin(turn / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(half)))


def regex(value, operand, condition):
    flags = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
    wanted = 0
    for letter in condition.get("$options", ""):
        wanted |= flags[letter]
    return any(isinstance(item, str) and re.search(operand, item, wanted) for item in [value, *elements(value)])


NEGATIONS = {"$ne": "$eq", "$nin": "$in"}
OPERATORS = {  # None: see `has`
    "$eq": lambda value, operand, _: equal(value, operand),
    "$ne": None,
    "$in": lambda value, operand, _: any(equal(value, item) for item in operand),
    "$nin": None,
    "$all": None,
    "$size": lambda value, operand, _: isinstance(value, list) and len(value) == operand,
    "$exists": None,
    "$gt": ordered(lambda a, b: a > b),
    "$gte": ordered(lambda a, b: a >= b),
    "$lt": ordered(lambda a, b: a < b),
    "$lte": ordered(lambda a, b: a <= b),
    "$regex": regex,
    "$within": within,
    "$nearSphere": near,
}
