"""``labeltui merge``, ``agreement``, ``split`` and ``import``: several reviewers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from labeltui.cli._common import AUDIT, PATH, json_option, print_json
from labeltui.errors import UsageError
from labeltui.text import safe

if TYPE_CHECKING:
    from labeltui.audit.agreement import Agreement


@click.command()
@click.argument("audits", nargs=-1, required=True, type=AUDIT)
@click.option(
    "-o", "--out", type=PATH, help="A new audit: a copy of the first one with the decisions of all."
)
@click.option("--into", type=AUDIT, help="Take the decisions of AUDITS over into this audit.")
@click.option("--reviewer", help="Who merges; default: the setting, else the login name.")
@json_option
def merge(
    audits: tuple[Path, ...], out: Path | None, into: Path | None, reviewer: str | None, as_json: bool
) -> None:
    """Bring the decisions of several reviewers together, with their authors and times.

    \b
    labeltui merge ada.audit bob.audit -o both.audit
    labeltui merge --into my.audit bob.audit cleo.audit

    Samples that one of them decided take that decision. Where two contradict each other the first audit's stays, and
    the review lists them. A merge is one action: undo takes it back.
    """
    from labeltui import config, sharing

    if (out is None) == (into is None):
        raise UsageError(
            "a merge goes into a new audit or into one that is there",
            "got both" if out else "got neither",
            "labeltui merge A B -o C, or labeltui merge --into A B",
        )
    all_of_them = audits if into is None else (into, *audits)
    done = sharing.merge(all_of_them, out, reviewer or config.load().reviewer)
    if as_json:
        print_json(done.as_json())
        return
    click.echo(
        f"{done.taken:,} samples took over a decision or note; {done.known:,} decisions were known; "
        f"{done.conflicts:,} samples are in conflict"
    )
    if done.elsewhere:
        click.echo(f"{done.elsewhere:,} decisions are on samples that are not here, or are other images here")
    click.echo("\n".join(agreement_lines(done.agreement)))


@click.command()
@click.argument("audit", type=AUDIT)
@json_option
def agreement(audit: Path, as_json: bool) -> None:
    """Say how far AUDIT's reviewers agree, and where they do not."""
    from labeltui import sharing
    from labeltui.audit import Audit
    from labeltui.audit.agreement import agreements

    with Audit.open(audit, read_only=True) as opened:
        found = agreements(opened.opinions())
        conflicts = opened.disagreements()
        names = {i: opened.sample_name(i) for i in conflicts}
        words = {
            i: [f"{safe(each.reviewer)}: {_decided(opened.names, each.kind, each.label)}" for each in theirs]
            for i, theirs in conflicts.items()
        }
        for i, said in words.items():
            now = opened.decision(i)
            if now is not None:
                said.insert(0, f"{safe(now.reviewer)}: {_decided(opened.names, now.kind, now.label)}")
    if as_json:
        print_json(
            {
                "agreement": [sharing.agreement_json(each) for each in found],
                "conflicts": [{"sample": names[i], "decisions": words[i]} for i in conflicts],
            }
        )
        return
    click.echo("\n".join(agreement_lines(found) or ["no sample was decided by two reviewers"]))
    for i in conflicts:
        click.echo(f"conflict: {names[i]}  {'; '.join(words[i])}")


def _decided(names: list[str], kind: str, label: int) -> str:
    return names[label] if kind in ("keep", "relabel") and label >= 0 else kind


def agreement_lines(found: list[Agreement]) -> list[str]:
    """Show agreements, one line each.

    Parameters
    ----------
    found : list of Agreement

    Returns
    -------
    list of str
    """
    return [
        f"{', '.join(map(safe, each.reviewers))}: {_measured(each)}, the same in {each.observed:.0%} of "
        f"{each.samples:,} samples that all of them decided"
        for each in found
    ]


def _measured(agreement: Agreement) -> str:
    if agreement.known:
        return f"{agreement.name} {agreement.kappa:.2f} ({agreement.low:.2f}..{agreement.high:.2f}, 95 %)"
    if agreement.samples < 2:
        return f"{agreement.name} needs more samples"
    return f"{agreement.name} is not defined where all say one thing"


@click.command()
@click.argument("audit", type=AUDIT)
@click.option("--reviewers", required=True, help="Their names with commas, or how many: 3 = reviewer1 to 3.")
@click.option(
    "--overlap", type=float, default=0.0, show_default=True, help="Fraction that everybody reviews."
)
@click.option("--everything", is_flag=True, help="Deal out all undecided samples, not only flags.")
@click.option("--seed", default=0, show_default=True, help="Of which samples everybody reviews.")
@json_option
def split(audit: Path, reviewers: str, overlap: float, everything: bool, seed: int, as_json: bool) -> None:
    """Deal AUDIT's undecided flags out among reviewers.

    Whoever opens it as one of them (--reviewer NAME) has only their own samples in the queue. It is one action: undo
    takes it back, and a later split replaces it.
    """
    from labeltui import sharing
    from labeltui.audit import Audit

    if reviewers.strip().isdecimal():
        names = [f"reviewer{number + 1}" for number in range(min(int(reviewers), 1000))]
    else:
        names = [name.strip() for name in reviewers.split(",")]
    with Audit.open(audit) as opened:
        dealt = sharing.split(opened, names, overlap, seed, everything)
    if as_json:
        print_json({"assigned": {safe(name): count for name, count in dealt.items()}})
    else:
        click.echo("\n".join(f"{safe(name)}: {count:,} samples" for name, count in dealt.items()))


@click.command("import")
@click.argument("audit", type=AUDIT)
@click.argument("file", type=PATH)
@click.option("--reviewers", help="Names of annotators: 3=ada,bob@lab.org=bob.")
@json_option
def import_(audit: Path, file: Path, reviewers: str | None, as_json: bool) -> None:
    """Take annotations of a Label Studio export (JSON) over into AUDIT.

    Whoever completed an annotation is its reviewer. It is a merge: contradictions are conflicts, undo takes it back.
    """
    from labeltui import sharing
    from labeltui.audit import Audit
    from labeltui.audit.agreement import agreements

    names = dict(pair.split("=", 1) for pair in (reviewers or "").split(",") if "=" in pair)
    done = sharing.Merged()
    with Audit.open(audit) as opened:
        decisions = sharing.read_annotations(opened, file, names)
        sharing.take(opened, decisions, done)
        done.conflicts = len(opened.disagreements())
        done.agreement = agreements(opened.opinions())
    if as_json:
        print_json(done.as_json())
    else:
        click.echo(
            f"{len(decisions):,} annotations; {done.taken:,} samples took over a decision; "
            f"{done.conflicts:,} are in conflict"
        )
        click.echo("\n".join(agreement_lines(done.agreement)))
