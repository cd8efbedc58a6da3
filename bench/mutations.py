"""The small faults that bench/mutants.py puts into a source, one at a time: what may be changed, and the changed text."""
import ast
from dataclasses import dataclass

COMPARISONS = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.BitOr: ast.BitAnd}


@dataclass(frozen=True)
class Mutation:
    """One fault: the text between two places of a source, and what stands there instead."""

    path: str
    line: int
    statement: int  # the line where the statement begins
    kind: str
    start: int  # in bytes of the whole source
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutations(path: str, source: bytes) -> list[Mutation]:
    """Every mutation of a source, in the order of its text."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found), key=lambda one: (one.start, one.end, one.kind, one.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutation] = []
        self._path = path
        self._statement = 1
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def _add(self, kind: str, node: ast.AST, text: str) -> None:
        first, last = self._lines[node.lineno - 1], self._lines[node.end_lineno - 1]
        start, end = first + node.col_offset, last + node.end_col_offset
        self.found.append(Mutation(self._path, node.lineno, self._statement, kind, start, end, text))

    def visit(self, node):
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)
        self._statement = outer

    def _changed(self, kind: str, node: ast.AST, **fields) -> None:
        """`node` with some of its fields changed, in parentheses: it may stand in a larger expression."""
        changed = type(node)(**{**{name: getattr(node, name) for name in node._fields}, **fields})
        self._add(kind, node, f"({ast.unparse(changed)})")

    def visit_Compare(self, node):
        for index, operator in enumerate(node.ops):
            flipped = COMPARISONS[type(operator)]()
            self._changed("comparison", node, ops=[*node.ops[:index], flipped, *node.ops[index + 1 :]])
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        self._changed("and/or", node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            self._add("no not", node, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node):
        texts = any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not texts:
            self._changed("arithmetic", node, op=ARITHMETIC[type(node.op)]())
        self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self._add("boolean", node, str(not node.value))
        elif isinstance(node.value, int):
            self._add("number", node, f"({node.value + 1})")
            self._add("number", node, f"({node.value - 1})")

    def _condition(self, node):
        if not isinstance(node.test, (ast.Compare, ast.Constant)):  # which are changed by themselves
            self._add("condition", node.test, f"(not ({ast.unparse(node.test)}))")
        self.generic_visit(node)

    visit_If = visit_IfExp = visit_While = _condition

    def visit_comprehension(self, node):
        for test in node.ifs:
            self._add("filter", test, "True")
        self.generic_visit(node)

    def visit_Call(self, node):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg:
                self._changed(f"no {keyword.arg}=", node, keywords=node.keywords[:index] + node.keywords[index + 1 :])
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):
            return  # a document string
        self._add("no statement", node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node):
        self._add("no raise", node, "pass")
        self.generic_visit(node)

    def visit_Return(self, node):
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add("return None", node, "return None")
        self.generic_visit(node)

    def visit_Assign(self, node):
        if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._add("no statement", node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self._add("no statement", node, "pass")
        self.generic_visit(node)

    def visit_Delete(self, node):
        self._add("no statement", node, "pass")

    def visit_Break(self, node):
        self._add("continue", node, "continue")

    def visit_Continue(self, node):
        self._add("break", node, "break")

    # Nothing of these runs, or says anything about where it stands (inside of f-strings).

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node):
        pass

    def visit_JoinedStr(self, node):
        pass

    def visit_Assert(self, node):
        pass

    def visit_FunctionDef(self, node):
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
