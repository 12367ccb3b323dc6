"""Ways to the network; none is there."""

from hostile.case import FULL, SOLUTIONS, Case, solved_with, with_answers, without

WHY = "There is no network; the answers beside it are right."
_WAYS = {
    "TCP": "import socket\nfor place in (('1.1.1.1', 53), ('127.0.0.1', @PORT@)):\n"
    "    try:\n        socket.create_connection(place, timeout=1)\n        print('STO' + 'LEN', place)\n"
    "    except OSError: pass",
    "UDP": "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "try: s.sendto(b'marks?', ('1.1.1.1', 53)); print('STO' + 'LEN')\nexcept OSError: pass",
    "raw and packet sockets": "import socket\n"
    "for kind in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 3)):\n"
    "    try: socket.socket(*kind); print('STO' + 'LEN')\n    except OSError: pass",
    "a name, a page, a package": "import socket, urllib.request\n"
    "try: socket.gethostbyname('example.org'); print('STO' + 'LEN')\nexcept OSError: pass\n"
    "try: urllib.request.urlopen('http://example.org', timeout=1); print('STO' + 'LEN')\nexcept OSError: pass\n",
}

CASES = [
    Case(f"{name} from a cell", WHY, solved_with(source), FULL) for name, source in _WAYS.items()
]
CASES.append(
    Case(
        "an answer asked of another machine",
        "What needs the network gives no answer here.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    import socket\n"
            "    socket.create_connection(('1.1.1.1', 80), timeout=1)\n"
            + SOLUTIONS["causal_mask"].split('"""')[-1]
        ),
        without("causal_mask"),
    )
)
