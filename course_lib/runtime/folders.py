"""Where the course keeps what belongs to its user."""

import os
from pathlib import Path

from course_lib.runtime.errors import CourseError


def course_home() -> Path:
    """Return the folder of the learner's progress, made if missing.

    It is the environment variable ``COURSE_HOME`` where that is set, else the platform's own place for
    user data.

    Raises:
        CourseError: the folder cannot be written.

    """
    import platformdirs

    named = os.environ.get("COURSE_HOME")
    home = (
        Path(named).expanduser()
        if named
        else Path(platformdirs.user_data_dir("transformers-course"))
    )
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"The folder {home} for your progress cannot be made ({error.strerror}): "
            "set COURSE_HOME to a folder that you may write."
        ) from error
    if not os.access(home, os.W_OK):
        raise CourseError(
            f"The folder {home} for your progress cannot be written: "
            "set COURSE_HOME to a folder that you may write."
        )
    return home
