"""Conditions on points of the globe, and the order by the distance to one."""
from collections.abc import Callable

from leanstorage.store import Condition, Path
from leanstorage.store.dialect import Dialect
from leanstorage.store.fragments import SIMPLE_TYPES, Fragment, Item, bind, build, join


class Points(Dialect):
    """The part of the compiler for points."""

    def type_of_column(self, class_name: str, path: Path) -> str | None:
        raise NotImplementedError

    def tested(
        self,
        class_name: str,
        path: Path,
        alias: str,
        plain: Callable[[Item], Fragment],
        each: Callable[[Item], Fragment],
        is_spread: bool = True,
    ) -> Fragment:
        raise NotImplementedError

    def nearest(self, class_name: str, path: Path, alias: str, latitude: float, longitude: float) -> Fragment:
        """The angle to the nearest of the points that a field holds."""
        if self.type_of_column(class_name, path) in SIMPLE_TYPES:
            return self.distance(self.field(class_name, path, alias), latitude, longitude)
        source, item = self.reached(class_name, path, alias, True)
        return build("(SELECT min({}) FROM {})", self.distance(item, latitude, longitude), source)

    def _near(self, node: Condition, class_name: str, alias: str) -> Fragment:
        latitude, longitude, least, greatest = node.operand

        def is_near(item: Item) -> Fragment:
            angle = self.distance(item, latitude, longitude)
            tests = [build("{} IS NOT NULL", angle)]
            # A hair of tolerance, because bounds are inclusive and miles and kilometres do not divide evenly.
            if least is not None:
                tests.append(build("{} >= {}", angle, bind(least - 1e-12)))
            if greatest is not None:
                tests.append(build("{} <= {}", angle, bind(greatest + 1e-12)))
            return join("AND", tests)

        return self._point(class_name, node.path, alias, is_near)

    def _point(self, class_name: str, path: Path, alias: str, test: Callable[[Item], Fragment]) -> Fragment:
        """Whether one of the points that a field holds passes a test."""
        if self.type_of_column(class_name, path) in SIMPLE_TYPES:
            return test(self.field(class_name, path, alias))
        return self.tested(class_name, path, alias, lambda item: join("OR", [test(item), self.any_element(item, test)]), test)

    def _box(self, node: Condition, class_name: str, alias: str) -> Fragment:
        south, west, north, east = node.operand

        def is_inside(item: Item) -> Fragment:
            latitude, longitude = self.coordinates(item)
            return join(
                "AND",
                [
                    build("{} BETWEEN {} AND {}", latitude, bind(south), bind(north)),
                    build("{} BETWEEN {} AND {}", longitude, bind(west), bind(east)),
                ],
            )

        return self._point(class_name, node.path, alias, is_inside)
