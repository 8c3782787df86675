from __future__ import annotations

import pickle

import pytest

from labeltui import errors


def every(kind: type[errors.LabeltuiError]) -> list[type[errors.LabeltuiError]]:
    return [kind, *(grand for child in kind.__subclasses__() for grand in every(child))]


@pytest.mark.parametrize("kind", every(errors.LabeltuiError))
def test_three_parts_survive_a_process_border(kind: type[errors.LabeltuiError]) -> None:
    error = pickle.loads(pickle.dumps(kind("k must be below N", "k is 50, N is 10", "give --k 9 or less")))
    assert type(error) is kind
    assert (error.message, error.got, error.hint) == (
        "k must be below N",
        "k is 50, N is 10",
        "give --k 9 or less",
    )
    assert error.exit_code != 0


def test_the_tree_in_the_docstring_is_complete() -> None:
    assert errors.__doc__ is not None
    for kind in every(errors.LabeltuiError):
        assert f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " \n"), kind
        line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f" {line} ")
        if kind is not errors.LabeltuiError:
            assert f" {kind.exit_code} " in f"{line} ", line
