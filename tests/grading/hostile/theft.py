"""Reading or writing what is another's: submissions, gradebook, home, environment, sockets, shared memory."""

from hostile.case import FULL, Case, solved_with

WHY = "It finds nothing and changes nothing; the answers beside it are right."

WALK = """
import os
for place in ('/', '/home', '/root', '/tmp', '/var', '/mnt', '/srv', '/opt', '/work', '/dev/shm', '/run', '@FOLDER@'):
    for folder, folders, files in os.walk(place):
        folders[:] = [f for f in folders if os.path.join(folder, f) not in ('/proc', '/sys', '/usr', '/course', '/dev')]
        for name in files:
            if name.endswith(('.ipynb', '.sqlite', 'seed', 'shadow', '.bash_history')) and '/course' not in folder:
                print('STO' + 'LEN', folder, name)
        if folder.count('/') > 5: folders.clear()
"""
WRITE = """
import os
for place in ('@FOLDER@/gradebook.sqlite', '@FOLDER@/ben/07_self_attention.ipynb', '@FOLDER@/private/seed',
              '/course/scripts/runner.py', '/course/library/course_lib/exercises/probing.py', '/usr/bin/true',
              '/etc/passwd', os.path.expanduser('~/.bashrc'), torch.__file__, '@SHARED@'):
    for mode in ('wb', 'ab', 'r+b'):
        try:
            open(place, mode).write(b'mine')
            if place.startswith(('/course', '/usr', '@FOLDER@')): print('STO' + 'LEN: wrote', place)
        except OSError: pass
    for change in (os.unlink, lambda p: os.chmod(p, 0o777), lambda p: os.rename(p, p + '.old'), os.rmdir):
        try: change(place)
        except OSError: pass
"""
ENVIRONMENT = """
import os
for name, value in os.environ.items():
    if 'canary' in value or 'CANARY' in name or 'PYTEST' in name or 'TOKEN' in name: print('STO' + 'LEN', name)
"""
SOCKETS = """
import socket
for family, place in ((socket.AF_INET, ('127.0.0.1', @PORT@)), (socket.AF_UNIX, '\\0@SOCKET@'),
                      (socket.AF_UNIX, '/run/dbus/system_bus_socket'), (socket.AF_UNIX, '/var/run/docker.sock')):
    try:
        with socket.socket(family) as s:
            s.settimeout(1); s.connect(place); s.send(b'x'); print('STO' + 'LEN', place)
    except OSError: pass
"""
SHARED = """
import ctypes, os
for name in ('@SHARED@', '/dev/shm/@MEMORY@'):
    try: print('STO' + 'LEN', open(name, 'rb').read(8))
    except OSError: pass
libc = ctypes.CDLL(None)
for number in range(1000):
    if libc.shmctl(number, 2, ctypes.create_string_buffer(256)) == 0: print('STO' + 'LEN', number)
print(*('STO' + 'LEN ' + name for name in os.listdir('/dev/shm')))
"""
LEFT = """
import glob, os
mine = ('/tmp/left', '/dev/shm/left', os.path.expanduser('~/left'), '/course/library/left')
print(*('STO' + 'LEN ' + name for name in mine if os.path.exists(name)))
for name in mine:
    try: open(name, 'w').write('attention')
    except OSError: pass
for name in ('sitecustomize.py', 'usercustomize.py', 'torch.py', 'math.py'):
    open('/tmp/' + name, 'w').write('raise SystemExit')
open('/tmp/matplotlibrc', 'w').write('backend: none')
"""
TERMINALS = """
import glob, os
for name in glob.glob('/dev/pts/[0-9]*') + ['/dev/tty', '/dev/console']:
    try:
        terminal = os.open(name, os.O_RDWR | os.O_NONBLOCK)
        os.write(terminal, b'exit()\\n'); print('STO' + 'LEN', name)
    except OSError: pass
"""
ESCAPE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = [name for name, result in (
    ('mount', libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)), ('umount', libc.umount2(b'/tmp', 2)),
    ('chroot', libc.chroot(b'/tmp')), ('unshare', libc.unshare(0x10000000)),
    ('setuid', libc.setuid(0) if os.getuid() else -1), ('keyctl', libc.syscall(250, 0, -3, 1)),
    ('bpf', libc.syscall(321, 0, None, 0)), ('io_uring', libc.syscall(425, 8, ctypes.create_string_buffer(256))),
) if result >= 0]
if found: print('STO' + 'LEN', found)
"""

CASES = [
    Case("every folder is searched", WHY, solved_with(WALK), FULL),
    Case("files of the instructor and the grader are overwritten", WHY, solved_with(WRITE), FULL),
    Case("the environment is read", WHY, solved_with(ENVIRONMENT), FULL),
    Case("sockets on the machine", WHY, solved_with(SOCKETS), FULL),
    Case("shared memory", WHY, solved_with(SHARED), FULL),
    Case("files left for the next", WHY, solved_with(LEFT), FULL),
    Case("files left by the one before", WHY, solved_with(LEFT), FULL),
    Case(
        "devices, terminals and folders are removed",
        WHY,
        solved_with(
            "!rm -rf /dev/* /tmp/* /course/* 2>/dev/null", "import os\nos.mkdir('/dev/mine')"
        ),
        FULL,
    ),
    Case("terminals are written to", WHY, solved_with(TERMINALS), FULL),
    Case("mounts, namespaces, keys and other calls to the kernel", WHY, solved_with(ESCAPE), FULL),
]
