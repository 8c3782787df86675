"""The compiled extensions and their flags; everything static is in pyproject.toml."""

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

# No -march: a build runs on every CPU of its architecture. Faster kernels are chosen at run time.
# No FMA contraction: float64 re-ranking must give the same bits on every path and compiler.
FLAGS = ["-O3", "-fno-math-errno", "-ffp-contract=off", "-Wno-unused-function"]
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]

# name -> (extra C sources, headers that a change of must rebuild it)
KERNELS: dict[str, tuple[list[str], list[str]]] = {
    "knn": (
        [
            f"src/labeltui/_fast/kernels/{name}.c"
            for name in ("exact", "filter", "float", "int8", "layout", "select", "sketch", "work")
        ],
        [
            f"src/labeltui/_fast/kernels/{name}.h"
            for name in ("knn", "exact_body", "float_body", "scan512", "sketch_body")
        ],
    ),
    "csg": ([], ["src/labeltui/_fast/minsum.h"]),
    "votes": ([], []),
    "sixel": ([], []),
    "blocks": ([], []),
}

setup(
    data_files=[("share/man/man1", ["docs/labeltui.1"])],
    ext_modules=cythonize(
        [
            Extension(
                f"labeltui._fast.{name}",
                [f"src/labeltui/_fast/{name}.pyx", *sources],
                depends=headers,
                include_dirs=[numpy.get_include(), "src/labeltui/_fast"],
                extra_compile_args=FLAGS,
                define_macros=MACROS,
            )
            for name, (sources, headers) in KERNELS.items()
        ],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    ),
)
