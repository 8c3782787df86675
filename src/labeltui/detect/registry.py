"""The table of detectors: those of this package, and those that other packages offer by entry point."""

from __future__ import annotations

from importlib.metadata import entry_points

from labeltui.detect.base import Detector, DetectorInputs
from labeltui.errors import UsageError

GROUP = "labeltui.detectors"
_TABLE: dict[str, type[Detector]] = {}


def register(detector: type[Detector]) -> type[Detector]:
    """Add a detector class to the table; usable as a decorator.

    Raises
    ------
    UsageError
        Another class has the name already.
    """
    known = _TABLE.get(detector.name)
    if known is not None and known is not detector:
        raise UsageError(
            "a detector's name must be unique", f"got {detector.name!r} twice", "rename or uninstall one"
        )
    _TABLE[detector.name] = detector
    return detector


def table() -> dict[str, type[Detector]]:
    """Return all detectors by name, in order of registration, those of other packages last.

    Raises
    ------
    UsageError
        An entry point cannot be loaded or is no detector.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            found = point.load()
        except Exception as error:  # whatever another package raises while it is imported
            raise UsageError(
                f"a detector in the entry-point group {GROUP} must be importable", f"{point.value}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Detector)):
            raise UsageError(
                f"an entry point of {GROUP} must be a subclass of Detector", f"{point.value} is none"
            )
        register(found)
    return dict(_TABLE)


def available(inputs: DetectorInputs) -> list[type[Detector]]:
    """Return the detectors whose needs `inputs` meets and whose size they can handle."""
    return [
        detector
        for detector in table().values()
        if all(getattr(inputs, need, None) is not None for need in detector.needs)
        and detector.feasible(inputs)
    ]
