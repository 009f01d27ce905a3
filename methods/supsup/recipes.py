"""SupSup's published parameters."""

from clbench.method import Recipe

from .._check import for_check

EDGE_POPUP = {"edges": 16.0, "optimiser": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4}
FULL_BATCH = {"algorithm": "binary", "group": 128, "evidence": 128}
RESNET_50 = {"weight_decay": 0.0, "schedule": "warm-up-cosine"}
FIGURE_2 = "Wortsman et al. 2020, section 4.1 (Figure 2), and the authors' scripts"
PAPER = "Wortsman et al. 2020, sections 4.2 and 4.3, and the authors' scripts"

RECIPES = (
    Recipe("split-*", "resnet-18-*", {"outputs": 5, "schedule": "cosine"} | EDGE_POPUP, source=FIGURE_2, scenario="GG"),
    Recipe("split-*", "resnet-18-*", {"outputs": 100, "schedule": "cosine"} | EDGE_POPUP, source=FIGURE_2, scenario="GN*"),
    Recipe("split-*", "resnet-50", {"outputs": 10} | EDGE_POPUP | RESNET_50, source=FIGURE_2, scenario="GG"),
    Recipe("rotated-*", "fc-*", {"outputs": 200}, FULL_BATCH, f"{PAPER} (Figure 5 left)"),
    for_check({"outputs": 100}),
    Recipe("*", "fc-*", {"outputs": 500}, source=f"{PAPER} (Figure 3 right)"),
    Recipe("*", "*", {"outputs": 100}, source=f"{PAPER} (Figure 3 left)"),
)
