"""The four troubles of adversarial training, each on a case of minutes, with a picture and its numbers.

    python scripts/gan_troubles.py                          # all four, pictures into docs/
    python scripts/gan_troubles.py --only supports collapse --out /tmp/pictures

equilibrium    the bilinear game, and 8 Gaussians: updates at once, by turns, and with a step ahead
supports       a critic that tells data from what a generator that stays as it is makes, and what instance noise changes
gradient       the generator's gradient while the critic learns: minimax, non-saturating, Wasserstein
collapse       8 Gaussians by the first GAN and by others: modes covered and good samples

Every run is `genlab train`, and every number is of its metrics.jsonl or of metric=modes. Runs go into a folder of their
own, `--runs`, and are taken from there where they are complete.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from genlab.cli import main as genlab
from genlab.core.rng import Rng
from genlab.data.toy2d import Toy2D
from genlab.runner.load import load

# Players of the plane that are quick and still can collapse.
PLANE = (
    *("model=gan", "data=toy2d", "data.name=8gaussians", "noise=normal", "noise.size=16", "optim.ema_decay=0"),
    *("generator.hidden=[64,64]", "critic.hidden=[64,64]", "trainer.batch_size=128", "trainer.preview_every=0"),
)
RING_STEPS = 2000
# A critic that is slower than the generator, which then chases what it says (Metz et al., 2017).
SLOW = "optim.players.critic.lr=1e-4"
# A generator that stays as it is, for a critic to learn it.
STILL = "optim.players.generator.lr=1e-12"


class Runs:
    """Runs of `genlab train`, each made once.

    Arguments:
        folder: of all.
        scale: of the number of steps.
    """

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder, self.scale = folder, scale

    def rows(self, name: str, steps: int, *words: str) -> list[dict[str, Any]]:
        """What the run logged."""
        run, last = self.folder / name, max(1, round(steps * self.scale))
        if not run.exists():
            options = (f"hydra.run.dir={run}", f"trainer.max_steps={last}", "trainer.progress=false")
            if genlab(["train", *words, *options]) != 0:
                sys.exit(f"{name} was not trained")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        if not rows or rows[-1]["step"] != last:
            sys.exit(f"{run} has not the {last} steps that are asked for; take it away, or name other --runs")
        return rows

    def ring(self, name: str, *words: str) -> list[dict[str, Any]]:
        """A run on 8 Gaussians, which several troubles look at."""
        return self.rows(f"ring_{short(name)}", RING_STEPS, *PLANE, "optim.lr=1e-3", "trainer.log_every=100", *words)

    def modes(self, name: str) -> dict[str, float]:
        """What metric=modes says of the run, by its last weights."""
        run = self.folder / name
        if genlab(["eval", f"ckpt={run}", "metric=modes", "metric.n=10000", "weights=raw"]) != 0:
            sys.exit(f"{name} was not measured")
        lines = (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
        return {row["name"].removeprefix("modes/"): row["value"] for row in map(json.loads, lines[-3:])}

    def samples(self, name: str, n: int = 2000) -> torch.Tensor:
        with torch.no_grad():
            return load(self.folder / name, weights="raw").sample({}, Rng(0, torch.arange(n)))["x"]


def short(name: str) -> str:
    """A name as part of a folder's."""
    return name.replace(",", "").replace(" ", "_")


def column(rows: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of a number, where it was logged."""
    found = [(row["step"], row[f"train/{key}"]) for row in rows if f"train/{key}" in row]
    return [step for step, _ in found], [value for _, value in found]


def path(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """(theta, psi) of the bilinear game before each step, from (1, 1) on.

    The gradient norms are |theta| and |psi|; the game turns one way, so that a new sign of their product, the score of
    what is made, is the next quadrant.
    """
    theta, psi, quadrant, before = [], [], 0, 1.0
    for row in rows:
        sign = math.copysign(1.0, row["train/critic/made"])
        quadrant += sign != before
        before = sign
        # Counted from the first quadrant against psi's fall: (+, +), (+, -), (-, -), (-, +).
        signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))[quadrant % 4]
        theta.append(signs[0] * row["train/critic/gradient_norm"])
        psi.append(signs[1] * row["train/generator/gradient_norm"])
    return theta, psi


def equilibrium(runs: Runs, out: Path) -> None:
    """Games that turn around their equilibrium."""
    ways: dict[str, tuple[str, ...]] = {
        "at once": ("model.updates=simultaneous",),
        "by turns": (),
        "a step ahead": ("model.updates=simultaneous",),
    }
    figure, (plane, distance, drift) = panels(3)
    for number, (way, words) in enumerate(ways.items()):
        ahead = way == "a step ahead"
        descent = ("optim=optimistic_descent",) if ahead else ()
        rows = runs.rows(f"bilinear_{short(way)}", 400, "experiment=gan_bilinear", "optim.lr=0.1", *words, *descent)
        theta, psi = path(rows)
        radius = [math.hypot(*pair) for pair in zip(theta, psi, strict=True)]
        plane.plot(theta, psi, color=f"C{number}", lw=0.8, label=way)
        distance.plot(range(len(radius)), radius, color=f"C{number}")
        print(f"equilibrium: bilinear, {way}: distance {radius[0]:.3g} at first, {radius[-1]:.3g} at last")
    on_ring: dict[str, tuple[str, ...]] = {
        "slow critic, at once": (SLOW, "model.updates=simultaneous"),
        "slow critic": (SLOW,),
        "slow critic, a step ahead": (SLOW, "model.updates=simultaneous", "optim=optimistic_adam"),
        "nonsaturating": (),
    }
    for way, words in on_ring.items():
        steps, moved = column(runs.ring(way, *words), "generator/drift")
        drift.plot(steps, moved, label="equal speeds" if way == "nonsaturating" else way)
        late = moved[len(moved) // 2 :]
        print(f"equilibrium: 8 Gaussians, {way}: drift {sum(late) / len(late):.3f} in the second half")
    drift.legend(fontsize=6)
    plane.plot([0], [0], "k+")
    plane.set(title="the bilinear game", xlabel="theta", ylabel="psi", xlim=(-4, 4), ylim=(-4, 4))
    plane.legend(fontsize=7)
    distance.set(title="distance from the equilibrium", xlabel="step", yscale="log")
    drift.set(title="8 Gaussians: drift in 100 steps", xlabel="step", yscale="log")
    save(figure, out / "trouble_equilibrium.png")


def supports(runs: Runs, out: Path) -> None:
    """Two points, and digits beside what an untrained generator makes of two numbers: supports that do not meet.

    Points at distance 1 with noise of sigma are told apart with an accuracy of Phi(1 / (sqrt(2) sigma)) at best.
    """
    figure, (accuracy, gradient) = panels(2)
    still = (STILL, "objective=minimax", "optim.lr=1e-3", "trainer.log_every=10", "trainer.preview_every=0")
    points = ("model=gan", "data=dirac", "generator=point", "noise.size=1", "critic.hidden=[64,64]")
    digits = ("model=gan", "data=digits", "noise=normal", "noise.size=2", "critic.hidden=[128,128]")
    cases = {
        "points": (0.0, points),
        "points, noise 0.25": (0.25, points),
        "points, noise 0.5": (0.5, points),
        "points, noise 1": (1.0, points),
        "digits": (0.0, (*digits, "generator.hidden=[64,64]")),
        "digits, noise 4": (4.0, (*digits, "generator.hidden=[64,64]")),
    }
    for number, (name, (sigma, words)) in enumerate(cases.items()):
        noise = ("augment=instance_noise", f"augment.sigma={sigma}") if sigma else ()
        rows = runs.rows(f"supports_{short(name)}", 600, *words, *still, *noise, "trainer.batch_size=128")
        accuracy.plot(*column(rows, "critic/accuracy"), color=f"C{number}", label=name)
        norms = column(rows, "generator/gradient_norm")
        gradient.plot(*norms, color=f"C{number}")
        late = column(rows, "critic/accuracy")[1][-10:]
        best = ""
        if sigma and "points" in name:
            bound = 0.5 * (1 + math.erf(1 / (2 * sigma)))
            accuracy.axhline(bound, color=f"C{number}", lw=0.6, ls=":")
            best = f" ({bound:.4f} at best)"
        print(f"supports: {name}: accuracy {sum(late) / len(late):.4f}{best}, ", end="")
        print(f"the generator's gradient {norms[1][0]:.2e} at first, {norms[1][-1]:.2e} at last")
    accuracy.set(title="the critic's accuracy", xlabel="step of the critic", ylim=(0.4, 1.02))
    accuracy.legend(fontsize=7)
    gradient.set(title="the generator's gradient, minimax", xlabel="step of the critic", yscale="log")
    save(figure, out / "trouble_supports.png")


def gradient(runs: Runs, out: Path) -> None:
    """What the generator is told by a critic that learns against it as it is."""
    ways = {
        "minimax": ("objective=minimax",),
        "nonsaturating": ("objective=nonsaturating",),
        "wasserstein": ("objective=wasserstein", "penalty=gradient_penalty"),
    }
    figure, (norm, against) = panels(2)
    for number, way in enumerate(ways):
        words = (*PLANE, *ways[way], STILL, "optim.lr=1e-3", "trainer.log_every=10")
        rows = runs.rows(f"gradient_{way}", 800, *words)
        norms, accuracies = column(rows, "generator/gradient_norm"), column(rows, "critic/accuracy")
        norm.plot(*norms, color=f"C{number}", label=way)
        against.plot(accuracies[1], norms[1], ".", color=f"C{number}")
        print(f"gradient: {way}: {norms[1][0]:.2e} at first, {norms[1][-1]:.2e} at last, ", end="")
        print(f"where the accuracy is {accuracies[1][-1]:.4f}")
    norm.set(title="the generator's gradient norm", xlabel="step of the critic", yscale="log")
    norm.legend(fontsize=7)
    against.set(title="against the critic's accuracy", xlabel="accuracy", yscale="log")
    save(figure, out / "trouble_gradient.png")


def collapse(runs: Runs, out: Path) -> None:
    """8 Gaussians, of which a generator may make one or all."""
    ways: dict[str, tuple[str, ...]] = {
        "slow critic": (SLOW,),
        "minimax": ("objective=minimax",),
        "nonsaturating": (),
        "nonsaturating, R1": ("penalty=r1", "penalty.weight=0.1"),
        "wasserstein": ("objective=wasserstein", "penalty=gradient_penalty", "penalty.weight=0.1"),
    }
    data = Toy2D("8gaussians").split("test").x[:2000]
    figure, axes = panels(len(ways) + 1)
    pictures = {"data": (data, "")}
    for way, words in ways.items():
        name, rows = f"ring_{short(way)}", runs.ring(way, *words)
        found, spread = runs.modes(name), rows[-1]["train/generator/spread"]
        said = f"{found['covered']:.0f} of 8, {found['good']:.0%} good"
        pictures[way] = (runs.samples(name), said)
        print(f"collapse: {way}: {said}, reverse KL {found['reverse-kl']:.3f}, spread {spread:.2f}")
    for place, (title, (x, said)) in zip(axes, pictures.items(), strict=True):
        place.scatter(x[:, 0], x[:, 1], s=1, alpha=0.3)
        place.set(title=f"{title}\n{said}", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal")
        place.title.set_fontsize(8)
    save(figure, out / "trouble_collapse.png")


def panels(count: int) -> tuple[Any, Any]:
    """A figure and its axes, in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * count, 3.2), dpi=110, layout="constrained")
    return figure, figure.subplots(1, count)


def save(figure: Any, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place)
    print(place)


TROUBLES = {"equilibrium": equilibrium, "supports": supports, "gradient": gradient, "collapse": collapse}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TROUBLES, default=list(TROUBLES), help="these of the four")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs", help="of the pictures")
    parser.add_argument("--runs", type=Path, default=Path("outputs/troubles"), help="of the runs")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps, 0.1 for a glance")
    options = parser.parse_args()
    runs = Runs(options.runs, options.scale)
    for name in options.only:
        TROUBLES[name](runs, options.out)


if __name__ == "__main__":
    main()
