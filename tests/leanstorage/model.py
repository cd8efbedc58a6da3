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
        elif not field_matches(reach(row, key), value):
            return False
    return True


def reach(row, key):
    """The value at a dotted key; only objects are reached into."""
    for part in key.split("."):
        if not isinstance(row, dict) or part not in row:
            return MISSING
        row = row[part]
    return row


def field_matches(value, condition):
    if not (isinstance(condition, dict) and any(name.startswith("$") for name in condition)):
        return equal(value, condition)
    return all(OPERATORS[name](value, operand, condition) for name, operand in condition.items() if name in OPERATORS)


def same(left, right):
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def equal(value, operand):
    if operand is None and (value is MISSING or value is None):
        return True
    if value is MISSING:
        return False
    return same(value, operand) or (isinstance(value, list) and any(same(element, operand) for element in value))


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
    return value if isinstance(value, list) else []


def within(value, operand, _):
    if not (isinstance(value, dict) and value.get("__type") == "GeoPoint"):
        return False
    low, high = operand["$box"]
    return (
        low["latitude"] <= value["latitude"] <= high["latitude"]
        and low["longitude"] <= value["longitude"] <= high["longitude"]
    )


def near(value, operand, condition):
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


OPERATORS = {
    "$ne": lambda value, operand, _: not equal(value, operand),
    "$in": lambda value, operand, _: any(equal(value, item) for item in operand),
    "$nin": lambda value, operand, _: not any(equal(value, item) for item in operand),
    "$all": lambda value, operand, _: bool(operand) and all(equal(value, item) for item in operand),
    "$size": lambda value, operand, _: isinstance(value, list) and len(value) == operand,
    "$exists": lambda value, operand, _: (value is not MISSING) == operand,
    "$gt": ordered(lambda a, b: a > b),
    "$gte": ordered(lambda a, b: a >= b),
    "$lt": ordered(lambda a, b: a < b),
    "$lte": ordered(lambda a, b: a <= b),
    "$regex": regex,
    "$within": within,
    "$nearSphere": near,
}
