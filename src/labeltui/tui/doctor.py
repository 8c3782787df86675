"""What this machine and this terminal can do for labeltui, and what to change to get more.

Nothing heavy is imported: versions come from package metadata, and CUDA from what the driver leaves in the
file system. Torch itself is started in a process of its own, and only when asked for.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from labeltui import frames, parallel
from labeltui.errors import LabeltuiError
from labeltui.graphics import tmux
from labeltui.graphics.answers import Answers
from labeltui.graphics.capabilities import FOUND, Capabilities, choose, from_environment
from labeltui.graphics.probe import BUDGET, ask, cache_file, decide, identity, remember, window_size
from labeltui.text import safe

SMALLEST = (80, 24)
SLOW = 0.1
"""Seconds of a round trip from which a line counts as slow."""
MARKS = {"good": "ok  ", "note": "note", "change": "fix "}
PACKAGES = ("textual", "pillow", "numpy", "h5py", "scikit-learn", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    topic : str
        One or two words.
    value : str
        What was found.
    state : str
        ``good``, ``note`` (works, could be better) or ``change`` (something does not work).
    advice : str
        What to do; empty where all is well.
    """

    topic: str
    value: str
    state: str = "good"
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, and the capabilities that an app would be started with."""

    findings: tuple[Finding, ...]
    capabilities: Capabilities

    def lines(self) -> list[str]:
        """Return the report as text: a word says how each thing stands, colour is not needed."""
        width = max(len(finding.topic) for finding in self.findings)
        out = []
        for finding in self.findings:
            out.append(f"{MARKS[finding.state]}  {finding.topic:<{width}}  {finding.value}")
            if finding.advice:
                out.append(f"{'':<{width + 6}}  -> {finding.advice}")
        changes = sum(finding.state == "change" for finding in self.findings)
        notes = sum(finding.state == "note" for finding in self.findings)
        if not changes and not notes:
            out.append("Nothing to change.")
        else:
            out.append(f"{changes} to fix, {notes} could be better.")
        return out

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "capabilities": asdict(self.capabilities),
        }


def report(
    audit: Path | None = None,
    *,
    graphics: str = "auto",
    tmux_layers: int = FOUND,
    torch: bool = False,
    environment: Mapping[str, str] | None = None,
    budget: float = BUDGET,
) -> Report:
    """Look at the terminal and the machine.

    The terminal is always asked anew, and its answers are remembered for the next start.

    Parameters
    ----------
    audit : pathlib.Path, optional
        An audit whose file system is looked at too.
    graphics : str
        As ``--graphics``.
    tmux_layers : int
        As ``--tmux-layers``.
    torch : bool
        Whether to start torch (seconds) to see which devices it can use.
    environment : mapping, optional
        Instead of ``os.environ``.
    budget : float
        Longest wait for the terminal in seconds.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        The kind of graphics does not exist.
    """
    env = os.environ if environment is None else environment
    choose(Capabilities(), graphics, tmux_layers)
    answers = ask(env, budget)
    size = window_size()
    caps = from_environment(env) if answers is None else decide(env, answers, size)
    caps = choose(caps, graphics, tmux_layers)
    if answers is not None:
        remember(identity(env), answers, cache_file())
    findings = [
        _terminal(caps, answers),
        _graphics(caps, answers),
        _cell(caps, answers),
        _colours(caps, env),
        _window(size),
        _locale(caps, env),
        _line(caps, answers),
        _flicker(caps, answers),
        _frames(),
    ]
    if caps.tmux:
        findings.append(_tmux(caps))
    if audit is not None:
        findings += _audit(audit)
    findings += [_packages(), _cores(env), _kernels(), _cuda(torch), _logout()]
    return Report(tuple(findings), caps)


# The terminal


def _terminal(caps: Capabilities, answers: Answers | None) -> Finding:
    name = safe(caps.terminal or "unknown", 80)
    if answers is None:
        return Finding(
            "terminal", f"{name}; not asked: there is none here, or TERM does not name one", "note"
        )
    if answers.da1 is None:
        return Finding(
            "terminal",
            f"{name}; no answer within {answers.seconds:.1f} s",
            "note",
            "if it can show images, say so with --graphics kitty or --graphics sixel",
        )
    attributes = ";".join(map(str, answers.da1))
    return Finding(
        "terminal", f"{name}; attributes {attributes}; answered in {answers.seconds * 1000:.0f} ms"
    )


def _graphics(caps: Capabilities, answers: Answers | None) -> Finding:
    value = f"{caps.kind}: {caps.why}"
    if caps.kind == "kitty":
        return Finding("images", value)
    if caps.kind == "sixel":
        if caps.registers < 64:
            return Finding(
                "images",
                f"{value}; {caps.registers} colours only",
                "note",
                "xterm: set XTerm*numColorRegisters: 256 in ~/.Xresources",
            )
        return Finding("images", f"{value}; {caps.registers} colours")
    if caps.forced:
        return Finding("images", value)
    if caps.kind == "ascii":
        return Finding("images", value, "note", "unset NO_COLOR and set LANG to a UTF-8 locale for images")
    if answers is None or answers.da1 is None:
        return Finding("images", value, "note")
    if 4 in answers.da1 and not caps.cell_known:
        return Finding(
            "images",
            value,
            "change",
            "xterm: set XTerm*allowWindowOps: true in ~/.Xresources, then restart it",
        )
    name = caps.terminal.lower()
    if caps.tmux:
        advice = "see line tmux; or use tmux 3.4 or newer, built with --enable-sixel"
    elif name.startswith("xterm("):  # its own answer; TERM=xterm says nothing
        advice = "start it as xterm -ti vt340"
    else:
        advice = "kitty, Ghostty, WezTerm, foot, Konsole, iTerm2 and xterm -ti vt340 show real pixels"
    return Finding("images", value, "note", advice)


def _cell(caps: Capabilities, answers: Answers | None) -> Finding:
    if caps.cell_known:
        limit = (
            "" if caps.geometry is None else f"; sixel images up to {caps.geometry[0]} x {caps.geometry[1]}"
        )
        return Finding("cell", f"{caps.cell.width} x {caps.cell.height} pixels{limit}")
    if answers is None:
        return Finding("cell", "not known; taken as 10 x 20 pixels")
    return Finding("cell", "the terminal does not tell; taken as 10 x 20 pixels", "note")


def _colours(caps: Capabilities, env: Mapping[str, str]) -> Finding:
    if env.get("NO_COLOR"):
        return Finding("colours", "none: NO_COLOR is set")
    if caps.colours == "truecolor":
        return Finding("colours", "16.7 million")
    text = "none" if caps.colours == "none" else caps.colours
    return Finding("colours", text, "note", "if the terminal has more: export COLORTERM=truecolor")


def _window(size: tuple[int, int, int, int] | None) -> Finding:
    if size is None or not size[0]:
        return Finding("window", "no window")
    text = f"{size[0]} x {size[1]} cells"
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        return Finding(
            "window", text, "change", f"make it at least {SMALLEST[0]} x {SMALLEST[1]}; 120 x 40 is better"
        )
    return Finding("window", text)


def _locale(caps: Capabilities, env: Mapping[str, str]) -> Finding:
    name = next((f"{key}={env[key]}" for key in ("LC_ALL", "LC_CTYPE", "LANG") if env.get(key)), "not set")
    if caps.unicode:
        return Finding("locale", safe(name, 60))
    return Finding("locale", f"{safe(name, 60)}: not UTF-8", "change", "export LANG=C.UTF-8")


def _line(caps: Capabilities, answers: Answers | None) -> Finding:
    place = "over ssh" if caps.ssh else "local"
    if answers is None or answers.da1 is None:
        return Finding("line", place)
    text = f"{place}, {answers.seconds * 1000:.0f} ms a round trip"
    if answers.seconds >= SLOW:
        return Finding(
            "line", text, "note", "on a thin line give its speed: --max-kbps 500 makes images fit it"
        )
    return Finding("line", text)


def _frames() -> Finding:
    if not (problems := frames.problems()):
        return Finding("frames", "only lines and cells that changed are composed and sent")
    return Finding(
        "frames",
        f"as Textual makes them: {'; '.join(problems)}",
        "note",
        "images are blocks, and the screen takes more bytes; install the version of Textual that labeltui asks for",
    )


def _flicker(caps: Capabilities, answers: Answers | None) -> Finding:
    if caps.synchronised:
        return Finding("frames", "shown whole (synchronised output)")
    if answers is None or answers.da1 is None:
        return Finding("frames", "not known whether they are shown whole")
    return Finding("frames", "this terminal shows frames while they arrive; on a slow line that may flicker")


def _tmux(caps: Capabilities) -> Finding:
    if caps.kind == "sixel":
        return Finding("tmux", "draws sixel itself; images are kept below its limit of 1 MB")
    found = tmux.servers(os.environ)
    shown = " in ".join(f"tmux {safe(each.version, 20)}" for each in found) or "cannot be asked"
    if caps.kind == "kitty":
        return Finding("tmux", f"{shown}; images pass through {caps.layers or 'none'}")
    return Finding(
        "tmux", f"{shown}: {safe(tmux.obstacle(found), 100)}", "note", "see docs/terminals.md, section tmux"
    )


# The machine


def _audit(path: Path) -> list[Finding]:
    from labeltui.journal.lock import on_shared_file_system

    shown = safe(str(path), 60)
    if not path.is_dir():
        return [
            Finding("audit", f"{shown}: no such directory", "change", "give the directory that scan -o wrote")
        ]
    if on_shared_file_system(path):
        kind = "network or FUSE file system: one host at a time may write decisions"
        where = Finding(
            "audit", f"{shown}: {kind}", "note", "a local disk is faster, and lets status run beside review"
        )
    else:
        where = Finding("audit", f"{shown}: local file system")
    found = [where]
    if not os.access(path, os.W_OK):
        found.append(
            Finding(
                "audit", "not writable here", "note", "decisions need write access; --read-only looks only"
            )
        )
    try:
        from labeltui.audit import Audit

        with Audit.open(path, read_only=True) as audit:
            found.append(Finding("audit", f"opens: {audit.n:,} samples, {audit.K:,} classes"))
    except LabeltuiError as error:
        got = f"{error.message}: {error.got}" if error.got else error.message
        found.append(Finding("audit", got, "change", error.hint))
    return found


def _packages() -> Finding:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} missing")
    missing = [name for name in found if name.endswith(" missing")]
    text = f"Python {platform.python_version()}, labeltui {metadata.version('labeltui')}, {', '.join(found)}"
    if missing:
        return Finding("packages", text, "change", "pip install --upgrade labeltui")
    return Finding("packages", text)


def _cores(env: Mapping[str, str]) -> Finding:
    try:
        number = parallel.count_threads()
    except LabeltuiError as error:
        return Finding("threads", f"{error.message}: {error.got}", "change", error.hint)
    why = (
        f"{parallel.VARIABLE} is set" if env.get(parallel.VARIABLE) else "the cores that this process may use"
    )
    return Finding("threads", f"{number} ({why})")


def _logout() -> Finding:
    """Whether training runs outlive the login."""
    from labeltui.train.launch import scope

    prefix, warning = scope()
    if warning:
        return Finding("logout", "logging out ends training runs", "change", warning)
    if prefix:
        return Finding(
            "logout", f"training runs outlive it, in a scope of their own ({' '.join(prefix[:2])})"
        )
    return Finding("logout", "training runs outlive it")


def _kernels() -> Finding:
    try:
        from labeltui._fast import knn
    except ImportError as error:
        return Finding(
            "kernels",
            f"the compiled extensions do not load: {safe(str(error), 120)}",
            "change",
            "reinstall with a C compiler present: pip install --force-reinstall --no-binary labeltui labeltui",
        )
    return Finding("kernels", f"neighbour search: {', '.join(knn.paths())}")


def _cuda(start_torch: bool) -> Finding:
    if start_torch:
        return _ask_torch()
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Finding("cuda", "torch is not installed", "change", "pip install torch")
    driver = Path("/proc/driver/nvidia/version")
    if not driver.exists():
        return Finding("cuda", "no NVIDIA driver here; scan and train use the CPU")
    devices = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    text = f"NVIDIA driver present, {devices} GPU"
    if "+cpu" in version:
        return Finding(
            "cuda",
            f"{text}, but torch {version} is built for the CPU",
            "note",
            "install a CUDA build of torch",
        )
    return Finding("cuda", f"{text}; see doctor --torch for what torch makes of it")


def _ask_torch() -> Finding:
    code = (
        "import torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
        "print(torch.__version__, n, *[torch.cuda.get_device_name(i).replace(' ', '_') for i in range(n)])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", "") or str(error)
        last = safe(why.strip().splitlines()[-1] if why.strip() else type(error).__name__, 160)
        return Finding("cuda", f"torch does not start: {last}", "change", "reinstall torch")
    version, number, *names = done.stdout.split()
    if number == "0":
        return Finding("cuda", f"torch {version} sees no CUDA device; scan and train use the CPU")
    return Finding("cuda", f"torch {version}: {', '.join(safe(name.replace('_', ' ')) for name in names)}")
