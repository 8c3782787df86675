"""The compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer, driven by their own tests.

Builds every extension of setup.py once more, instrumented, in a temporary directory, and runs the kernels' tests on it.
Any fault ends the run. Needs gcc with both sanitizers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution
from setuptools.command.build_ext import build_ext

from _common import Report, parser

ROOT = Path(__file__).parents[1]
FLAGS = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
]
TESTS = ("test_fast_csg.py", "test_votes.py", "test_fast_knn.py")
QUICK = ("test_fast_csg.py", "test_votes.py")


def library(name: str) -> str:
    """Path of a sanitizer's run-time library, which must be loaded before Python."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"gcc has no {name}; install its sanitizers (Debian: libasan, libubsan with gcc)")
    return path


def extensions() -> list[object]:
    """The extensions that setup.py lists, with its flags."""
    import setuptools

    found: list[object] = []
    original = setuptools.setup
    setuptools.setup = lambda **arguments: found.extend(arguments["ext_modules"])
    try:
        exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), {"__name__": "setup"})
    finally:
        setuptools.setup = original
    return found


def build(target: Path, only: tuple[str, ...] | None) -> None:
    """Compile the extensions into a copy of the package below `target`."""
    shutil.copytree(ROOT / "src" / "labeltui", target / "labeltui", ignore=shutil.ignore_patterns("*.so"))
    listed = [e for e in extensions() if only is None or e.name.rpartition(".")[2] in only]
    for extension in listed:
        extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS]
        extension.extra_link_args = FLAGS
    command = build_ext(Distribution({"ext_modules": listed}))
    command.build_lib, command.build_temp, command.force = str(target), str(target / "objects"), True
    command.ensure_finalized()
    command.run()


def main() -> None:
    options = parser(__doc__).parse_args()
    report = Report("sanitize", options)
    tests = [ROOT / "tests" / name for name in (QUICK if options.quick else TESTS)]
    preload = " ".join(library(name) for name in ("libasan.so", "libubsan.so"))
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        print("  building ...", file=sys.stderr, flush=True)
        build(Path(folder), ("csg", "votes") if options.quick else None)
        settings = {
            "LD_PRELOAD": preload,
            "ASAN_OPTIONS": "detect_leaks=0",  # Python itself never frees what it interned
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        run = (
            "import sys, labeltui, pytest\n"
            "assert labeltui.__file__.startswith(sys.argv[1]), labeltui.__file__\n"
            "sys.exit(pytest.main(sys.argv[2:]))"
        )
        command = [
            sys.executable,
            "-c",
            run,
            folder,
            "-q",
            "-x",
            "-s",
            "-p",
            "no:cacheprovider",
            *map(str, tests),
        ]
        print("  testing ...", file=sys.stderr, flush=True)
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(done.stdout[-4000:] + done.stderr[-6000:])
    passed = re.search(r"(\d+) passed", done.stdout)
    dots = passed.group(1) if passed else str(done.stdout.count("."))
    names = ", ".join(test.name for test in tests)
    report.add(f"tests of instrumented kernels without a fault ({names})", float(dots), "tests")
    report.finish()


if __name__ == "__main__":
    main()
