"""Opens JupyterLab on the course: `py -m course_lib.lab` is `make lab` where there is no make."""

from course_lib.cli.lab import main

if __name__ == "__main__":
    main()
