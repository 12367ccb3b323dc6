"""The walls around one student inside the sandbox: namespaces, mounts, rights, landlock, seccomp (Linux).

Run by the zygote's children on their way to a student's code; needs nothing but the standard library.
"""

import ctypes
import os
import platform
import resource
import struct

_libc = ctypes.CDLL(None, use_errno=True)

_NEW_NS, _NEW_CGROUP, _NEW_UTS = 0x00020000, 0x02000000, 0x04000000
_NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_ALL_NEW = _NEW_NS | _NEW_CGROUP | _NEW_UTS | _NEW_IPC | _NEW_USER | _NEW_PID | _NEW_NET
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
_RECURSIVE, _PRIVATE = 0x4000, 0x40000

_SET_NO_NEW_PRIVS, _SET_SECCOMP, _DROP_BOUNDING, _SET_DUMPABLE = 38, 22, 24, 4
_FILTER = 2


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library; raise OSError where it fails."""
    result = getattr(_libc, name)(*arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return int(result)


def enter_namespaces() -> None:
    """Give this process and its children users, processes, mounts, network and so on of their own.

    The process itself stays in the old process namespace; its next child is the first of the new one.
    """
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", _ALL_NEW)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def mount_private(file_bytes: int) -> None:
    """Cover /tmp and /dev/shm with empty folders of limited size, /proc with one's own processes, the terminals.

    Where the system does not allow a new /proc (a grader that runs as root) it becomes a folder that holds
    nothing but what PyTorch asks for, the kind of processor.
    """
    _call("mount", None, b"/", None, _PRIVATE | _RECURSIVE, None)
    for place in (b"/tmp", b"/dev/shm"):
        _call("mount", b"tmpfs", place, b"tmpfs", _NO_SUID | _NO_DEV, b"size=%d" % file_bytes)
    safe = _NO_SUID | _NO_DEV | _NO_EXEC
    try:  # a student's terminals can be opened by whoever sees them
        terminals = b"newinstance,ptmxmode=0666,mode=620"
        _call("mount", b"devpts", b"/dev/pts", b"devpts", _NO_SUID | _NO_EXEC, terminals)
    except OSError:
        _call("mount", b"tmpfs", b"/dev/pts", b"tmpfs", safe | _READ_ONLY, b"size=4096")
    try:
        _call("mount", b"proc", b"/proc", b"proc", safe, None)
    except OSError:
        with open("/proc/cpuinfo", "rb") as file:
            processor = file.read()
        _call(
            "mount", b"tmpfs", b"/proc", b"tmpfs", safe, b"size=%d" % (len(processor) + (1 << 20))
        )
        with open("/proc/cpuinfo", "wb") as file:
            file.write(processor)
        _call("mount", None, b"/proc", None, safe | _REMOUNT | _READ_ONLY, None)


def limit(limits: dict[str, int]) -> None:
    """Set resource limits by name, none higher than the system allows."""
    for name, most in limits.items():
        which = getattr(resource, name, None)
        if which is None:
            continue
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (most, most))
        except (ValueError, OSError):  # macOS refuses some; the trusted side watches as well
            continue


def hide() -> None:
    """Let no other process of the same user look into this one or its descriptors, until it runs a program."""
    _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)


def drop_rights() -> None:
    """Give up every capability for good, and the way to new ones."""
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        if _libc.prctl(_DROP_BOUNDING, capability, 0, 0, 0) < 0:
            break  # the last one that this kernel knows
    header = struct.pack("=Ii", 0x20080522, 0)
    _call("capset", header, bytes(24))


# --- landlock --------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ = 0b1101  # execute, read file, read folder
_USE_DEVICES = (
    _READ | 0b10 | 1 << 14 | 1 << 15
)  # and write, truncate, ioctl: none made, none removed
_BY_VERSION = ((1, 13), (2, 14), (3, 15), (5, 16))  # number of file rights since version


def landlock(writable: tuple[str, ...] = ("/tmp", "/dev/shm")) -> bool:
    """Forbid writing anywhere but in ``writable`` and to devices, and signals and sockets to processes outside.

    Returns:
        False where the kernel has no landlock: the namespaces stand alone there.

    """
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << max(count for since, count in _BY_VERSION if version >= since)) - 1
    network = 0b11 if version >= 4 else 0
    scoped = 0b11 if version >= 6 else 0
    attributes = struct.pack("=QQQ", rights, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        allowed_in = {"/": _READ, "/dev": _USE_DEVICES & rights, **dict.fromkeys(writable, rights)}
        for place, allowed in allowed_in.items():
            folder = os.open(place, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed, folder)
            _libc.syscall(_ADD_RULE, rules, 1, rule, 0)
            os.close(folder)
        return bool(_libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


# --- seccomp ---------------------------------------------------------------------------------

# Numbers on x86-64 and on 64-bit Arm. Numbers from 424 on are the same everywhere.
_FORBIDDEN = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "quotactl": (179, 60),
    "acct": (163, 89), "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "pidfd_getfd": (438, 438), "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443), "process_madvise": (440, 440),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}  # column, audit, clone
_CLONE3 = 435
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NOT_PERMITTED, _NOT_THERE = 1, 38


def _program() -> list[tuple[int, int, int, int]]:
    """Return the filter: (code, jump if true, jump if false, constant) for each instruction."""
    column, audit, clone = _MACHINES[platform.machine()]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    refused = (_RETURN, 0, 0, _ERROR | _NOT_PERMITTED)
    if column == 0:  # the x32 calling convention has numbers of its own
        program += [(_AT_LEAST, 0, 1, 0x40000000), refused]
    for numbers in _FORBIDDEN.values():
        program += [(_EQUAL, 0, 1, numbers[column]), refused]
    # clone3 keeps its flags in memory, which a filter cannot read; the C library then tries clone.
    program += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | _NOT_THERE)]
    program += [(_EQUAL, 0, 3, clone), (_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, _ALL_NEW), refused]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def seccomp() -> bool:
    """Refuse the system calls that no notebook needs: mounts, namespaces, tracing, keys, modules, …

    Returns:
        False on a processor that this filter does not know.

    """
    if platform.machine() not in _MACHINES:
        return False
    program = _program()
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    kept = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(kept))
    _call("prctl", _SET_SECCOMP, _FILTER, header, 0, 0)
    return True
