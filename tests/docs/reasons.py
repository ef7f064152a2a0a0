"""Every sentence by which Podstrap says why something is not as wished, read out of its code.

Collected are the texts that are given to an error of `PodstrapError`'s family (whoever catches one prints it), to
the refusals of docker arguments and settings, to the calls by which a task gets a reason, and what is told in a task's
console (REASONS). A text
that is put together is followed: names to what is assigned to them, calls to what the function of that name returns,
tables to their values. What is filled in at run time stands as `…`.

`python -m tests.docs.reasons` prints them all.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import support

ROOMS = ("protocol", "clearml_api", "bootstrap", "controller", "standalone", "cli")
BASE = "PodstrapError"
REASONS = {
    "Refused": (0,), "PydanticCustomError": (1,), "Diagnosis": (1,), "Ending": (1, 2), "FinishTask": (3,),
    "FailQueued": (3,), "StopJob": (2,), "say": (1,), "Problem": (1,), "TooManyAttempts": (0, 1),
    "_refused": (0,), "tell": (0,), "_tell": (0,),
}  # fmt: skip
"""Call -> places of its arguments that hold a text for a person; an error's is the first."""
_SHORT = ("Diagnosis",)
"""Where one word is a reason already: `evicted`."""
RETURNED = ("waiting",)
"""Functions whose answer is a reason."""
LOGGED = ("warning", "error", "exception", "critical")
HOLE = "…"
_MOST = 200
"""Ways to put one text together, beyond which it is cut: a safeguard of this collector alone."""


@dataclass(frozen=True)
class Reason:
    """One sentence and where it is made."""

    text: str
    place: str


@dataclass
class _Module:
    path: Path
    tree: ast.Module
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.functions.setdefault(node.name, node)
        for node in self.tree.body:
            for name, value in _bound(node):
                self.constants[name] = value


_Function = tuple[_Module, ast.FunctionDef]


def collected(root: Path = support.REPOSITORY_ROOT) -> list[Reason]:
    """All reasons of the code below `root`, in the order of the files."""
    modules = [
        _Module(path, ast.parse(path.read_text())) for room in ROOMS for path in sorted((root / room).rglob("*.py"))
    ]
    places = {**dict.fromkeys(_family(modules), (0,)), **REASONS}
    shared = {name: (module, function) for module in modules for name, function in module.functions.items()}
    constants = {name: value for module in modules for name, value in module.constants.items()}
    found: dict[str, Reason] = {}
    for module in modules:
        for reason in _of_module(module, places, shared, constants, root):
            found.setdefault(reason.text, reason)
    return list(found.values())


def _family(modules: Iterable[_Module]) -> set[str]:
    """The names of PodstrapError and of every class below it."""
    family, before = {BASE}, 0
    while len(family) > before:
        before = len(family)
        for module in modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef) and any(_name(base) in family for base in node.bases):
                    family.add(node.name)
    return family


def _of_module(
    module: _Module, places: dict[str, tuple[int, ...]], shared: dict[str, _Function],
    constants: dict[str, ast.expr], root: Path,
) -> Iterator[Reason]:  # fmt: skip
    inside = {id(node): function for function in _functions(module.tree) for node in ast.walk(function)}
    told_by_class = {
        id(node)
        for owner in ast.walk(module.tree)
        if isinstance(owner, ast.ClassDef) and owner.name in places
        for node in ast.walk(owner)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Return) and (function := inside.get(id(node))) and function.name in RETURNED:
            for text in _Texts(module, function, shared, constants).of(node.value):
                if _says_something(text, 1):
                    yield Reason(text, f"{module.path.relative_to(root)}:{node.lineno}")
        if not isinstance(node, ast.Call):
            continue
        place = f"{module.path.relative_to(root)}:{node.lineno}"
        if isinstance(node.func, ast.Attribute) and _name(node.func.value) == "log" and node.func.attr in LOGGED:
            yield Reason(str(ast.literal_eval(node.args[0])).split()[0], place)
            continue
        if _name(node.func) == "replace":
            for text in (text for key in node.keywords if key.arg == "reason" for text in
                         _Texts(module, inside.get(id(node)), shared, constants).of(key.value)):  # fmt: skip
                if _says_something(text):
                    yield Reason(text, place)
        named = BASE if id(node) in told_by_class else _name(node.func)
        for number in places.get(named, ()):
            if number < len(node.args):
                texts = _Texts(module, inside.get(id(node)), shared, constants)
                for text in texts.of(node.args[number]):
                    if _says_something(text, 1 if _name(node.func) in _SHORT else 2):
                        yield Reason(text, place)


class _Texts:
    """Follows an expression of one function to the texts that it can be."""

    def __init__(
        self, module: _Module, function: ast.FunctionDef | None, shared: dict[str, _Function],
        constants: dict[str, ast.expr], depth: int = 0,
    ) -> None:  # fmt: skip
        self._module, self._function, self._depth = module, function, depth
        self._shared, self._constants = shared, constants

    def of(self, node: ast.expr | None) -> list[str]:
        """Each text, `…` for what is known at run time only."""
        if node is None or self._depth > 6:
            return [HOLE]
        return [re.sub(f"({HOLE})+", HOLE, text) for text in list(dict.fromkeys(self._of(node)))[:_MOST]]

    def _of(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) else [HOLE]
        if isinstance(node, ast.JoinedStr):
            return self._product([self.of(part) for part in node.values], "")
        if isinstance(node, ast.FormattedValue):
            return self._filled(node.value)
        if isinstance(node, ast.IfExp):
            return [*self.of(node.body), *self.of(node.orelse)]
        if isinstance(node, ast.BoolOp):
            return [text for value in node.values for text in self.of(value)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
            left = self.of(node.left)
            return self._product([left, self.of(node.right)], "") if isinstance(node.op, ast.Add) else left
        if isinstance(node, ast.NamedExpr):
            return self.of(node.value)
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Dict):
            return [text for value in node.values for text in self.of(value)]
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return [text for value in node.elts for text in self.of(value)]
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self.of(node.elt)
        if isinstance(node, ast.Subscript):
            return self._table(node.value)
        if isinstance(node, ast.Call):
            return self._called(node)
        return [HOLE]

    def _filled(self, node: ast.expr) -> list[str]:
        """What is filled into a text: a choice between known words or of a table is told, all else is a hole."""
        if isinstance(node, ast.Name) and not node.id.isupper():
            return self.of(node) if any(self._is_table(value) for value in self._values(node.id)) else [HOLE]
        return self.of(node) if isinstance(node, (ast.IfExp, ast.Subscript, ast.Name)) else [HOLE]

    def _is_table(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BoolOp):
            return all(self._is_table(value) for value in node.values)
        if isinstance(node, ast.Subscript):
            found: ast.expr | None = node.value
        else:
            found = node.func.value if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        return isinstance(found, ast.Name) and isinstance(self._module.constants.get(found.id), ast.Dict)

    def _values(self, name: str) -> list[ast.expr]:
        if self._function is None:
            return []
        return [value for node in ast.walk(self._function) for one, value in _bound(node) if one == name]

    def _named(self, name: str) -> list[str]:
        deeper = self._deeper(self._module, self._function)
        if found := self._values(name):
            return [text for value in found for text in deeper.of(value)]
        if (value := self._module.constants.get(name) or self._constants.get(name)) is not None:
            return deeper.of(value)
        return list(self._given(name)) or [HOLE]

    def _given(self, name: str) -> Iterator[str]:
        """What the module's own calls give for a parameter of the function."""
        arguments = [one.arg for one in self._function.args.args] if self._function else []
        if self._function is None or name not in arguments:
            return
        number = arguments.index(name)
        inside = {id(node): function for function in _functions(self._module.tree) for node in ast.walk(function)}
        for node in ast.walk(self._module.tree):
            if isinstance(node, ast.Call) and _name(node.func) == self._function.name and number < len(node.args):
                yield from self._deeper(self._module, inside.get(id(node))).of(node.args[number])

    def _table(self, node: ast.expr) -> list[str]:
        return self._named(node.id) if isinstance(node, ast.Name) else [HOLE]

    def _called(self, node: ast.Call) -> list[str]:
        name = _name(node.func)
        if isinstance(node.func, ast.Attribute):
            if name == "get":
                return self._table(node.func.value)
            if name == "join" and node.args:
                return self.of(node.args[0])
            if name in ("rstrip", "strip", "format", "replace"):
                return self.of(node.func.value)
        if name in REASONS:
            return [HOLE]  # collected where it is made
        given = [
            text
            for argument in node.args
            for text in self.of(argument)
            if _says_something(text, 1 if isinstance(argument, (ast.Subscript, ast.Name)) else 2)
        ]
        if name not in self._module.functions and name not in self._shared:
            return given or [HOLE]
        local = self._module.functions.get(name)
        owner, function = (self._module, local) if local else self._shared[name]
        inner = self._deeper(owner, function)
        returned = [node.value for node in ast.walk(function) if isinstance(node, (ast.Return, ast.Yield))]
        return [*given, *(text for value in returned if value is not None for text in inner.of(value))] or [HOLE]

    def _deeper(self, module: _Module, function: ast.FunctionDef | None) -> _Texts:
        return _Texts(module, function, self._shared, self._constants, self._depth + 1)

    def _product(self, parts: list[list[str]], between: str) -> list[str]:
        return [between.join(words) for words in itertools.islice(itertools.product(*parts), _MOST)]


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple):
                several = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(target.elts)
                pairs = zip(target.elts, several, strict=False)
                yield from ((one.id, value) for one, value in pairs if isinstance(one, ast.Name))
    elif (
        isinstance(node, (ast.AnnAssign, ast.NamedExpr))
        and isinstance(node.target, ast.Name)
        and node.value is not None
    ):
        yield node.target.id, node.value


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The outer ones first, so that a node belongs to the innermost."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _says_something(text: str, words: int = 2) -> bool:
    """So many words of its own at least."""
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= words


if __name__ == "__main__":
    for one in collected():
        print(f"{one.place}\t{one.text!r}")
