"""Zips that lead out, blow up, lie or repeat themselves; what is good in them is graded."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from hostile.case import BLANK, FULL, SOLVED, ZERO, Handed, Points

WHY = "Nothing is unpacked; one bad entry is the loss of that entry alone."


def zipped(
    name: str,
    entries: list[tuple[str | zipfile.ZipInfo, bytes]],
    change: Callable[[bytes], bytes] = lambda data: data,
) -> Callable[[Path], list[Path]]:
    """Return what makes a zip beside the students' folder, and changes its bytes."""

    def put(students: Path) -> list[Path]:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that come twice
            for entry, data in entries:
                archive.writestr(entry, data)
        path = students.parent / f"{name}.zip"
        path.write_bytes(change(made.getvalue()))
        return [path]

    return put


def case(
    name: str, fair: dict[str, Points], put: Callable[[Path], list[Path]], problem: str = ""
) -> Handed:
    return Handed(name, WHY, put, fair, problem)


def entry(name: str, kind: int) -> zipfile.ZipInfo:
    """Return an entry that says it is of a kind, such as a link."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


def small(data: bytes) -> bytes:
    """Let the zip say that its large file is small."""
    return data.replace(struct.pack("<I", 64 * 2**20), struct.pack("<I", 100))


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in the first entry."""
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = data.index(mark) + at
        data = data[:where] + b"\x01\x00" + data[where + 2 :]
    return data


def damaged(data: bytes) -> bytes:
    """Spoil the compressed bytes of the first entry."""
    at = data.index(b"07_a.ipynb") + len(b"07_a.ipynb")
    return data[: at + 20] + bytes(200) + data[at + 220 :]


FILE = "07_self_attention.ipynb"

HANDED = [
    case(
        "paths that lead out",
        {"student": ZERO},
        zipped("traversal", [("../../../tmp/evil/07.ipynb", SOLVED)]),
        "leads out of it",
    ),
    case("an absolute path", {"z-abs": FULL}, zipped("absolute", [("/z-abs/07.ipynb", SOLVED)])),
    case(
        "backslashes",
        {"z-back": FULL},
        zipped("backslashes", [("z-back\\..\\..\\evil.ipynb", SOLVED)]),
    ),
    case(
        "a good one beside one that leads out",
        {"z-good": FULL},
        zipped("beside", [("z-evil/../../07.ipynb", BLANK), (f"z-good/{FILE}", SOLVED)]),
    ),
    case(
        "a bomb whose size is a lie",
        {"z-bomb": ZERO},
        zipped("bomb", [(f"z-bomb/{FILE}", bytes(64 * 2**20))], small),
        ".",
    ),
    case(
        "a bomb",
        {"z-boom": ZERO},
        zipped("boom", [(f"z-boom/{FILE}", bytes(64 * 2**20))]),
        "larger than 32 MB",
    ),
    case("the same file twice", {"z-same": FULL}, zipped("same", [(f"z-same/{FILE}", SOLVED)] * 2)),
    case(
        "two files of one name",
        {"z-two": ZERO},
        zipped("two", [(f"z-two/{FILE}", SOLVED), (f"z-two/{FILE}", BLANK)]),
        "2 notebooks",
    ),
    case(
        "a link",
        {"z-link": ZERO},
        zipped("link", [(entry(f"z-link/{FILE}", stat.S_IFLNK), b"/etc/passwd")]),
        "a link",
    ),
    case(
        "a pipe and a device",
        {"z-pipe": FULL},
        zipped(
            "pipe",
            [
                (entry("z-pipe/other.txt", stat.S_IFIFO), b""),
                (entry(f"z-pipe/{FILE}", stat.S_IFREG), SOLVED),
            ],
        ),
    ),
    case(
        "encrypted",
        {"z-locked": ZERO},
        zipped("locked", [(f"z-locked/{FILE}", SOLVED)], encrypted),
        "encrypted",
    ),
    case(
        "damaged",
        {"z-damaged": ZERO},
        zipped("damaged", [("z-damaged/07_a.ipynb", SOLVED)], damaged),
        "damaged",
    ),
    case(
        "Canvas's names, late and twice",
        {"z-noether_41": FULL, "z-curie_42": FULL},
        zipped(
            "canvas",
            [
                ("z-noether_LATE_41_1001_07_self_attention-1.ipynb", BLANK),
                ("z-noether_LATE_41_1002_07_self_attention-2.ipynb", SOLVED),
                ("z-curie_42_1003_z-noether_41_1002_07_self_attention.ipynb", SOLVED),
            ],
        ),
    ),
    case(
        "Moodle's names",
        {"z-Ada_Lovelace_51": FULL},
        zipped(
            "moodle",
            [
                ("z-Ada Lovelace_51_assignsubmission_file_/07_self_attention.ipynb", SOLVED),
                ("z-Ada Lovelace_51_assignsubmission_file_/notes.pdf", b"%PDF"),
            ],
        ),
    ),
    case(
        "a name of 300 characters",
        {"z-long-aaa": FULL},
        zipped("longname", [("z-long-" + "a" * 300 + f"/{FILE}", SOLVED)]),
    ),
    case(
        "another zip inside",
        {"z-outer": FULL},
        zipped(
            "outer", [("z-outer/more.zip", b"PK\x05\x06" + bytes(18)), (f"z-outer/{FILE}", SOLVED)]
        ),
    ),
    case(
        "ten thousand empty entries",
        {"z-crowd": FULL},
        zipped(
            "crowd",
            [*[(f"z-crowd/x/{n}.txt", b"") for n in range(10_000)], (f"z-crowd/{FILE}", SOLVED)],
        ),
    ),
]
