"""What `course doctor` looks at: the facts of a machine, and one function that judges each."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["ok", "warn", "fail"]

MINIMUM_PYTHON = (3, 11)
MEMORY_GB = 3.0
DISK_GB = 1.0
APPARMOR_PROFILE = """\
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
  include if exists <local/bwrap>
}"""


@dataclass(frozen=True)
class Check:
    """One judgement: what was looked at, how it stands, a sentence, and what to do about it."""

    name: str
    status: Status
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class Torch:
    """What PyTorch says of itself; ``version`` is empty and ``error`` says why where it does not import."""

    version: str = ""
    error: str = ""
    cuda_build: str = ""
    cuda: bool = False
    mps: bool = False
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """A folder the course uses, and why it cannot be used (empty where it can)."""

    path: str
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that the judgements below go by.

    Attributes:
        python: the version.
        executable: which Python runs.
        system: "Linux", "Darwin" or "Windows".
        architecture: such as "x86_64".
        torch: what PyTorch says.
        nvidia_card: whether a graphics card by NVIDIA is built in.
        nvidia_driver: the driver's version, empty where none is loaded.
        hidden_gpus: the value of CUDA_VISIBLE_DEVICES where it is set, else None.
        unmet: requirements of the course that the installed packages do not meet.
        kernel: the Python that the kernel "python3" starts, empty where there is no such kernel.
        widgets_extension: whether JupyterLab finds the extension of ipywidgets.
        memory_total: GB.
        memory_free: GB.
        disk_free: GB where the course lies.
        home: the folder of the learner's progress.
        data: the cache of data sets.
        notebooks: the folder of the notebooks.
        grading: whether this copy of the course has the grader.
        bubblewrap: the path of bwrap, empty where there is none.
        bubblewrap_error: what it said when it was tried, empty where it worked.
        engine: docker or podman, whichever is installed; empty where neither is.
        apparmor_restricts: whether AppArmor forbids unprivileged user namespaces.

    """

    python: tuple[int, ...]
    executable: str
    system: str
    architecture: str
    torch: Torch
    nvidia_card: bool
    nvidia_driver: str
    hidden_gpus: str | None
    unmet: tuple[str, ...]
    kernel: str
    widgets_extension: bool
    memory_total: float
    memory_free: float
    disk_free: float
    home: Folder
    data: Folder
    notebooks: Folder
    grading: bool = True
    bubblewrap: str = ""
    bubblewrap_error: str = ""
    engine: str = ""
    apparmor_restricts: bool = False


def python_version(facts: Facts) -> Check:
    """Python is new enough."""
    version = ".".join(map(str, facts.python))
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    if facts.python[:2] >= MINIMUM_PYTHON:
        return Check("Python", "ok", f"{version} at {facts.executable}.")
    return Check(
        "Python",
        "fail",
        f"This is Python {version}, and the course needs {wanted} or newer.",
        f"Install Python {wanted} from your system's packages or python.org, remove the folder .venv, and "
        f"run: make lab PYTHON=python{wanted}",
    )


def pytorch(facts: Facts) -> Check:
    """PyTorch imports."""
    if facts.torch.version:
        return Check("PyTorch", "ok", f"{facts.torch.version} imports.")
    if facts.system == "Darwin" and facts.architecture == "x86_64":
        return Check(
            "PyTorch",
            "fail",
            "PyTorch is no longer published for Macs with an Intel processor.",
            "Use a Mac with an Apple processor, Linux or Windows, or a notebook server.",
        )
    return Check(
        "PyTorch",
        "fail",
        f"PyTorch does not import: {facts.torch.error}",
        "Install it again: pip install -c constraints.txt --force-reinstall torch",
    )


def accelerator(facts: Facts) -> Check:
    """Which device lessons will use, and why a graphics card that is there is not used."""
    name, torch = "GPU", facts.torch
    if torch.cuda:
        return Check(name, "ok", f'{", ".join(torch.gpus)}: lessons use it (DEVICE = "auto").')
    if torch.mps:
        return Check(name, "ok", 'Apple GPU: lessons use it (DEVICE = "auto").')
    if not torch.version:
        return Check(name, "warn", "Cannot be looked at, since PyTorch does not import.")
    if not facts.nvidia_card and not facts.nvidia_driver:
        return Check(name, "ok", "None is seen: lessons use the CPU, for which they are made.")
    if not torch.cuda_build:
        return Check(
            name,
            "warn",
            "There is an NVIDIA card, but this PyTorch is the build for CPUs: lessons use the CPU.",
            "Choose your system on https://pytorch.org/get-started/locally and run the pip command shown "
            "there, with the version of constraints.txt.",
        )
    if not facts.nvidia_driver:
        return Check(
            name,
            "warn",
            "There is an NVIDIA card, but no driver for it is loaded: lessons use the CPU.",
            "Install NVIDIA's driver with your system's packages and restart; `nvidia-smi` then lists the card.",
        )
    if facts.hidden_gpus is not None:
        return Check(
            name,
            "warn",
            f'CUDA_VISIBLE_DEVICES is "{facts.hidden_gpus}", which hides the card: lessons use the CPU.',
            "Unset CUDA_VISIBLE_DEVICES.",
        )
    return Check(
        name,
        "warn",
        f"The NVIDIA driver {facts.nvidia_driver} is there, but PyTorch (built for CUDA "
        f"{torch.cuda_build}) cannot use it: lessons use the CPU.",
        "The driver is most likely too old: update it and restart.",
    )


def packages(facts: Facts) -> Check:
    """Every package that the course requires is there, at a version that it was tested with."""
    if not facts.unmet:
        return Check("Packages", "ok", "All are installed.")
    return Check(
        "Packages",
        "fail",
        f"Missing or of another version: {'; '.join(facts.unmet)}.",
        "Run `make install`, or: pip install -c constraints.txt -e .",
    )


def kernel(facts: Facts) -> Check:
    """Jupyter's kernel "python3" is this Python."""
    name = "Jupyter kernel"
    if not facts.kernel:
        return Check(
            name,
            "fail",
            'There is no Jupyter kernel called "python3".',
            f"Run: {facts.executable} -m ipykernel install --sys-prefix",
        )
    # Environments are told apart by their folder: their Pythons may be links to one and the same file.
    mine, its = Path(facts.executable).parent, Path(facts.kernel).parent
    if not os.path.isabs(facts.kernel) or its == mine:
        return Check(name, "ok", '"python3" starts this Python.')
    return Check(
        name,
        "warn",
        f'The kernel "python3" starts another Python, {facts.kernel}, which may lack the course\'s packages.',
        f"Run: {facts.executable} -m ipykernel install --sys-prefix",
    )


def widgets(facts: Facts) -> Check:
    """JupyterLab finds the extension without which widgets are blank."""
    if facts.widgets_extension:
        return Check("Widgets", "ok", "JupyterLab finds the extension of ipywidgets.")
    return Check(
        "Widgets",
        "fail",
        "JupyterLab does not find the extension of ipywidgets, so sliders would be blank.",
        "Run: pip install -c constraints.txt --force-reinstall jupyterlab_widgets ipywidgets",
    )


def memory(facts: Facts) -> Check:
    """There is memory enough for a lesson."""
    sentence = f"{facts.memory_free:.1f} GB free of {facts.memory_total:.1f} GB."
    if facts.memory_total < MEMORY_GB:
        return Check(
            "Memory",
            "warn",
            f"{sentence} A lesson takes up to {MEMORY_GB:.0f} GB.",
            'Set SCALE = "smoke" in a lesson\'s first cell, or use a larger machine.',
        )
    if facts.memory_free < MEMORY_GB:
        return Check(
            "Memory",
            "warn",
            f"{sentence} A lesson takes up to {MEMORY_GB:.0f} GB.",
            "Close other programs, and shut down kernels of other notebooks (JupyterLab: Kernel menu).",
        )
    return Check("Memory", "ok", sentence)


def disk(facts: Facts) -> Check:
    """There is room for data and notebooks."""
    sentence = f"{facts.disk_free:.1f} GB free."
    if facts.disk_free >= DISK_GB:
        return Check("Disk", "ok", sentence)
    return Check(
        "Disk",
        "warn",
        f"{sentence} Data sets and saved notebooks need about {DISK_GB:.0f} GB.",
        "Remove what you do not need, or set COURSE_DATA_DIR to a folder on a larger disk.",
    )


def progress_folder(facts: Facts) -> Check:
    """The learner's progress can be kept."""
    if not facts.home.problem:
        return Check("Progress", "ok", f"It is kept in {facts.home.path}.")
    return Check(
        "Progress",
        "warn",
        f"It cannot be kept: {facts.home.path} {facts.home.problem}.",
        "Set the environment variable COURSE_HOME to a folder that you may write.",
    )


def data_folder(facts: Facts) -> Check:
    """Data sets can be fetched; lessons run without."""
    if not facts.data.problem:
        return Check("Data sets", "ok", f"They are kept in {facts.data.path}.")
    return Check(
        "Data sets",
        "warn",
        f"None can be fetched, {facts.data.path} {facts.data.problem}: lessons use the course's own data.",
        "Set the environment variable COURSE_DATA_DIR to a folder that you may write.",
    )


def notebooks_folder(facts: Facts) -> Check:
    """Notebooks can be saved."""
    if not facts.notebooks.problem:
        return Check("Notebooks", "ok", f"They can be saved in {facts.notebooks.path}.")
    return Check(
        "Notebooks",
        "fail",
        f"They cannot be saved: {facts.notebooks.path} {facts.notebooks.problem}.",
        "Copy the course to a folder of your own, or give yourself the right to write there.",
    )


def sandbox(facts: Facts) -> Check:
    """The wall behind which `course grade` runs students' code; lessons do not need it."""
    name = "Sandbox (for grading)"
    if facts.system == "Windows":
        return Check(
            name,
            "warn",
            "Grading needs Linux, and this is Windows; lessons do not need it.",
            "Grade inside WSL 2, or on a Linux machine.",
        )
    container = (
        f"{facts.engine} is installed and can stand in: run `course grader-image --engine {facts.engine}` "
        f"once, then `course grade … --engine {facts.engine}`."
        if facts.engine
        else "Docker or Podman can stand in (see --engine in docs/grading.md)."
    )
    if facts.system != "Linux":
        return Check(
            name,
            "warn",
            f"Grading on {facts.system} runs students' code in containers; lessons do not need them.",
            container if facts.engine else "Install Docker or Podman, or grade on a Linux machine.",
        )
    if not facts.bubblewrap:
        return Check(
            name,
            "warn",
            "bubblewrap is not installed: `course grade` needs it, lessons do not.",
            "Install it: sudo apt install bubblewrap (Debian, Ubuntu), "
            f"sudo dnf install bubblewrap (Fedora).\n{container}",
        )
    if not facts.bubblewrap_error:
        return Check(name, "ok", f"{facts.bubblewrap} works.")
    if facts.apparmor_restricts:
        return Check(
            name,
            "warn",
            "AppArmor forbids bubblewrap to make user namespaces (Ubuntu 23.10 and newer do): "
            "`course grade` needs that, lessons do not.",
            "Save these lines as /etc/apparmor.d/bwrap, then run "
            "`sudo apparmor_parser -r /etc/apparmor.d/bwrap`:\n" + APPARMOR_PROFILE,
        )
    return Check(
        name,
        "warn",
        f"bubblewrap does not work here ({facts.bubblewrap_error}): `course grade` needs it, lessons do not.",
        "If this is a container, start it with user namespaces allowed; "
        f"else run: sudo sysctl kernel.unprivileged_userns_clone=1\n{container}",
    )


CHECKS = (
    python_version,
    packages,
    pytorch,
    accelerator,
    kernel,
    widgets,
    memory,
    disk,
    notebooks_folder,
    progress_folder,
    data_folder,
)


def examine(facts: Facts) -> list[Check]:
    """Return the judgement of each check; the sandbox is looked at only where the grader is."""
    checks = CHECKS + ((sandbox,) if facts.grading else ())
    return [check(facts) for check in checks]


def gather() -> Facts:
    """Look at this machine. Nothing here raises, whatever is missing, and nothing needs the network."""
    root = Path(__file__).resolve().parents[2]
    total, free = _memory()
    bwrap = shutil.which("bwrap") or ""
    return Facts(
        python=tuple(sys.version_info[:3]),
        executable=sys.executable,
        system=platform.system(),
        architecture=platform.machine(),
        torch=_torch(),
        nvidia_card=_nvidia_card(),
        nvidia_driver=_nvidia_driver(),
        hidden_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        unmet=_unmet("transformers-course"),
        kernel=_kernel(),
        widgets_extension=_widgets_extension(),
        memory_total=total,
        memory_free=free,
        disk_free=shutil.disk_usage(root).free / 1e9,
        home=_home(),
        data=_data(),
        notebooks=_writable(root / "notebooks"),
        grading=importlib.util.find_spec("course_lib.grading") is not None,
        bubblewrap=bwrap,
        bubblewrap_error=_bubblewrap_error(bwrap) if bwrap else "",
        engine=next((each for each in ("docker", "podman") if shutil.which(each)), ""),
        apparmor_restricts=_apparmor_restricts(),
    )


@dataclass
class _Output:
    text: str = ""
    error: str = field(default="did not answer")


def _command(*words: str, seconds: float = 20) -> _Output:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Output(error=str(error))
    lines = done.stderr.strip().splitlines()
    failed = lines[-1] if lines else f"exit status {done.returncode}"
    return _Output(done.stdout.strip(), failed if done.returncode else "")


def _torch() -> Torch:
    """Ask another process: an import of PyTorch that fails may take its process with it."""
    code = (
        "import json, torch; c = torch.cuda.is_available(); print(json.dumps(dict("
        "version=torch.__version__, cuda_build=torch.version.cuda or '', cuda=c, "
        "mps=torch.backends.mps.is_available(), "
        "gpus=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if c else [])))"
    )
    output = _command(sys.executable, "-c", code, seconds=180)
    if output.error:
        return Torch(error=output.error)
    said = json.loads(output.text.splitlines()[-1])
    return Torch(**{**said, "gpus": tuple(said["gpus"])})


def _nvidia_card() -> bool:
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        # 0x03…: display controllers, among them cards for computing only.
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _nvidia_driver() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    output = _command("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return "" if output.error or not output.text else output.text.splitlines()[0]


def _unmet(distribution: str) -> tuple[str, ...]:
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return (f"{distribution} itself is not installed",)
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return ("packaging",)
    unmet = []
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            unmet.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return tuple(unmet)


def _kernel() -> str:
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return ""
    try:
        command: list[str] = KernelSpecManager().get_kernel_spec("python3").argv
    except NoSuchKernel:
        return ""
    return command[0]


def _widgets_extension() -> bool:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return False
    folders = jupyter_path("labextensions", "@jupyter-widgets", "jupyterlab-manager")
    return any((Path(folder) / "package.json").is_file() for folder in folders)


def _memory() -> tuple[float, float]:
    try:
        import psutil
    except ImportError:
        return float("inf"), float("inf")
    seen = psutil.virtual_memory()
    return seen.total / 1e9, seen.available / 1e9


def _home() -> Folder:
    named = os.environ.get("COURSE_HOME")
    if named:
        return _writable(Path(named))
    try:
        import platformdirs
    except ImportError:
        return Folder("the folder of your progress", "is unknown")
    return _writable(Path(platformdirs.user_data_dir("transformers-course")))


def _data() -> Folder:
    named = os.environ.get("COURSE_DATA_DIR")
    if named:
        path = Path(named)
        if path.is_dir():
            # One that can only be read is a mirror, and all that lessons need.
            return Folder(named) if os.access(path, os.R_OK) else Folder(named, "cannot be read")
        return _writable(path)
    try:
        import platformdirs
    except ImportError:
        return Folder("the cache of data sets", "is unknown")
    return _writable(Path(platformdirs.user_cache_dir("transformers-course")))


def _writable(path: Path) -> Folder:
    """Try it: permissions alone do not tell of read-only disks. A missing folder is tried at its parent."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return Folder(str(path), f"cannot be made, since {place} is a file")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Folder(str(path), f"cannot be written ({error.strerror})")
    return Folder(str(path))


def _bubblewrap_error(bwrap: str) -> str:
    """Try what the grader does: a sandbox without network that sees the system read-only."""
    return _command(bwrap, "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "true").error


def _apparmor_restricts() -> bool:
    try:
        value = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").read_text()
    except OSError:
        return False
    return value.strip() == "1"
