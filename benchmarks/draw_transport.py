"""Draw docs/transport.png: plans between two small sets of points, as docs/transport.md explains them.

python benchmarks/draw_transport.py
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from alignment import token_transport

X = torch.tensor([[0.0, 0.1], [0.2, 0.5], [0.1, 0.9], [0.35, 0.75], [0.3, 0.2], [0.9, 1.15]])
Y = torch.tensor([[1.0, 0.0], [1.1, 0.35], [0.95, 0.6], [1.15, 0.8]])
PANELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("eps 0.02: nearly one to one", {"eps": 0.02, "max_iter": 2000}),
    ("eps 0.3: blurred", {"eps": 0.3}),
    ("eps 0.02, reach 0.2: what is far stays", {"eps": 0.02, "reach": 0.2, "max_iter": 2000}),
)


def draw(axis: Axes, title: str, plan: Tensor, cost: float) -> None:
    largest = float(plan.max())
    for i, x in enumerate(X):
        for j, y in enumerate(Y):
            share = float(plan[i, j]) / largest
            if share > 0.01:
                axis.plot(*zip(x.tolist(), y.tolist()), color="0.3", linewidth=5 * share, alpha=0.6, zorder=1)
    for points, marginal, colour, marker in (
        (X, plan.sum(1), "tab:orange", "o"),
        (Y, plan.sum(0), "tab:blue", "s"),
    ):
        sizes = 40 + 900 * marginal
        axis.scatter(
            points[:, 0], points[:, 1], s=sizes, color=colour, marker=marker, edgecolor="white", zorder=2
        )
    axis.set_title(f"{title}\ncost {cost:.3f}, mass {float(plan.sum()):.2f}", fontsize=10)
    axis.set_aspect("equal")
    axis.set_axis_off()


def main() -> None:
    cost = torch.cdist(X, Y).square()[None, None, None, None]  # one image, class and prompt of each
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axis, (title, options) in zip(figure.subplots(1, len(PANELS)), PANELS):
        plan = token_transport(cost=cost, value="plan", tol=1e-6, **options)
        value = token_transport(cost=cost, tol=1e-6, **options)
        draw(axis, title, plan.squeeze(), value.item())
    figure.savefig(Path(__file__).parents[1] / "docs" / "transport.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
