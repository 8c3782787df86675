"""``labeltui diff`` and ``apply``: corrections that travel without the data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from labeltui.cli._common import AUDIT, PATH, json_option, print_json
from labeltui.text import safe


@click.command()
@click.argument("audit", type=AUDIT)
@click.option("-o", "--out", type=PATH, required=True, help="The patch, for example labels.patch.json.")
@click.option(
    "--apply-suggestions",
    type=float,
    is_flag=False,
    flag_value=0.0,
    metavar="[MIN_P]",
    help="Correct undecided flags too, as in export.",
)
@click.option("--target-precision", type=float, metavar="SHARE", help="As in export.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def diff(
    audit: Path,
    out: Path,
    apply_suggestions: float | None,
    target_precision: float | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write AUDIT's corrections as a patch: paths, hashes and labels, no images.

    \b
    labeltui diff my.audit -o labels.patch.json
    labeltui apply labels.patch.json labels.csv -o corrected.csv
    """
    from labeltui import patch
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True) as opened:
        changes = patch.diff(
            opened, out, apply_suggestions=apply_suggestions, target_precision=target_precision, force=force
        )
    if as_json:
        print_json({"out": safe(str(out)), "changes": changes})
    else:
        click.echo(f"{changes:,} corrections in {safe(str(out))}")


@click.command()
@click.argument("patch_file", metavar="PATCH", type=PATH)
@click.argument("data", type=PATH)
@click.option("-o", "--out", type=PATH, help="The corrected table; a tree is corrected in place.")
@click.option("--path-column", default="path", show_default=True, help="Of a table.")
@click.option("--label-column", default="label", show_default=True, help="Of a table.")
@click.option("--image-root", type=PATH, help="Where a table's relative paths start; default: its directory.")
@click.option(
    "--drop-excluded",
    is_flag=True,
    help="Leave excluded samples out of the table, or move them to .excluded in the tree.",
)
@click.option("--reverse", is_flag=True, help="Take the patch back.")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@json_option
def apply(
    patch_file: Path,
    data: Path,
    out: Path | None,
    path_column: str,
    label_column: str,
    image_root: Path | None,
    drop_excluded: bool,
    reverse: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Correct DATA, a table or a tree of class directories, by PATCH.

    Every image must be the one that was reviewed, by its SHA-256, and have the label that was reviewed; else nothing is
    changed, and what differs is listed. What is corrected already counts as done.
    """
    from labeltui import patch
    from labeltui.sources import SourceOptions

    done = patch.apply(
        patch_file,
        data,
        out,
        options=SourceOptions(path_column=path_column, label_column=label_column, image_root=image_root),
        drop_excluded=drop_excluded,
        reverse=reverse,
        dry_run=dry_run,
    )
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
    else:
        would = "would be " if dry_run else ""
        click.echo(
            f"{done.changed:,} labels {would}changed, {done.excluded:,} samples {would}taken out; "
            f"{done.done_before:,} were corrected before"
        )
