"""Run a part of the collection as an ordinary user, and say as JSON what came of it.

python -m hostile.ordinary
"""

import json
import os

import torch

from hostile.case import blank_with
from hostile.collection import CHOSEN_FOR_USERS, FAMILIES
from hostile.stage import Stage

LOOK = "import os\nprint('PROCESSES', *(name for name in os.listdir('/proc') if name.isdecimal()))"


def main() -> None:
    torch.set_num_threads(1)
    cases = [
        case for family in FAMILIES.values() for case in family if case.name in CHOSEN_FOR_USERS
    ]
    with Stage(draws=1) as stage:
        _, printed = stage.mark(blank_with(LOOK))
        complaints = {
            case.name: found.complaints for case, found in zip(cases, stage.judge_all(cases))
        }
        disturbed = stage.disturbed()
    seen = printed.partition("PROCESSES")[2].split()
    told = {"user": os.getuid(), "seen": seen, "complaints": complaints, "disturbed": disturbed}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
