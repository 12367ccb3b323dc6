"""What a process and all its descendants use, read from /proc (Linux; elsewhere nothing is known)."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class Usage:
    """Processor seconds, resident bytes, and the number of threads, of a whole process tree."""

    cpu_seconds: float
    memory_bytes: int
    threads: int


def descendants(root: int) -> list[int]:
    """Return ``root`` and the processes below it; those that end meanwhile may be missing."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                queue += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
            except OSError:
                continue
    return found


def usage(root: int) -> Usage | None:
    """Return what the tree below ``root`` uses; None where /proc does not tell."""
    cpu = memory = threads = 0
    seen = False
    for pid in descendants(root):
        try:
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            continue
        # The command's name stands in brackets and may hold anything, so count from the last one.
        fields = text.rpartition(")")[2].split()
        cpu += sum(
            map(int, fields[11:15])
        )  # utime, stime, and both of children that were waited for
        threads += int(fields[17])
        memory += int(fields[21]) * _PAGE
        seen = True
    return Usage(cpu / _TICK, memory, threads) if seen else None
