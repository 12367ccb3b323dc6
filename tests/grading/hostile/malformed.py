"""Files that are no notebooks, or strange ones, among a class's submissions."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from hostile.case import FULL, SOLUTIONS, SOLVED, ZERO, Handed, Points, notebook

WHY = "What cannot be read gets nothing, says why, and stops nobody."
READ = "It is a notebook all the same."
FILE = "07_self_attention.ipynb"


def wrote(folder: str, make: Callable[[Path], object]) -> Callable[[Path], list[Path]]:
    """Return what puts a file into a student's folder."""

    def put(students: Path) -> list[Path]:
        (students / folder).mkdir()
        make(students / folder / FILE)
        return []

    return put


def holding(name: str, data: bytes, fair: Points = ZERO, problem: str = "") -> Handed:
    """Return a case of a file with these bytes."""
    folder = "m-" + "".join(each if each.isalnum() else "-" for each in name)
    put = wrote(folder, lambda path: path.write_bytes(data))
    return Handed(name, WHY if problem else READ, put, {folder: fair}, problem)


def made(name: str, make: Callable[[Path], object], problem: str) -> Handed:
    """Return a case of something that is no file."""
    folder = "m-" + name.replace(" ", "-")
    return Handed(name, WHY, wrote(folder, make), {folder: ZERO}, problem)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(SOLVED)
        file.truncate(50 * 2**20)


def _in_folder(path: Path) -> None:
    path.mkdir()
    (path / "readme.txt").write_text("x")


TEXT = SOLVED.decode()
VERSION_3 = json.dumps(
    {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [
            {
                "metadata": {},
                "cells": [
                    {
                        "cell_type": "code",
                        "language": "python",
                        "collapsed": False,
                        "outputs": [],
                        "input": cell["source"],
                    }
                    if cell["cell_type"] == "code"
                    else {"cell_type": cell["cell_type"], "source": cell["source"]}
                    for cell in notebook(SOLUTIONS)
                ],
            }
        ],
    }
).encode()
MANY = json.dumps(
    {"nbformat": 4, "cells": [{"cell_type": "code", "source": "1"}] * 50_000}
).encode()
MUCH = json.dumps(
    {
        "nbformat": 4,
        "cells": [{"cell_type": "code", "source": f"x{n} = {'0, ' * 500_000}"} for n in range(4)],
    }
)

HANDED = [
    holding("empty", b"", problem="is empty"),
    holding("blanks", b" \n\t ", problem="is empty"),
    holding("truncated", SOLVED[: len(SOLVED) // 2], problem="not JSON"),
    holding("not JSON", b"#!/bin/sh\nrm -rf /", problem="not JSON"),
    holding("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), problem="not text"),
    holding("twelve", b"12", problem="no notebook"),
    holding("a list", b"[]", problem="no notebook"),
    holding("null", b"null", problem="no notebook"),
    holding("NaN", b"NaN", problem="no notebook"),
    holding(
        "a number of a million digits", b'{"nbformat": ' + b"9" * 10**6 + b"}", problem="not JSON"
    ),
    holding("nested without end", b"[" * 200_000, problem="nested too deeply"),
    holding(
        "cells nested deep",
        b'{"nbformat": 4, "cells": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        problem="nested too deeply",
    ),
    holding(
        "cells of other kinds",
        b'{"nbformat": 4, "cells": [1, null, "x", []]}',
        problem="a cell that is none",
    ),
    holding(
        "cells that are no list", b'{"nbformat": 4, "cells": {"0": {}}}', problem="no list of cells"
    ),
    holding(
        "a source that is a number",
        b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 7}]}',
        problem="without text",
    ),
    holding("format 2", b'{"nbformat": 2, "worksheets": []}', problem="notebook format"),
    holding("format 99", b'{"nbformat": 99, "cells": []}', problem="notebook format"),
    holding("50,000 cells", MANY, problem="more than 5000 cells"),
    holding("8 MB of code", MUCH.encode(), problem="of code"),
    holding("no cells", b'{"nbformat": 4, "metadata": {}, "cells": []}'),
    holding("format 3", VERSION_3, FULL),
    holding("UTF-16 with BOM", TEXT.encode("utf-16"), FULL),
    holding("UTF-16, no BOM", TEXT.encode("utf-16-le"), FULL),
    holding("UTF-16, big end first", TEXT.encode("utf-16-be"), FULL),
    holding("UTF-8 with BOM", b"\xef\xbb\xbf" + SOLVED, FULL),
    holding("keys twice", SOLVED[:-1] + b', "metadata": {"points": 10}}', FULL),
    made("50 MB", _sparse, "larger than 32 MB"),
    made("a pipe", lambda path: os.mkfifo(path), "no regular file"),
    made(
        "a link to a neighbour",
        lambda path: path.symlink_to(path.parents[1] / "00-honest" / FILE),
        "a link",
    ),
    made("a link to the system", lambda path: path.symlink_to("/etc/passwd"), "a link"),
    made("a link to itself", lambda path: path.symlink_to(path), "a link"),
    made("a link to nothing", lambda path: path.symlink_to("no-such"), "a link"),
    made("a link to a device", lambda path: path.symlink_to("/dev/zero"), "a link"),
    made("a folder of that name", _in_folder, "folder"),
]
