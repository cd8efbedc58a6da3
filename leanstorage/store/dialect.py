"""What a database adds to the compiler of queries: its JSON, its text search, its way to sort."""
from collections.abc import Callable, Sequence

from leanstorage.store import Document, Json, Path, type_of
from leanstorage.store.fragments import Fragment, Item, between


class Dialect:
    """Fragments of SQL that the two databases write differently; PostgresqlCompiler and SqliteCompiler have them."""

    role_name: str  # SQL of a role's name in a row `o` of objects

    @staticmethod
    def text_list(texts: Sequence[str]) -> Fragment:
        """What stands behind IN."""
        raise NotImplementedError

    def limits(self, limit: int | None, skip: int) -> Fragment:
        raise NotImplementedError

    def direction(self, descending: bool) -> str:
        raise NotImplementedError

    def readable(self, alias: str, principals: list[str]) -> Fragment:
        """Whether one of the principals may read a row."""
        raise NotImplementedError

    def field(self, class_name: str, path: Path, alias: str) -> Item:
        raise NotImplementedError

    def plain_field(self, class_name: str, path: Path, alias: str) -> Item:
        """The same, where nothing has been made sure of: arrays on the way have no such field."""
        raise NotImplementedError

    def reached(self, class_name: str, path: Path, alias: str, is_spread: bool) -> tuple[Fragment, Item]:
        """(source, item): rows of all that a dotted key reaches through arrays, and what one of them is."""
        raise NotImplementedError

    def is_array(self, item: Item) -> Fragment:
        raise NotImplementedError

    def any_element(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether an array has an element that passes the test."""
        raise NotImplementedError

    def any_of(self, item: Item, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether an object, or one of the elements of an array, passes the test."""
        raise NotImplementedError

    def equal(self, item: Item, operand: Json) -> Fragment:
        raise NotImplementedError

    def compare(self, item: Item, operator: str, operand: Json) -> Fragment:
        raise NotImplementedError

    def simple_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        """Equality on a column of one of SIMPLE_TYPES."""
        raise NotImplementedError

    def indexed_equal(self, item: Item, column_type: str, operand: Json) -> Fragment:
        """The same as an index serves it."""
        raise NotImplementedError

    def simple_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        raise NotImplementedError

    def indexed_compare(self, item: Item, column_type: str, operator: str, operand: Json) -> Fragment:
        """The same as an index serves it."""
        return self.simple_compare(item, column_type, operator, operand)

    def simple_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        """Whether a column of one of SIMPLE_TYPES equals one of several values of its type."""
        raise NotImplementedError

    def indexed_in(self, item: Item, column_type: str, operands: Sequence[Json]) -> Fragment:
        """The same as an index serves it."""
        return self.simple_in(item, column_type, operands)

    def indexed_prefix(self, item: Item, prefix: str) -> Fragment:
        """Whether a column of texts begins with a prefix, as an index serves it."""
        return between(item["value"], prefix)

    def place(self, columns: Sequence[Json]) -> Fragment:
        """A table of one row, with these values as id, created, updated, seq and body."""
        raise NotImplementedError

    def holds(self, class_name: str, key: str, alias: str, operands: Sequence[Json]) -> Fragment | None:
        """A test, as an index serves it, that every array with all of the operands passes; None where there is none."""
        raise NotImplementedError

    def cell(self, key: str, alias: str) -> str:
        """SQL of the cell of the grid in which the point of a column lies, NULL for none."""
        raise NotImplementedError

    def tally(self, class_name: str, keys: Sequence[str]) -> str:
        """The table of `value`, `is_public` and `n` that an index of the ACL keeps."""
        raise NotImplementedError

    def is_tallied(self, column: Document, operand: Json) -> bool:
        """Whether the values that are kept of a column tell which objects equal, or exceed, a value."""
        found = type_of(operand)
        return found is not None and found["type"] == column["type"]

    def tally_test(self, operator: str, operand: Json) -> Fragment:
        """A comparison of such a value; one that is missing passes none."""
        raise NotImplementedError

    def shared(self, class_name: str, alias: str, principals: list[str]) -> Fragment:
        """The objects of a class, to select from, whose ACL has one of these names, as an index of the ACL finds them."""
        raise NotImplementedError

    def array_length(self, item: Item, length: int) -> Fragment:
        """Whether an item is an array of this length."""
        raise NotImplementedError

    def search(self, text: Fragment, operand: tuple[str, int]) -> Fragment:
        """Whether a pattern, with flags, occurs in a text."""
        raise NotImplementedError

    def text_search(self, item: Item, operand: tuple[str, int]) -> Fragment:
        raise NotImplementedError

    def text_value(self, item: Item) -> Fragment:
        """An item that is a text, else NULL."""
        raise NotImplementedError

    def points_into(self, item: Item, class_name: str, inner: Fragment) -> Fragment:
        """Whether an item is a pointer to one of the ids that `inner` selects."""
        raise NotImplementedError

    def coordinates(self, item: Item) -> tuple[Fragment, Fragment]:
        """Latitude and longitude of a GeoPoint in degrees, else NULL."""
        raise NotImplementedError

    def distance(self, item: Item, latitude: float, longitude: float) -> Fragment:
        """The angle to a point in radians."""
        raise NotImplementedError

    def sort_keys(self, class_name: str, path: Path, alias: str) -> list[Fragment]:
        """What to order by: a column, or first the rank of the type and then the value."""
        raise NotImplementedError
