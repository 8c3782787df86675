"""Choosing and making an embedder; torch is imported here, and only when a backbone is wanted."""

from __future__ import annotations

from labeltui.embed.embedders import GRID, Embedder, GivenEmbedder, PixelEmbedder
from labeltui.embed.spec import CPU_BATCH, EmbedSpec
from labeltui.errors import SourceError, UsageError
from labeltui.sources import Source


def load_embedder(spec: EmbedSpec) -> Embedder:
    """Return the embedder that a specification asks for.

    Parameters
    ----------
    spec : EmbedSpec

    Returns
    -------
    Embedder

    Raises
    ------
    ModelError
        There is no such model, its weights cannot be loaded or do not fit, or it does not run.
    UsageError
        Options that do not go together.
    """
    if spec.model == "pixels":
        given = {
            "--checkpoint": spec.checkpoint,
            "--model-arg": spec.model_args,
            "--mean": spec.mean,
            "--std": spec.std,
            "--interpolation": spec.interpolation,
            "--crop-pct": spec.crop_pct,
        }
        if wrong := [option for option, value in given.items() if value]:
            raise UsageError(
                "the model pixels has no weights and a fixed preprocessing", f"got {', '.join(wrong)}"
            )
        return PixelEmbedder(spec.image_size or GRID, spec.batch_size or CPU_BATCH)
    from labeltui.embed.backbone import load_backbone

    return load_backbone(spec)


def embedder_for(source: Source, spec: EmbedSpec) -> Embedder:
    """Return the embedder of a source: `load_embedder(spec)`, or a placeholder if the source provides embeddings.

    Parameters
    ----------
    source : Source
    spec : EmbedSpec

    Returns
    -------
    Embedder

    Raises
    ------
    SourceError
        The source has neither embeddings nor images.
    ModelError, UsageError
        As `load_embedder`.
    """
    if source.embeddings is not None:
        return GivenEmbedder(int(source.embeddings.shape[1]))
    if not source.has_images:
        raise SourceError("a source holds images or embeddings", "it holds neither")
    return load_embedder(spec)
