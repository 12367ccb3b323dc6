"""The hidden inputs: drawn from the instructor's secret, the same for every student of a class."""

import hashlib
import hmac
import itertools
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from course_lib.exercises.spec import Case, Exercise
from course_lib.runtime import CourseError


def fingerprint(secret: bytes) -> str:
    """Return what tells one secret from another without giving it away."""
    return hashlib.sha256(b"fingerprint" + secret).hexdigest()[:16]


def read_secret(path: Path) -> bytes:
    """Return the secret that a file holds.

    Raises:
        CourseError: it cannot be read, or is shorter than eight characters.

    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise CourseError(
            f"The seed file {path} cannot be read ({error.strerror}): give another --seed-file."
        ) from error
    if len(secret) < 8:
        raise CourseError(
            f"The seed file {path} holds fewer than eight characters: write a longer one."
        )
    return secret


def own_secret(path: Path) -> bytes:
    """Return the secret kept at ``path``, made at random if there is none yet; readable by its owner alone."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        draft.replace(path)  # whole or not at all, should the grader be killed here
    return read_secret(path)


def seeds(
    exercises: Iterable[Exercise], secret: bytes, draws: int = 3
) -> dict[str, tuple[int, ...]]:
    """Return ``draws`` seeds for each exercise, each derived from the secret and the exercise's name.

    They tell nothing of the secret, nor of other lessons' inputs.
    """
    found = {}
    for exercise in exercises:
        texts = (f"{exercise.lesson}/{exercise.name}/{number}" for number in range(draws))
        digests = (hmac.new(secret, text.encode(), hashlib.sha256).digest() for text in texts)
        found[exercise.name] = tuple(int.from_bytes(each[:4], "big") >> 1 for each in digests)
    return found


def draw(
    exercises: Iterable[Exercise], secret: bytes, draws: int = 3
) -> dict[str, tuple[Case, ...]]:
    """Return the cases of each exercise, drawn ``draws`` times."""
    exercises = tuple(exercises)
    return draw_from(exercises, seeds(exercises, secret, draws))


def draw_from(
    exercises: Iterable[Exercise], seeds: Mapping[str, Sequence[int]]
) -> dict[str, tuple[Case, ...]]:
    """Return the cases of each exercise, as its seeds give them.

    At the end stand those of the first seed once more, in reverse order: an answer that depends on how often
    it was called, or on what was asked before, is no function of its inputs.
    """
    cases = {}
    for exercise in exercises:
        drawn = [exercise.draw(seed) for seed in seeds[exercise.name]]
        cases[exercise.name] = (*itertools.chain(*drawn), *reversed(drawn[0]))
    return cases
