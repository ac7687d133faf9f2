"""The tree of errors and its table."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import fluidfs
from fluidfs import errors
from fluidfs.errors import ERROR_TABLE, CacheError, ExitStatus, FluidfsError, facts_of


def everything_imported() -> None:
    for module in pkgutil.walk_packages(fluidfs.__path__, "fluidfs."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def kinds(kind: type[FluidfsError] = FluidfsError) -> Iterator[type[FluidfsError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)


everything_imported()
KINDS = sorted(set(kinds()), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_the_os_error_that_its_row_says(kind: type[FluidfsError]) -> None:
    error = kind("what happened, what to do")
    assert isinstance(error, OSError)
    assert error.errno == facts_of(kind).errno
    assert error.strerror == error.message == str(error) == "what happened, what to do"
    assert os.strerror(error.errno or 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind: type[FluidfsError]) -> None:
    error = pickle.loads(pickle.dumps(kind("why")))
    assert type(error) is kind
    assert error.message == "why"
    assert error.errno == kind("why").errno


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_that_python_has_a_name_for_has_the_errno_of_that_name(kind: type[FluidfsError]) -> None:
    """`except FileNotFoundError` and `error.errno == ENOENT` are the same question."""
    names = {
        FileNotFoundError: errno.ENOENT,
        PermissionError: errno.EACCES,
        NotADirectoryError: errno.ENOTDIR,
        IsADirectoryError: errno.EISDIR,
    }
    for builtin, number in names.items():
        if issubclass(kind, builtin):
            assert facts_of(kind).errno == number


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_documented_and_listed_in_the_tree(kind: type[FluidfsError]) -> None:
    assert kind.__doc__
    if kind.__module__ == errors.__name__:
        assert kind.__name__ in (errors.__doc__ or "")


def test_a_stranger_has_the_row_of_the_base() -> None:
    assert facts_of(ZeroDivisionError) is ERROR_TABLE[FluidfsError]


def test_a_child_without_a_row_inherits_its_parents() -> None:
    class Special(errors.SlowDown):
        pass

    assert facts_of(Special) is ERROR_TABLE[errors.StoreUnavailable]


def test_what_a_person_must_change_has_its_own_exit_status() -> None:
    assert facts_of(errors.UsageError).exit_status == ExitStatus.USAGE
    assert facts_of(errors.EnvironmentLacking).exit_status == ExitStatus.ENVIRONMENT
    assert {facts.exit_status for facts in ERROR_TABLE.values()} <= set(ExitStatus)


def test_faults_of_the_cache_and_of_the_store_are_not_missing_files() -> None:
    faults = [kind for kind in KINDS if issubclass(kind, CacheError | errors.StoreUnavailable | errors.ObjectChanged)]
    assert all(facts_of(kind).errno != errno.ENOENT for kind in faults)
    assert not any(issubclass(kind, FileNotFoundError) for kind in faults)


def test_log_levels_are_those_of_logging() -> None:
    assert {facts.log_level for facts in ERROR_TABLE.values()} <= {
        logging.DEBUG,
        logging.INFO,
        logging.WARNING,
        logging.ERROR,
    }
