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


def find_forbidden(source: str, names: Iterable[str]) -> list[Use]:
    """Return each use of one of ``names`` in ``source``.

    Follows imports, aliases made by assignment (``sdpa = F.scaled_dot_product_attention``), attribute
    chains, star imports and ``getattr`` with a literal string. A call through a computed string cannot
    be proved here.

    Args:
        source: a cell's Python code; notebook magics must have been removed.
        names: dotted names, such as "torch.nn.functional.softmax"; "torch.Tensor.softmax" also forbids
            the method ``x.softmax(…)`` on anything, a module forbids whatever is imported from it, and a
            name without a dot is a builtin.

    Returns:
        The uses in order of lines; empty if the source does not parse.

    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    forbidden = set(names)
    methods = {
        name.removeprefix("torch.Tensor."): name
        for name in forbidden
        if name.startswith("torch.Tensor.")
    }
    aliases = dict(_USUAL_ALIASES)
    uses: set[Use] = set()

    def attribute(node: ast.AST) -> tuple[ast.AST, str] | None:
        """Return object and name of ``object.name`` and of ``getattr(object, "name")``."""
        if isinstance(node, ast.Attribute):
            return node.value, node.attr
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "getattr"
            and len(node.args) >= 2
            and isinstance(node.args[1], ast.Constant)
            and isinstance(node.args[1].value, str)
        ):
            return node.args[0], node.args[1].value
        return None

    def dotted(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return aliases.get(node.id, node.id)
        found = attribute(node)
        base = dotted(found[0]) if found else None
        return f"{base}.{found[1]}" if found and base else None

    for node in sorted(ast.walk(tree), key=lambda each: getattr(each, "lineno", 0)):
        if isinstance(node, ast.Import):
            for each in node.names:
                aliases[each.asname or each.name.split(".")[0]] = (
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
                    aliases |= {part: inside + part for part in first}
                aliases[each.asname or each.name] = f"{node.module}.{each.name}"
                for hit in {f"{node.module}.{each.name}", node.module} & forbidden:
                    uses.add(Use(hit, node.lineno))
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, name = node.targets[0], dotted(node.value)
            if isinstance(target, ast.Name) and name and "." in name:
                aliases[target.id] = name
    for node in ast.walk(tree):
        name = dotted(node)
        if name in forbidden:
            uses.add(Use(name, node.lineno))  # type: ignore[attr-defined]
        found = attribute(node)
        if found and found[1] in methods:
            base = dotted(found[0]) or ""
            if base.split(".")[0] not in {"torch", "numpy", "math"}:
                uses.add(Use(methods[found[1]], node.lineno))  # type: ignore[attr-defined]
    return sorted(uses, key=lambda use: (use.lineno, use.name))
