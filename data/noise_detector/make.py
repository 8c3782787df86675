"""Makes the weights of the `dynamics` detector from scratch; README.md says what and why.

    python data/noise_detector/make.py [--worlds 200] [--out FILE]

Worlds are kept in .cache beside this script and made once. One thread; the same seeds give the same file on the
same kind of machine and versions of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import worlds
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score

import labeltui.detect.dynamics as room
from labeltui import threads
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.dynamics.network import WEIGHTS, Network, steadied
from labeltui.detect.dynamics.statistics import STATISTICS, aum
from labeltui.head import Dynamics

HERE = Path(__file__).parent
FIELDS = ("log_p", "margin", "top", "top_p", "sum_squares", "labels")
HELD_OUT_EVERY = 5  # of five worlds one stops the training and is never trained on
SEED, RATE, BATCH, DECAY = 0, 1e-3, 256, 1e-2
EPOCHS, PATIENCE = 6, 2
OF_EACH = 200  # samples of each world in an epoch: all worlds weigh the same
LATEST = 0.7  # share of a training that a curve may lack at its beginning
MOST = 1000  # samples of a world that are looked at


def kept(number: int) -> worlds.World:
    """World `number`, from the cache if the recipe has not changed since."""
    recipe = hashlib.sha256(Path(worlds.__file__).read_bytes()).hexdigest()[:12]
    path = HERE / ".cache" / recipe / f"{number:04}.npz"
    if not path.exists():
        world = worlds.make(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {field: getattr(world.record, field) for field in FIELDS}
        temporary = path.with_suffix(".part")
        with open(temporary, "wb") as file:
            np.savez(file, name=world.name, wrong=world.wrong, n_classes=world.n_classes, **arrays)
        temporary.replace(path)
        print(f"world {number}: {world.name}", file=sys.stderr, flush=True)
    with np.load(path) as data:
        record = Dynamics(*(data[field] for field in FIELDS))
        return worlds.World(str(data["name"]), record, data["wrong"], int(data["n_classes"]))


@dataclass(frozen=True)
class Sheet:
    """A world as the network sees it: curves (n, STEPS, 5), wrong (n,), AUM (n,), and what others make of it."""

    curves: torch.Tensor
    wrong: torch.Tensor
    margins: npt.NDArray[np.float32]
    peers: dict[str, float]

    def ap(self, log_odds: npt.NDArray[np.floating]) -> float:
        """Average precision of finding the wrong labels."""
        return float(average_precision_score(self.wrong.numpy(), -log_odds))


def sheet(world: worlds.World, rng: np.random.Generator, measured: bool) -> Sheet:
    """The curves of at most MOST samples of a world; ranks are among all of it."""
    curves = Curves(world.record, world.n_classes)
    rows = np.sort(rng.permutation(np.flatnonzero(curves.usable))[:MOST])
    wrong = world.wrong[rows]
    peers = {
        name: float(average_precision_score(wrong, -statistic(world.record)[rows]))
        for name, statistic in (STATISTICS.items() if measured else ())
    }
    margins = aum(world.record)[rows]
    return Sheet(torch.from_numpy(curves.read(rows)), torch.from_numpy(wrong), margins, peers)


def late(curves: torch.Tensor, start: float) -> torch.Tensor:
    """The curves from a share `start` of the training on, stretched to the same number of steps.

    The first epoch of a large data set is far into training, where that of a small world is its beginning: the
    network must not rely on where a curve begins.
    """
    steps = curves.shape[1]
    at = torch.linspace(start * (steps - 1), steps - 1, steps)
    low = at.long().clamp(max=steps - 2)
    share = (at - low)[None, :, None]
    return torch.lerp(curves[:, low], curves[:, low + 1], share)


def train(learned: list[Sheet], held: list[Sheet]) -> Network:
    """Train until the mean average precision on the worlds held out has not risen for PATIENCE epochs.

    Returns the network of the best epoch.
    """
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    best, worse, state = 0.0, 0, network.state_dict()
    for epoch in range(EPOCHS):
        network.train()
        picks = [torch.from_numpy(rng.permutation(len(each.wrong))[:OF_EACH]) for each in learned]
        x = torch.cat([each.curves[pick] for each, pick in zip(learned, picks, strict=True)])
        right = ~torch.cat([each.wrong[pick] for each, pick in zip(learned, picks, strict=True)])
        losses = []
        for index in torch.from_numpy(rng.permutation(len(x))).split(BATCH):
            seen = late(x[index], float(rng.uniform(0.0, LATEST)))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(seen), right[index].float())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.item())
        network.eval()
        with torch.inference_mode():
            found = [each.ap(network(late(each.curves, LATEST / 2)).numpy()) for each in held]
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, AP on held-out worlds {np.mean(found):.4f}",
            flush=True,
        )
        if np.mean(found) > best:
            best, worse = float(np.mean(found)), 0
            state = {name: values.clone() for name, values in network.state_dict().items()}
        elif (worse := worse + 1) == PATIENCE:
            break
    network.load_state_dict(state)
    return network


def main() -> None:
    """Make the worlds, train, say how it compares on those held out, and write."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--worlds", type=int, default=200)
    options.add_argument("--out", type=Path, default=Path(room.__file__).parent / WEIGHTS)
    given = options.parse_args()
    torch.set_num_threads(1)
    with threads.blas(1):
        rng = np.random.default_rng(SEED)
        sheets = [sheet(kept(number), rng, number % HELD_OUT_EVERY == 0) for number in range(given.worlds)]
        held = sheets[::HELD_OUT_EVERY]
        learned = [each for number, each in enumerate(sheets) if number % HELD_OUT_EVERY]
        network = train(learned, held)
        with torch.inference_mode():
            alone = [each.ap(network(each.curves).numpy()) for each in held]
            found = [each.ap(steadied(network(each.curves).numpy(), each.margins)) for each in held]
    print(
        f"\n{len(held)} worlds held out: mean AP {np.mean(found):.4f}, of the network alone {np.mean(alone):.4f}"
    )
    for name in STATISTICS:
        theirs = np.array([each.peers[name] for each in held])
        print(
            f"  {name:<18} {theirs.mean():.4f}, below in {np.mean(np.array(found) > theirs):.0%} of the worlds"
        )
    recipe = {
        "recipe": "data/noise_detector/make.py",
        "worlds": given.worlds,
        "seed": SEED,
        "held_out_ap": round(float(np.mean(found)), 4),
        "torch": version("torch").split("+")[0],
    }
    tensors = {name: values.contiguous() for name, values in network.state_dict().items()}
    save_file(tensors, given.out, {"made": json.dumps(recipe, sort_keys=True)})
    digest = hashlib.sha256(given.out.read_bytes()).hexdigest()
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
