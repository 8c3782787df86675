"""``labeltui noise``: label noise injected, estimated and studied."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import PATH, print_json
from labeltui.progress import ProgressLine


@click.group()
def noise() -> None:
    """Inject label noise, estimate it, and repeat published studies of it on your data."""


@noise.command()
@click.argument("audit", type=PATH)
@click.option("--model", required=True, help="symmetric, pair-flip, confusable, class-dependent, feature-dependent, "
              "cluster or out-of-vocabulary.")  # fmt: skip
@click.option("--rate", type=float, help="Fraction of the labels that becomes wrong.")
@click.option(
    "-o", "--out", type=PATH, required=True, help="labels.csv, or a new directory for a synthetic audit."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--delta", "strength", default=1.0, show_default=True, help="Of confusable: 0 uniform, 1 by overlap."
)
@click.option("--group", default=20, show_default=True, help="Of cluster: samples that err together.")
@click.option("--matrix", type=PATH, help="Of class-dependent: a table, true classes by given ones.")
@click.option("--matrix-from", type=PATH, help="Of class-dependent: an audit whose estimate to use.")
@click.option("--other", type=PATH, help="Of out-of-vocabulary: an audit of other data, same backbone.")
@click.option(
    "--labels", default="current", show_default=True, help="The truth: current, given, TABLE:COLUMN."
)
@click.option("--threads", type=int, help="Default: all cores, or LABELTUI_THREADS.")
@click.option("--force", is_flag=True, help="Replace an existing table.")
def inject(
    audit: Path,
    out: Path,
    labels: str,
    matrix: Path | None,
    matrix_from: Path | None,
    other: Path | None,
    threads: int | None,
    force: bool,
    **given: Any,
) -> None:
    """Write AUDIT's labels with noise, the truth beside them. AUDIT itself is only read.

    A name that ends in .csv becomes a table (path, label, truth, injected), any other a synthetic audit with NAME.npz
    and NAME.truth.csv beside it.
    """
    from labeltui.audit import Audit
    from labeltui.studies import injection

    spec = injection.NoiseSpec(**given)
    as_table = out.suffix.lower() == ".csv"
    injection.require_new(out, force and as_table)
    with ExitStack() as stack:
        opened, source, strange = (
            None if path is None else stack.enter_context(Audit.open(path, read_only=True))
            for path in (audit, matrix_from, other)
        )
        assert opened is not None
        made = injection.inject(opened, spec, labels=labels, matrix=matrix, matrix_from=source, other=strange)
    if as_table:
        injection.write_table(made, out, force=force)
    else:
        progress = ProgressLine()
        try:
            injection.write_audit(made, out, threads=threads, progress=progress)
        finally:
            progress.finish()
    wrong = int(made.injected.sum())
    click.echo(
        f"{len(made.ids):,} samples, {wrong:,} labels made wrong ({wrong / max(1, len(made.ids)):.1%})",
        err=True,
    )


@noise.command()
@click.argument("audit", type=PATH)
@click.option(
    "--epsilon", default=0.1, show_default=True, help="A review is worth it from this many corrections on."
)
@click.option(
    "--batch-size", "batch", default=64, show_default=True, help="Of your training on clean labels."
)
@click.option("--learning-rate", default=1e-3, show_default=True, help="Of your training on clean labels.")
@click.option("--label-smoothing", default=0.1, show_default=True, help="Of your training on clean labels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def estimate(audit: Path, as_json: bool, **given: Any) -> None:
    """Say how noisy AUDIT's labels are, what training should make of it, and when to stop reviewing."""
    from labeltui.audit import Audit
    from labeltui.studies import estimation

    with Audit.open(audit, read_only=True) as opened:
        made = estimation.estimate(opened, **given)
    if as_json:
        print_json(made.as_json())
    else:
        click.echo("\n".join(made.lines()))
