"""From an ecosystem file to specs, in four steps; each is a function, and its outcome the next one's input.

    read      the file is data, and every part of it has a place (yamlfile.py)
    shape     the forms that a file may have become one: a list of entries
    validate  an entry is an App, with PM2's keys and the rules of the command line (model.py)
    freeze    an App is an AppSpec: what it names is looked up, as for `pmx start` (launch.py)

An entry that is wrong does not hide what is wrong with the others: problems are collected, each with its place, and
reported together. Only then, if there are none, are there specs.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from pmx.config import launch
from pmx.config.model import FIELDS, App, told
from pmx.config.yamlfile import Document, Path, Problem, read, report
from pmx.core.spec import AppSpec
from pmx.errors import PmxError, ProgramProblem, UsageProblem


class Entry(NamedTuple):
    """What a file says about one program, and where."""

    path: Path
    data: Any


class Defect(NamedTuple):
    """A problem, and the kind of error that it would be alone."""

    problem: Problem
    kind: type[PmxError] = UsageProblem


def load(target: str, environ: Mapping[str, str]) -> list[AppSpec]:
    """The programs of the file `target`. Raises UsageProblem, or ProgramProblem if only the programs are wrong."""
    document = read(target)
    folder = os.path.dirname(os.path.abspath(os.path.expanduser(target)))
    entries, defects = shape(document)
    specs: list[tuple[Entry, AppSpec]] = []
    for entry in entries:
        app = validate(entry, document)
        spec = freeze(app, entry, document, folder, environ) if isinstance(app, App) else app
        if isinstance(spec, AppSpec):
            specs.append((entry, spec))
        else:
            defects += spec
    defects += same_names(specs, document)
    if defects:
        kinds = {defect.kind for defect in defects}
        kind = ProgramProblem if kinds == {ProgramProblem} else UsageProblem
        raise report(target, [defect.problem for defect in defects], kind)
    return [spec for _, spec in specs]


# --- shape --------------------------------------------------------------------------------------------------


def shape(document: Document) -> tuple[list[Entry], list[Defect]]:
    """The entries of ``apps: […]``, of a list, or of one program by itself; and what else is there."""
    data = document.data
    if isinstance(data, list):
        return _entries((), data, document)
    if not isinstance(data, dict):
        return [], [_defect(document, (), "there are no programs in it: begin with  apps:")]
    if "apps" not in data and any(key in FIELDS for key in data):
        return [Entry((), data)], []
    others = [_unknown(document, (key,), ("apps",)) for key in data if key != "apps"]
    if "apps" not in data:
        return [], others or [_defect(document, (), "there are no programs in it: begin with  apps:")]
    if not isinstance(data["apps"], list):
        wrong = _defect(document, ("apps",), "apps must be a list: one  - script: …  for each program")
        return [], [*others, wrong]
    entries, defects = _entries(("apps",), data["apps"], document)
    return entries, others + defects


def _entries(path: Path, data: list[Any], document: Document) -> tuple[list[Entry], list[Defect]]:
    entries = [Entry((*path, index), item) for index, item in enumerate(data)]
    return entries, [] if entries else [_defect(document, path, "there are no programs in it: the list is empty")]


# --- validate -----------------------------------------------------------------------------------------------

_AS_WRITTEN = ("args", "interpreter_args", "env")


def validate(entry: Entry, document: Document) -> App | list[Defect]:
    """The App that an entry describes, or all that is wrong with it."""
    if not isinstance(entry.data, dict):
        return [_defect(document, entry.path, "a program is described by keys and values, such as  script: app.py")]
    try:
        return App.model_validate({key: _as_written(key, entry, document) for key in entry.data})
    except ValidationError as error:
        misspelled = any(FIELDS.get(_near(key, FIELDS)) == "script" for key in entry.data if key not in FIELDS)
        errors = error.errors(include_url=False)
        return [_explain(each, entry, document) for each in errors if each["type"] != "missing" or not misspelled]


def _as_written(key: str, entry: Entry, document: Document) -> Any:
    """The value of `key`; numbers that become text anyway as they were typed: a version 1.10 is not 1.1."""
    value = entry.data[key]
    if FIELDS.get(key) not in _AS_WRITTEN:
        return value
    path = (*entry.path, key)
    if isinstance(value, dict):
        return {name: document.written((*path, name)) or item for name, item in value.items()}
    if isinstance(value, list):
        return [document.written((*path, index)) or item for index, item in enumerate(value)]
    return value


def _explain(error: Mapping[str, Any], entry: Entry, document: Document) -> Defect:
    """What pydantic found, in words for the person who wrote the file."""
    of_key = error["loc"][-1] == "[key]"
    path = (*entry.path, *(error["loc"][:-1] if of_key else error["loc"]))
    kind, name = error["type"], str(error["loc"][0])
    if kind == "missing":
        return _defect(document, entry.path, "script is missing: what is to run?")
    if kind == "extra_forbidden":
        if name in FIELDS:
            twin = next(key for key in entry.data if FIELDS.get(key) == FIELDS[name] and key != name)
            return _defect(document, path, f"{name} and {twin} mean the same: write one of them", key=True)
        return _unknown(document, path, FIELDS)
    if kind == "value_error":
        return _defect(document, path, f"{_spelled(error['loc'])}: {error['ctx']['error']}", key=of_key)
    what = _KINDS.get(kind)
    text = f"{_spelled(error['loc'])} must be {what}" if what else f"{name}: {error['msg']}"
    return _defect(document, path, text)


_KINDS = {
    "string_type": "text, in quotes if it looks like something else",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list or a text",
    "dict_type": "a mapping of names to values",
    "greater_than_equal": "-1 or more",
}


def _spelled(loc: tuple[str | int, ...]) -> str:
    """``args[1]``, ``env.PORT``; of a wrong key only what it is in, since the message names the key."""
    names = loc[:-2] if loc[-1] == "[key]" else loc
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in names).lstrip(".")


def _unknown(document: Document, path: Path, known: Iterable[str]) -> Defect:
    name = str(path[-1])
    near = _near(name, known)
    question = f"; did you mean {near!r}?" if near else ""
    return _defect(document, path, f"there is no key {name!r}{question}", key=True)


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1) or get_close_matches(name.lower(), known, 1)
    return close[0] if close else ""


def _defect(document: Document, path: Path, text: str, *, key: bool = False) -> Defect:
    return Defect(Problem(document.place(path, key=key), text))


# --- freeze -------------------------------------------------------------------------------------------------


def freeze(
    app: App, entry: Entry, document: Document, folder: str, environ: Mapping[str, str]
) -> AppSpec | list[Defect]:
    """The spec of an App. As in PM2, its cwd begins at the file's `folder`, and its other paths at its cwd."""
    field = "cwd"
    try:
        where = launch.directory(app.cwd, folder)
        field = "gid" if app.uid is None else "uid"
        launch.identity(app.uid, app.gid)
        field = "script"
        return launch.spec_of(app.script, app.options(), app.args, where, environ)
    except (UsageProblem, ProgramProblem) as error:
        key = next((key for key in entry.data if FIELDS[key] == field), "script")
        return [Defect(Problem(document.place((*entry.path, key)), told(error)), type(error))]


def same_names(specs: list[tuple[Entry, AppSpec]], document: Document) -> list[Defect]:
    """A defect for each program whose name an earlier one has."""
    first: dict[str, Path] = {}
    defects = []
    for entry, spec in specs:
        if spec.name in first:
            line = document.place(first[spec.name]).line
            text = f"a second program called {spec.name!r}: the first is in line {line}"
            defects.append(_defect(document, (*entry.path, "name"), text))
        first.setdefault(spec.name, entry.path)
    return defects
