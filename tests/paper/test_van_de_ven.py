"""The table beside van de Ven & Tolias's numbers: from runs, with the difference."""

from pathlib import Path

import pandas as pd
import pytest

from clbench import api
from clbench.errors import UserError
from clbench.paper import van_de_ven


def test_runs_stand_beside_what_was_published(tmp_path: Path) -> None:
    results = tmp_path / "results"
    small = {
        "stream": "split-mnist-raw",
        "network": "mlp-8",
        "updates": 5,
        "data": "mnist-5k",
        "checkpoints": (5,),
        "results": results,
    }
    scores = api.run(method="si", scenario="gns", seeds=(0, 1), **small)
    api.run(method="naive", scenario="gg", **small)
    api.run(method="psp", scenario="gg", **small)
    van_de_ven.main(results, tmp_path / "table")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table[["scenario", "method", "n", "published"]].to_numpy().tolist() == [
        ["GG (task)", "naive", 1, 87.2],
        ["GNs (domain)", "si", 2, 65.4],
    ]
    si = table.iloc[1]
    assert si["accuracy"] == pytest.approx(100 * scores.groupby("stream_seed")["accuracy"].mean().mean())
    assert si["difference"] == pytest.approx(si["accuracy"] - 65.4)
    text = (tmp_path / "table.md").read_text()
    assert f"{si['difference']:+.2f}" in text
    assert " ± " in text
    assert set(table["source"]) == {"arXiv 1904.07734, Table 4 (second-hand)"}
    assert text.count("arXiv 1904.07734, Table 4 (second-hand)") == 2


def test_without_runs_one_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no complete runs on permuted-mnist-32 or split-mnist-raw"):
        van_de_ven.main(tmp_path, tmp_path / "table")
