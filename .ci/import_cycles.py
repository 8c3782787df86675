"""Fail when files of labeltui import each other in a circle; imports for type checking count, too."""

from __future__ import annotations

import sys

import grimp


def main() -> int:
    graph = grimp.build_graph("labeltui")
    cycles = []
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            chain = graph.find_shortest_chain(importer=imported, imported=module)
            if chain:
                cycles.append(" -> ".join((module, *chain)))
    print("\n".join(cycles) or "no import cycles")
    return 1 if cycles else 0


if __name__ == "__main__":
    sys.exit(main())
