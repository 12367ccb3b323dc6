"""A Dask scheduler and workers on this machine, each a process of its own that can be killed."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_START_SECONDS, _END_SECONDS = 120.0, 30.0
_DASK = [sys.executable, "-m", "dask"]


class Loopback:
    """A scheduler and some workers with one thread each; a context manager.

    Args:
        folder: where they keep their files.
        workers: how many to start with.
        preload: a script that each worker runs first.

    """

    def __init__(self, folder: Path, workers: int = 2, preload: Path | None = None) -> None:
        self._folder = folder
        self._first = workers
        self._preload = [] if preload is None else ["--preload", str(preload)]
        self._count = 0
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def __enter__(self) -> "Loopback":
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "scheduler.json"
        words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", *words, "--scheduler-file", str(file))
        self.address = str(_read(file, self.scheduler)["address"])
        for _ in range(self._first):
            self.add_worker()
        self.wait_for_workers()
        return self

    def __exit__(self, *_: object) -> None:
        # The scheduler last: workers that have lost theirs look for it for half a minute.
        _end(self.workers)
        _end([self.scheduler] if self.scheduler else [])

    def add_worker(self) -> None:
        """Start one more worker."""
        self._count += 1
        self.workers.append(
            self._start(
                "worker",
                self.address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
                "--host",
                "127.0.0.1",
                "--memory-limit",
                "0",
                "--local-directory",
                str(self._folder / f"worker-{self._count}"),
                *self._preload,
            )
        )

    def wait_for_workers(self, count: int | None = None) -> None:
        """Wait until the scheduler knows that many workers: all that live, if not told."""
        from distributed import Client

        wanted = sum(each.poll() is None for each in self.workers) if count is None else count
        with Client(self.address, set_as_default=False) as client:
            deadline = time.monotonic() + _START_SECONDS
            while len(client.nthreads()) != wanted:
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.05)

    def kill(self, number: int = 0) -> None:
        """Kill one of the workers that live."""
        worker = self.workers.pop(number)
        worker.kill()
        worker.wait()

    def said(self) -> str:
        """Return what all of them printed."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def _start(self, what: str, *words: str) -> "subprocess.Popen[bytes]":
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "warning",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
        }
        with open(self._folder / f"{what}-{self._count}.log", "ab") as log:
            return subprocess.Popen(
                [*_DASK, what, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
            )


def _end(processes: list["subprocess.Popen[bytes]"]) -> None:
    for each in processes:
        each.terminate()
    for each in processes:
        try:
            each.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            each.kill()
            each.wait()


def _read(path: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Return what a JSON file holds once it is there and whole."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, path.with_name("scheduler-0.log").read_text()
        assert time.monotonic() < deadline
        with contextlib.suppress(FileNotFoundError, ValueError):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        time.sleep(0.05)
