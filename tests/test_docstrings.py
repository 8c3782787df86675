"""Public functions of two or more parameters describe each of them in a numpydoc section."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import labeltui

ROOT = Path(labeltui.__file__).parent
LEAST = 0.95
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parse(root: Path) -> dict[str, ast.Module]:
    """Modules by their path inside the package."""
    return {str(path.relative_to(root)): ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}


def public(tree: ast.Module) -> Iterator[tuple[Function, ast.ClassDef | None]]:
    for node in tree.body:
        if isinstance(node, Function):
            yield node, None
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from ((each, node) for each in node.body if isinstance(each, Function))


def parameters(function: Function, owner: ast.ClassDef | None) -> list[str]:
    """Names of the parameters, without self and cls."""
    names = [
        each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    ]
    static = "staticmethod" in decorators(function)
    return names[1:] if owner is not None and not static else names


def decorators(function: Function) -> set[str]:
    names = set()
    for each in function.decorator_list:
        called = each.func if isinstance(each, ast.Call) else each
        names.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    return names


def documented(function: Function) -> set[str]:
    """Names in the Parameters section."""
    text = ast.get_docstring(function) or ""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=\n\n[A-Z][a-z]+\n-{3,}\n|\Z)", text, re.DOTALL | re.MULTILINE
    )
    heads = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section[1] if section else "", re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def inherited(owner: ast.ClassDef, name: str, classes: dict[str, ast.ClassDef]) -> Iterator[Function]:
    """The methods `name` of the base classes inside the package."""
    for base in owner.bases:
        base_class = classes.get(ast.unparse(base).split("[")[0].split(".")[-1])
        if base_class is not None:
            yield from (each for each in base_class.body if isinstance(each, Function) and each.name == name)
            yield from inherited(base_class, name, classes)


def referenced(function: Function, classes: dict[str, ast.ClassDef]) -> Iterator[Function]:
    """The method of a protocol that the docstring refers to, as in "See `module.Class.method`"."""
    found = re.match(r"See `(?:\w+\.)*?(\w+)\.(\w+)`", ast.get_docstring(function) or "")
    if found and (owner := classes.get(found[1])) is not None:
        yield from (each for each in owner.body if isinstance(each, Function) and each.name == found[2])


def survey(modules: dict[str, ast.Module]) -> dict[tuple[str, str], bool]:
    """Whether each function that needs a Parameters section has a complete one, by (path, name).

    Click documents the options of commands, a base class or protocol its implementations, and a compiled kernel the
    Python twin that the tests compare it with.
    """
    classes = {
        node.name: node for tree in modules.values() for node in tree.body if isinstance(node, ast.ClassDef)
    }
    result = {}
    for path, tree in modules.items():
        for function, owner in public(tree):
            names = set(parameters(function, owner))
            if function.name.startswith("_") or len(names) < 2:
                continue
            if decorators(function) & {"command", "group", "overload"} or path == "_fast/reference.py":
                continue
            if owner is not None:
                bases = [*inherited(owner, function.name, classes), *referenced(function, classes)]
                if any(set(parameters(each, owner)) <= documented(each) for each in bases):
                    continue
            name = function.name if owner is None else f"{owner.name}.{function.name}"
            result[path, name] = names <= documented(function)
    return result


def undocumented(root: Path = ROOT) -> list[tuple[str, str]]:
    return [key for key, complete in survey(parse(root)).items() if not complete]


def test_public_functions_describe_their_parameters() -> None:
    result = survey(parse(ROOT))
    missing = [f"{path}: {name}" for (path, name), complete in result.items() if not complete]
    assert len(result) > 250
    assert 1 - len(missing) / len(result) >= LEAST, "\n".join(missing)


def test_the_survey_counts_incomplete_sections_and_leaves_overrides_out() -> None:
    source = '''
        class Base:
            def run(self, a, b):
                """Run.

                Parameters
                ----------
                a, b : int
                """

        class Child(Base):
            def run(self, a, b): ...
            def stop(self, a, b):
                """Stop.

                Parameters
                ----------
                a : int
                    Also b : no.

                Raises
                ------
                b : never
                """

        def one(a): ...
        def two(a, b): ...
        def _private(a, b): ...
    '''
    result = survey({"x.py": ast.parse(inspect.cleandoc(source))})
    assert result == {("x.py", "Base.run"): True, ("x.py", "Child.stop"): False, ("x.py", "two"): False}
