"""Makes the weights of the `dynamics` detector from scratch; README.md says what and why.

    python data/noise_detector/make.py [--worlds 400] [--out FILE]

Worlds and networks are kept in .cache beside this script and made once. One thread; the same seeds give the same
file on the same kind of machine and versions of torch. What is printed also goes into README.md when the package's
own weights are made.
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
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

from labeltui import parallel
from labeltui.detect import dynamics
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.dynamics.network import WEIGHTS, Network, loaded
from labeltui.detect.dynamics.statistics import STATISTICS
from labeltui.head import Dynamics

HERE = Path(__file__).parent
OWN = Path(dynamics.__file__).parent / WEIGHTS
README, FENCE = HERE / "README.md", "```text\n"  # the last block of the page
said: list[str] = []
FIELDS = ("log_p", "margin", "top", "top_p", "sum_squares", "labels")
HELD_OUT_EVERY = 5  # of five worlds one is kept for the last figures; nothing is chosen by it
SEED = 0
STEPS, TOGETHER, OF_EACH = 1000, 4, 64  # batches; worlds in each; samples of each of them
RATE, RATE_OF_SUM, DECAY = 3e-3, 1e-2, 1e-2
ORDER = 5.0  # weight of the order inside a world beside the cross-entropy
LATEST = 0.7  # share of a training that a curve may lack at its beginning
MOST = 2000  # samples of a world that are looked at
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the plain sum in the score, of which one is chosen


def say(line: str) -> None:
    """Print, and remember for the page."""
    print(line, flush=True)
    said.append(line)


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
            np.savez(
                file, name=world.name, kind=world.kind, features=world.features, wrong=world.wrong,
                n_classes=world.n_classes, **arrays,
            )  # fmt: skip
        temporary.replace(path)
        print(f"world {number}: {world.name}", file=sys.stderr, flush=True)
    with np.load(path) as data:
        record = Dynamics(*(data[field] for field in FIELDS))
        return worlds.World(
            str(data["name"]), str(data["kind"]), str(data["features"]), record, data["wrong"],
            int(data["n_classes"]),
        )  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """What the network sees of some samples of a world: their numbers (n,), curves (n, STEPS, 8), facts (n, 10).

    And which of their labels are wrong (n,).
    """

    rows: npt.NDArray[np.int64]
    curves: torch.Tensor
    features: torch.Tensor
    wrong: torch.Tensor


def sheet(curves: Curves, wrong: npt.NDArray[np.bool_], rng: np.random.Generator) -> Sheet:
    """At most MOST samples of a world; ranks and facts are among all of it."""
    rows = np.sort(rng.permutation(np.flatnonzero(curves.usable))[:MOST])
    return Sheet(
        rows,
        torch.from_numpy(curves.read(rows)),
        torch.from_numpy(curves.run_features.features[rows]),
        torch.from_numpy(wrong[rows]),
    )


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


def train(learned: list[Sheet]) -> Network:
    """Train for a fixed number of steps, each on samples of a few worlds; all worlds weigh the same."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = Network()
    reader = [*network.lstm.parameters(), *network.out.parameters()]
    parts = [{"params": reader}, {"params": network.plain.parameters()}]
    optimiser = torch.optim.AdamW(parts, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [RATE, RATE_OF_SUM], total_steps=STEPS, pct_start=0.05
    )
    order: list[int] = []
    for _ in range(STEPS):
        if len(order) < TOGETHER:
            order += rng.permutation(len(learned)).tolist()
        chosen, order = [learned[number] for number in order[:TOGETHER]], order[TOGETHER:]
        picks = [torch.from_numpy(rng.permutation(len(each.wrong))[:OF_EACH]) for each in chosen]
        curves = late(
            torch.cat([each.curves[pick] for each, pick in zip(chosen, picks, strict=True)]),
            float(rng.uniform(0.0, LATEST)),
        )
        features = torch.cat([each.features[pick] for each, pick in zip(chosen, picks, strict=True)])
        wrong = [each.wrong[pick] for each, pick in zip(chosen, picks, strict=True)]
        loss = sum(lost(z, wrong) for z in network.both(curves, features))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader, 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def lost(z: torch.Tensor, wrong: list[torch.Tensor]) -> torch.Tensor:
    """What log-odds cost: cross-entropy, and the order inside each world, each wrong label below each right one."""
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, (~torch.cat(wrong)).float())
    for own, answers in zip(z.split([len(each) for each in wrong]), wrong, strict=True):
        if answers.any() and not answers.all():
            gap = own[answers][:, None] - own[~answers][None]
            loss = loss + ORDER * torch.nn.functional.softplus(gap).mean() / TOGETHER
    return loss


@dataclass(frozen=True)
class Held:
    """A world that the network has not seen: what it is, what is said of it, and what is right."""

    world: worlds.World
    sheet: Sheet
    peers: dict[str, float]

    @property
    def large(self) -> bool:
        """Whether it has as many samples as what is audited."""
        return len(self.world.wrong) >= worlds.LARGE

    def ap(self, network: Network, share: float) -> float:
        """Average precision of finding the wrong labels, with a share of the plain sum in the score."""
        with torch.inference_mode():
            z = torch.lerp(*network.both(self.sheet.curves, self.sheet.features), share)
        return float(average_precision_score(self.sheet.wrong.numpy(), -z.numpy()))


def held(world: worlds.World) -> Held:
    """A world to be measured on."""
    seen = sheet(Curves(world.record, world.n_classes), world.wrong, np.random.default_rng(SEED))
    wrong = world.wrong[seen.rows]
    peers = {
        name: float(average_precision_score(wrong, -statistic(world.record)[seen.rows]))
        for name, statistic in STATISTICS.items()
    }
    return Held(world, seen, peers)


def taught(known: list[Held], without: str = "") -> Network:
    """A network that has not seen the worlds of one group, from the cache if nothing has changed since."""
    out = set(groups(known).get(without, ()))
    digest = hashlib.sha256(f"{without} {len(known)}".encode())
    for source in (HERE, OWN.parent):
        for path in sorted(source.glob("*.py")):
            digest.update(path.read_bytes())
    kept_at = HERE / ".cache" / f"{digest.hexdigest()[:12]}.safetensors"
    if not kept_at.exists():
        network = train([each.sheet for number, each in enumerate(known) if number not in out])
        temporary = kept_at.with_suffix(".part")
        save_file(network.state_dict(), temporary)
        temporary.replace(kept_at)
    return loaded(load_file(kept_at))


def groups(known: list[Held]) -> dict[str, list[int]]:
    """Worlds whose noise or features are of one kind."""
    found: dict[str, list[int]] = {}
    for number, each in enumerate(known):
        for name in (f"noise by {worlds.BY[each.world.kind]}", each.world.features):
            found.setdefault(name, []).append(number)
    return found


def decided(known: list[Held]) -> float:
    """The share of the plain sum that finds most on large worlds of a kind that a network was not taught on.

    Real data are of no kind that is here, so how much to trust the LSTM is asked where it is away from home: a network
    is taught without one kind of noise, or of features, and measured on that; on the large worlds, for what is audited
    is large. The rule is that of one standard error (Hastie et al., The Elements of Statistical Learning, 7.10).
    """
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    titles = "  ".join(f"{share:>6.0%}" for share in SHARES)
    say(f"{'taught without':<17} large worlds  mean AP by the share of the plain sum: {titles}     AUM")
    for name, numbers in groups(known).items():
        network = taught(known, name)
        large = [known[n] for n in numbers if known[n].large]
        mine = {share: [each.ap(network, share) for each in large] for share in SHARES}
        alone = np.mean([each.peers["AUM"] for each in large])
        values = "  ".join(f"{np.mean(mine[share]):.4f}" for share in SHARES)
        say(f"{name:<17} {len(large):>12}  {'':<37}  {values}  {alone:.4f}")
        for share in SHARES:
            found[share] += mine[share]
    say(f"{'all of these':<69}  {'  '.join(f'{np.mean(found[share]):.4f}' for share in SHARES)}")
    best = max(SHARES, key=lambda share: np.mean(found[share]))
    # Of shares that cannot be told from the best, the one with most of the simpler model.
    for share in SHARES:
        less = np.array(found[best]) - np.array(found[share])
        if less.mean() <= less.std(ddof=1) / np.sqrt(len(less)):
            chosen = share
    say(f"best at {best:.0%}; the largest share within one standard error of it: {chosen:.0%}\n")
    return chosen


def main() -> None:
    """Make the worlds, decide, train, say how it compares on those held out, and write."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--worlds", type=int, default=400)
    options.add_argument("--out", type=Path, default=OWN)
    given = options.parse_args()
    torch.set_num_threads(1)
    with parallel.limit_blas(1):
        everything = [held(kept(number)) for number in range(given.worlds)]
        known = [each for number, each in enumerate(everything) if number % HELD_OUT_EVERY]
        unseen = everything[::HELD_OUT_EVERY]
        share = decided(known)
        network = taught(known)
        found = np.array([each.ap(network, share) for each in unseen])
    sizes = {
        "held out": np.ones(len(unseen), dtype=bool),
        "and large": np.array([each.large for each in unseen]),
    }
    for size, chosen in sizes.items():
        say(f"{chosen.sum()} worlds {size}: mean AP {found[chosen].mean():.4f}")
        for name in STATISTICS:
            theirs = np.array([each.peers[name] for each in unseen])
            below = np.mean(found[chosen] > theirs[chosen])
            say(f"  {name:<18} {theirs[chosen].mean():.4f}, below in {below:.0%} of the worlds")
    network.share.fill_(share)
    recipe = {
        "recipe": "data/noise_detector/make.py",
        "worlds": given.worlds,
        "seed": SEED,
        "held_out_ap": round(float(found.mean()), 4),
        "torch": version("torch").split("+")[0],
    }
    tensors = {name: values.contiguous() for name, values in network.state_dict().items()}
    save_file(tensors, given.out, {"made": json.dumps(recipe, sort_keys=True)})
    digest = hashlib.sha256(given.out.read_bytes()).hexdigest()
    say(f"{given.out.name}: {given.out.stat().st_size:,} bytes, sha256 {digest}")
    if given.out == OWN:
        text = README.read_text()
        before = text[: text.index(FENCE) + len(FENCE)]
        README.write_text(before + "\n".join(said) + "\n```\n")


if __name__ == "__main__":
    main()
