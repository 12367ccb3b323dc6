"""Strange names of files and folders."""

import os
from collections.abc import Callable
from pathlib import Path

from hostile.case import FULL, SOLVED, Handed

WHY = "A name is no reason to lose or to gain a mark."


def folder(
    name: bytes | str, file: bytes | str = "07_self_attention.ipynb"
) -> Callable[[Path], list[Path]]:
    """Return what puts a solved notebook into a folder of that name."""

    def put(students: Path) -> list[Path]:
        place = os.path.join(os.fsencode(students), os.fsencode(name))
        os.makedirs(place)
        with open(os.path.join(place, os.fsencode(file)), "wb") as made:
            made.write(SOLVED)
        return []

    return put


def beside(name: str) -> Callable[[Path], list[Path]]:
    """Return what puts a solved notebook of that name beside the students' folders."""

    def put(students: Path) -> list[Path]:
        (students / name).write_bytes(SOLVED)
        return []

    return put


def case(name: str, put: Callable[[Path], list[Path]], *students: str) -> Handed:
    return Handed(name, WHY, put, dict.fromkeys(students, FULL))


def twins(students: Path) -> list[Path]:
    for name in ("n-twin x", "n-twin_x", "N-twin_X"):
        folder(name)(students)
    return []


HANDED = [
    case("Unicode", folder("n-Žofie Ångström 王小明 🎓"), "n-Žofie_Ångström_王小明"),
    case("composed and decomposed", folder("n-Jose\u0301"), "n-Jos\u00e9"),
    case("spaces and quotes", folder("""n-O'Hara "Bob"  Jr."""), "n-O_Hara_Bob_Jr"),
    case("a leading dash", folder("-rf --lesson 8"), "rf_--lesson_8"),
    case("dots", folder("...n-dots.."), "n-dots"),
    case(
        "a newline, a tab and a carriage return",
        folder("n-new\nline\tand\rback"),
        "n-new_line_and_back",
    ),
    case("bytes that are no text", folder(b"n-raw-\xff\xfe\x80"), "n-raw"),
    case("shell characters", folder("n-$(touch owned);`reboot`|&>x"), "n-_touch_owned"),
    case("a percent sign, a backslash, a colon, a star", folder("n-%s%n\\..\\c:*?"), "n-_s_n"),
    case("255 bytes", folder("n-long-" + "x" * 240), "n-long-xxx"),
    case("four bytes a letter", folder("n-deep-" + "𠀀" * 60), "n-deep-𠀀"),
    case("a hundred folders deep", folder("n-below/" + "d/" * 100), "n-below"),
    case(
        "a long file name beside the folders",
        beside("n-flat-" + "y" * 230 + ".ipynb"),
        "n-flat-yyy",
    ),
    case("another suffix in capitals", beside("n-CAPS.IPYNB"), "n-CAPS"),
    case("a renamed notebook", folder("n-renamed", "final FINAL (2).ipynb"), "n-renamed"),
    case("only a suffix", folder("n-suffix", ".ipynb"), "n-suffix"),
    case("the name of a report", folder("n-x..html"), "n-x..html"),
    Handed(
        "names that differ in blanks and capitals alone", WHY, twins, {"n-twin_x": FULL}, students=3
    ),
]
