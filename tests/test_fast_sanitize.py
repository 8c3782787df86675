"""The C kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, without Python around them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "src" / "labeltui" / "_fast" / "kernels"
SOURCES = ("exact", "filter", "float", "int8", "layout", "select", "sketch", "work")
COMPILER = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_knn_kernels_are_clean(sanitizer: str, tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("no C compiler")
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }")
    probe = [COMPILER, f"-fsanitize={sanitizer}", str(empty), "-o", str(tmp_path / "empty")]
    if (
        subprocess.run(probe, capture_output=True).returncode
        or subprocess.run([tmp_path / "empty"]).returncode
    ):
        pytest.skip(f"this compiler has no {sanitizer} sanitizer")
    program = tmp_path / "driver"
    # HITS: so small that tiles hand their hits over before they end.
    flags = [
        "-g",
        "-O1",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=all",
        "-ffp-contract=off",
        "-DHITS=64",
    ]
    sources = [str(KERNELS / f"{name}.c") for name in SOURCES]
    driver = str(ROOT / "tests" / "kernels" / "knn_driver.c")
    command = [COMPILER, *flags, f"-I{KERNELS}", driver, *sources, "-lm", "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-4000:]
