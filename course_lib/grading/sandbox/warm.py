"""The fast sandbox: one bubblewrap around a process that has imported torch, and a copy of it for each student."""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from dataclasses import dataclass

from course_lib.grading.sandbox.bubblewrap import Bubblewrap
from course_lib.grading.sandbox.process import (
    Running,
    TheirPipes,
    descendants,
    resource_limits,
    run_pipes,
)
from course_lib.grading.sandbox.protocol import Limits, Request, Response, Stop
from course_lib.grading.sandbox.watch import Usage, usage

_CREDENTIALS = struct.Struct("3i")
_START_SECONDS, _HELLO_SECONDS, _ENDING_SECONDS = 300.0, 60.0, 0.1
_HELLO, _GO = b"hello", b"go"

WARM_UP = """
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn
x = torch.randn(2, 3, 4, requires_grad=True)
layer = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.GELU())
y = F.scaled_dot_product_attention(layer(x), x, x, attn_mask=torch.ones(3, 3).tril().bool())
loss = F.cross_entropy(torch.einsum("bnd,bmd->bnm", y, x).softmax(-1).flatten(0, 1), torch.zeros(6).long())
loss.backward()
torch.autograd.grad(layer(x).sum(), x)
optimizer = torch.optim.AdamW(layer.parameters())
optimizer.step()
optimizer.zero_grad()
print(x.masked_fill(x > 0, 0.0), x.topk(2), torch.isclose(x, x).all(), x.detach().numpy().sum())
torch.autograd.gradcheck(lambda z: z.square(), torch.ones(1, dtype=torch.float64, requires_grad=True))
"""


class ZygoteError(Exception):
    """The warmed process could not be started, or has gone; the message says what it said."""


class WarmSandbox:
    """A warmed process behind bubblewrap's wall, copied for every run. It satisfies `Sandbox`.

    Each copy has users, processes, mounts, network and shared memory of its own, no capability, no way to
    write but a private /tmp, and a filter of system calls (`inside/walls.py`). It knows no more than a new
    process: the warmed one has only imported modules.

    Args:
        around: the wall to the machine.
        warm_up: source whose imports are made beforehand, such as a lesson's setup cell.

    Raises:
        ZygoteError: it cannot be had here.

    """

    def __init__(self, around: Bubblewrap, warm_up: str = "") -> None:
        self._around = around
        self._warm_up = WARM_UP + "\n" + warm_up
        self._lock = threading.Lock()
        self._closed = False
        self._zygote = _Zygote(around, self._warm_up)
        try:  # one copy, to learn whether this system lets a sandbox hold others
            response = self._attempt(self._zygote, Request("", (), ()), Limits())
            if response.stop is not None:
                raise ZygoteError(response.output.strip() or response.stop.why)
        except BaseException:
            self._zygote.close()
            raise

    def run(self, request: Request, limits: Limits) -> Response:
        """Run the request in a copy of its own; start the warmed process anew if it has gone."""
        for _ in range(2):
            try:
                zygote = self._living()
                response = self._attempt(zygote, request, limits)
            except ZygoteError as error:
                response = Response(stop=Stop("start", "died"), output=str(error))
                zygote = self._zygote
            if response.stop is None or response.stop.why != "died" or not zygote.ending():
                return response
        return response

    def close(self) -> None:
        """End the warmed process and every copy."""
        with self._lock:
            self._closed = True
            self._zygote.close()

    def _living(self) -> "_Zygote":
        with self._lock:
            if self._closed:
                raise ZygoteError("the sandbox is closed")
            if not self._zygote.alive():
                self._zygote.close()
                self._zygote = _Zygote(self._around, self._warm_up)
            return self._zygote

    def _attempt(self, zygote: "_Zygote", request: Request, limits: Limits) -> Response:
        return run_pipes(request, limits, lambda theirs: zygote.copy(theirs, limits))


class _Zygote:
    """The warmed process and the socket to it."""

    def __init__(self, around: Bubblewrap, warm_up: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the zygote
        with theirs:
            wanted = around.zygote_command(theirs.fileno(), warm_up, Limits())
            self._process = subprocess.Popen(
                wanted.argv,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                env=wanted.environment,
                cwd=wanted.folder,
                start_new_session=True,
            )
        self._control.settimeout(_START_SECONDS)
        try:
            ready = self._control.recv(64)
        except OSError:
            ready = b""
        if ready != b"ready":
            words = self.last_words()
            self.close()
            raise ZygoteError(f"the warmed process did not start: {words}")

    def alive(self) -> bool:
        return self._process.poll() is None

    def ending(self) -> bool:
        """Tell whether it has ended or does at this moment: its copies may go before it is seen to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_SECONDS)
        return not self.alive()

    def last_words(self) -> str:
        """Return the last line that it printed."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no message"

    def copy(self, theirs: TheirPipes, limits: Limits) -> Running:
        """Have a copy made that works on ``theirs``."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        told = {"limits": resource_limits(limits), "file_bytes": limits.file_bytes}
        descriptors = [theirs.request, theirs.replies, theirs.printed, its.fileno()]
        with ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ours.settimeout(_HELLO_SECONDS)
            try:
                with its, self._lock:
                    socket.send_fds(self._control, [json.dumps(told).encode()], descriptors)
                hello, ancillary, _, _ = ours.recvmsg(16, socket.CMSG_SPACE(_CREDENTIALS.size))
                if hello != _HELLO:
                    raise ZygoteError(f"no copy could be made: {self.last_words()}")
                # Whose hello this was the kernel says, in our own numbers; it waits, so the number is its still.
                pid = next(
                    _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
                    for level, kind, data in ancillary
                    if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS
                )
                copy = _Copy(pid, os.pidfd_open(pid))
                try:
                    ours.send(_GO)
                except OSError:
                    copy.end()
                    raise
            except OSError as error:
                raise ZygoteError(f"no copy could be made: {error}") from error
        return copy

    def close(self) -> None:
        """Kill it; with it go all copies, which live in its process namespace."""
        self._control.close()
        for pid in descendants(self._process.pid) if self.alive() else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._said.close()


@dataclass
class _Copy:
    """One student's processes, by the first of their namespace. It satisfies `Running`."""

    pid: int
    handle: int

    def usage(self) -> Usage | None:
        return usage(self.pid)

    def gone(self) -> bool:
        return bool(select.select([self.handle], [], [], 0)[0])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)  # and the kernel kills all others
        select.select([self.handle], [], [], 60.0)
        os.close(self.handle)
