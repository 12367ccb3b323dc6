"""Find names that an exercise does not allow, by reading the syntax tree."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """One use of a forbidden name: which, and in which line of the cell."""

    name: str
    lineno: int


# What the lessons' setup cells import under short names.
_USUAL_ALIASES = {
    "F": "torch.nn.functional",
    "nn": "torch.nn",
    "np": "numpy",
}
# Where PyTorch keeps the same functions once more.
_INNER = (
    "torch._C._nn.",
    "torch._C._VariableFunctions.",
    "torch._C._special.",
    "torch._VF.",
    "torch.ops.aten.",
)
_PUBLIC = ("torch.nn.functional.", "torch.special.", "torch.")


def find_forbidden(source: str, names: Iterable[str]) -> list[Use]:
    """Return each use of one of ``names`` in ``source``.

    Follows imports, aliases made by assignment (``sdpa = F.scaled_dot_product_attention``), attribute
    chains, star imports, names under which PyTorch keeps the same function (``torch.ops.aten``), and roads
    by a string that is written down: ``getattr``, ``vars``, ``__dict__``, ``importlib``, ``eval`` and
    ``exec``. A name that is put together at run time cannot be proved here.

    Args:
        source: a cell's Python code; notebook magics must have been removed.
        names: dotted names, such as "torch.nn.functional.softmax"; "torch.Tensor.softmax" also forbids
            the method ``x.softmax(…)`` on anything, a module forbids whatever is imported from it, and a
            name without a dot is a builtin.

    Returns:
        The uses in order of lines; empty if the source does not parse.

    """
    try:
        nodes = _with_executed(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    forbidden = set(names)
    methods = {
        name.removeprefix("torch.Tensor."): name
        for name in forbidden
        if name.startswith("torch.Tensor.")
    }
    inner = {
        name.rpartition(".")[2]: name
        for name in sorted(forbidden)
        if name.startswith(_PUBLIC) and name.removeprefix("torch.nn.functional.").count(".") < 2
    }
    reader = _Reader()
    uses: set[Use] = set()

    for node in sorted(nodes, key=lambda each: getattr(each, "lineno", 0)):
        if isinstance(node, ast.Import):
            for each in node.names:
                reader.aliases[each.asname or each.name.split(".")[0]] = (
                    each.name if each.asname else each.name.split(".")[0]
                )
                if each.name in forbidden:
                    uses.add(Use(each.name, node.lineno))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                if each.name == "*":
                    inside = f"{node.module}."
                    parts = {name[len(inside) :] for name in forbidden if name.startswith(inside)}
                    first = {part.split(".")[0] for part in parts}
                    reader.aliases |= {part: inside + part for part in first}
                reader.aliases[each.asname or each.name] = f"{node.module}.{each.name}"
                for hit in {f"{node.module}.{each.name}", node.module} & forbidden:
                    uses.add(Use(hit, node.lineno))
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, name = node.targets[0], reader.dotted(node.value)
            if isinstance(target, ast.Name) and name and "." in name:
                reader.aliases[target.id] = name
            elif isinstance(target, ast.Name) and (text := reader.text(node.value)) is not None:
                reader.texts[target.id] = text
    for node in nodes:
        used = reader.dotted(node)
        if used is None:
            continue
        public = used if used in forbidden else _public_name(used, inner)
        if public is not None:
            uses.add(Use(public, node.lineno))  # type: ignore[attr-defined]
    for node in nodes:
        found = reader.attribute(node)
        if found and found[1] in methods:
            base = reader.dotted(found[0]) or ""
            if base.split(".")[0] not in {"torch", "numpy", "math"}:
                uses.add(Use(methods[found[1]], node.lineno))  # type: ignore[attr-defined]
    return sorted(uses, key=lambda use: (use.lineno, use.name))


def executed_texts(tree: ast.AST) -> list[tuple[str, int]]:
    """Return the strings that a tree hands to ``exec`` or ``eval``, where they are written down, with lines."""
    reader = _Reader()
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("exec", "eval", "compile")
            and node.args
            and (text := reader.text(node.args[0])) is not None
        ):
            found.append((text, node.lineno))
    return found


def _with_executed(tree: ast.AST, depth: int = 3) -> list[ast.AST]:
    """Return all nodes of a tree, and of the strings that it executes, which get the line of that call."""
    nodes = list(ast.walk(tree))
    for text, lineno in executed_texts(tree) if depth else ():
        try:
            inside = _with_executed(ast.parse(text.strip()), depth - 1)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in inside:
            if hasattr(node, "lineno"):
                node.lineno = lineno
        nodes += inside
    return nodes


def _public_name(name: str, inner: dict[str, str]) -> str | None:
    """Return the forbidden name of which ``name`` is another one, inside PyTorch."""
    for prefix in _INNER:
        if name.startswith(prefix):
            first = name.removeprefix(prefix).split(".")[0]
            if first.startswith("_scaled_dot_product_"):
                first = "scaled_dot_product_attention"
            return inner.get(first) or inner.get(first.lstrip("_"))
    return None


class _Reader:
    """Reads dotted names out of expressions, with the aliases and strings that were met before."""

    def __init__(self) -> None:
        self.aliases = dict(_USUAL_ALIASES)
        self.texts: dict[str, str] = {}

    def text(self, node: ast.AST) -> str | None:
        """Return a string that is written down, also in pieces."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self.texts.get(node.id)
        pieces: list[str | None] = []
        between = ""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            pieces = self._sum(node)
        elif isinstance(node, ast.JoinedStr):
            pieces = [
                self.text(each.value if isinstance(each, ast.FormattedValue) else each)
                for each in node.values
            ]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "join"
            and len(node.args) == 1
            and isinstance(node.args[0], (ast.List, ast.Tuple))
            and isinstance(node.func.value, ast.Constant)
            and isinstance(node.func.value.value, str)
        ):
            between = node.func.value.value
            pieces = [self.text(each) for each in node.args[0].elts]
        whole = [each for each in pieces if each is not None]
        return between.join(whole) if whole and len(whole) == len(pieces) else None

    def _sum(self, node: ast.AST) -> list[str | None]:
        """Return the strings of ``a + b + c``, which nests to the left, without going deep."""
        pieces: list[str | None] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            right = node.right
            nested = isinstance(right, ast.BinOp)  # only a sum in brackets stands on the right
            pieces.append(None if nested else self.text(right))
            node = node.left
        pieces.append(self.text(node))
        return pieces[::-1]

    def attribute(self, node: ast.AST) -> tuple[ast.AST, str] | None:
        """Return object and name of ``object.name``, ``getattr(object, "name")``, ``vars(object)["name"]``, …"""
        if isinstance(node, ast.Attribute):
            return node.value, node.attr
        if isinstance(node, ast.Subscript):
            holder = self._namespace(node.value)
            name = self.text(node.slice) if holder is not None else None
            return (holder, name) if holder is not None and name is not None else None
        if not isinstance(node, ast.Call) or not node.args:
            return None
        function = node.func
        if isinstance(function, ast.Name) and function.id == "getattr" and len(node.args) >= 2:
            name = self.text(node.args[1])
            return (node.args[0], name) if name is not None else None
        if isinstance(function, ast.Attribute):
            name = self.text(node.args[0])
            if name is not None and function.attr == "__getattribute__":
                return function.value, name
            holder = self._namespace(function.value) if function.attr in ("get", "pop") else None
            return (holder, name) if holder is not None and name is not None else None
        if isinstance(function, ast.Call) and function.args:
            made = self.dotted(function.func)
            name = self.text(function.args[0])
            if made in ("operator.attrgetter", "attrgetter") and name is not None:
                return node.args[0], name
        return None

    def _namespace(self, node: ast.AST) -> ast.AST | None:
        """Return the object whose names ``vars(object)`` and ``object.__dict__`` hold."""
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            return node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "vars" and len(node.args) == 1:
                return node.args[0]
            if node.func.id in ("globals", "locals", "vars") and not node.args:
                return node.func
        return None

    def dotted(self, node: ast.AST) -> str | None:
        """Return the dotted name that an expression stands for, None if it is not plain from the source."""
        try:
            return self._dotted(node)
        except RecursionError:  # one that is nested so deep must not hide the others
            return None

    def _dotted(self, node: ast.AST) -> str | None:
        parts: list[str] = []
        while True:
            if isinstance(node, ast.Name):
                base = "" if node.id in ("globals", "locals", "vars") and parts else node.id
                if not base:  # globals()["F"]: the name itself
                    base = parts.pop()
                parts.append(self.aliases.get(base, base))
                break
            if (module := self._module(node)) is not None:
                parts.append(module)
                break
            found = self.attribute(node)
            if found is None:
                return None
            node = found[0]
            parts.append(found[1])
        return ".".join(reversed(parts))

    def _module(self, node: ast.AST) -> str | None:
        """Return the module that ``importlib.import_module("…")`` and its like give."""
        if isinstance(node, ast.Subscript):
            holder = self.dotted(node.value) if isinstance(node.value, ast.Attribute) else None
            return self.text(node.slice) if holder == "sys.modules" else None
        if not isinstance(node, ast.Call) or not node.args:
            return None
        name = self.text(node.args[0])
        if name is None or not isinstance(node.func, (ast.Name, ast.Attribute)):
            return None
        if isinstance(node.func, ast.Attribute) and node.func.attr not in (
            "import_module",
            "__import__",
        ):
            return None  # before looking deeper: chains of calls would cost twice as much at every link
        function = self.dotted(node.func)
        if function in ("importlib.import_module", "import_module"):
            return name
        if function in ("__import__", "builtins.__import__", "importlib.__import__"):
            whole = len(node.args) > 3 or any(each.arg == "fromlist" for each in node.keywords)
            return name if whole else name.split(".")[0]
        return None
