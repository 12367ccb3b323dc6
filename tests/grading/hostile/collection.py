"""The families, what is handed in as files, and the pairs."""

from hostile import (
    bombs,
    by_heart,
    exits,
    forbidden,
    honest,
    injection,
    inspection,
    ipython,
    libraries,
    lying_objects,
    malformed,
    names,
    network,
    tampered,
    theft,
    zips,
)
from hostile.case import Case, Handed

FAMILIES: dict[str, list[Case]] = {
    "patched libraries": libraries.CASES,
    "lying objects": lying_objects.CASES,
    "IPython": ipython.CASES,
    "exits and kills": exits.CASES,
    "inspection of the grader": inspection.CASES,
    "theft and sabotage": theft.CASES,
    "network": network.CASES,
    "bombs, loops and floods": bombs.CASES,
    "tampered notebooks": tampered.CASES,
    "by heart, by count, by clock": by_heart.CASES,
    "forbidden built-ins": forbidden.CASES,
    "right by unusual ways": honest.CASES,
}
HANDED: dict[str, list[Handed]] = {
    "malformed files": malformed.HANDED,
    "strange names": names.HANDED,
    "zips": zips.HANDED,
    "injection into reports": injection.HANDED,
}

_CASES = {case.name: case.data for cases in FAMILIES.values() for case in cases}
PAIRS: dict[str, bytes] = {
    name: _CASES[name]
    for name in (
        "torch says that all is equal",
        "builtins lie",
        "sys.modules is emptied",
        "a tensor whose every function says True",
        "a shell whose names are always there",
        "signals to every process in a cell",
        "a signal to its parent in a cell",
        "forged frames on every descriptor",
        "files of the instructor and the grader are overwritten",
        "files left for the next",
        "shared memory",
        "devices, terminals and folders are removed",
        "ptrace and other processes' memory",
        "processes that stay behind",
        "a disk filled, in one file and in many",
    )
}

# A case of each way to break out or to be unlucky, for the other ways to run: a new process for every run, which
# takes seconds, and an ordinary user.
CHOSEN = (
    "a shell whose names are always there",
    "forged frames on every descriptor",
    "signals to every process in a cell",
    "/proc of other processes",
    "files of the instructor and the grader are overwritten",
    "TCP from a cell",
    "an endless loop in a child that left the group",
    "all in one cell",
)
# With what the kernel counts for each user and does not count for root, and with a /proc that root does not have.
CHOSEN_FOR_USERS = (
    *CHOSEN,
    "torch says that all is equal",
    "ptrace and other processes' memory",
    "shared memory",
    "sockets on the machine",
    "mounts, namespaces, keys and other calls to the kernel",
    "forks without end",
    "threads without end",
    "processes that stay behind",
    "forbidden by getattr",
)
