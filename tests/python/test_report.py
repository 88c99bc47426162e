"""The report of a fit: one page that needs nothing else, whatever is missing."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from ase import Atoms

from equipot import EquipotError
from equipot.data import DataSet, Finding, Structure
from equipot.evaluate import Prediction, error_table
from equipot.fit.report import learning_curve_picture, write_report

HOSTILE = "<script>alert('&')</script>"


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    structures, predictions = [], []
    for k in range(4):
        atoms = Atoms("SiC", rng.normal(size=(2, 3)), cell=[4, 4, 4], pbc=True)
        forces = rng.normal(size=(2, 3))
        structures.append(
            Structure(atoms, -5.0, forces, np.eye(3), config_type=f"type {k % 2}", source=f"{HOSTILE}#{k}")
        )
        predictions.append(Prediction(-5.01, forces + 0.01, 1.1 * np.eye(3)))
    return error_table(DataSet(structures), predictions)


def log(epochs: int = 30) -> list[dict]:
    return [
        {
            "epoch": k + 1,
            "train_loss": math.exp(-k / 5) if k else None,
            "valid_loss": 1.1 * math.exp(-k / 6),
            "learning_rate": 0.01,
            "best": True,
            "valid": {"energy_rmse": 0.01 * math.exp(-k / 5), "energy_mae": 0.01, "forces_rmse": 0.1},
            "by_config_type": {"bulk": {"energy_rmse": 1.0}},
            "seconds": 2.0 * k,
        }
        for k in range(epochs)
    ]


class Page(HTMLParser):
    """Checks that tags are closed and collects where a page points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report(table, tmp_path):
    picture = tmp_path / "parity.png"
    learning_curve_picture(picture, log())
    settings = {"kind": "train", "data": {"train": [HOSTILE], "energy_key": None}, "stop": True, "rate": 0.1234567}
    card = {"title": HOSTILE, "errors": {"test": {"energy": 1.0}}, "data": [{"name": "a"}, {"name": "b"}]}
    findings = [Finding("warning", "stress", HOSTILE, ("a.xyz#1",))]
    tables = {"train": table, "test": table}
    path = write_report(tmp_path, f"Fit of {HOSTILE}", settings, log(), tables, {"Parity": picture}, card, findings)
    assert path == tmp_path / "report.html"
    text = path.read_text()
    page = Page(text)
    assert not page.open
    assert "script" not in page.tags
    assert len(page.links) == 2  # the learning curve and the parity picture, both within
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://", text)
    for expected in (
        "energy MAE",
        "meV/Å",
        "type 0",
        "0.123457",
        "a.xyz#1",
        "Mean of predicted less reference",
        "worst energies",
    ):
        assert expected in text
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert errors["test"]["all"]["energy_mae"] == pytest.approx(5.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "errors.json",
        "learning_curve.png",
        "parity.png",
        "report.html",
    ]


def test_errors_of_the_card_have_units(tmp_path):
    card = {"errors": {"before the refit": {"energy_mae": 1.25, "forces_mae": 7.5, "stress_mae": None}}}
    text = write_report(tmp_path, "Fit", {}, [], {}, {}, card).read_text()
    assert "1.25 meV/atom" in text
    assert "7.5 meV/Å" in text
    assert "stress mae" not in text


def test_report_of_almost_nothing(tmp_path):
    path = write_report(tmp_path, "Empty", {}, [], {}, {}, {})
    assert not Page(path.read_text()).open
    assert json.loads((tmp_path / "errors.json").read_text()) == {}
    write_report(tmp_path, "One epoch", {}, log(1), {}, {"lost": tmp_path / "lost.png"}, {})
    assert "lost.png cannot be shown" in path.read_text()
    assert not (tmp_path / "learning_curve.png").exists()
    with pytest.raises(EquipotError, match="no such folder"):
        write_report(tmp_path / "none", "", {}, [], {}, {}, {})


def test_errors_that_are_not_finite(tmp_path):
    atoms = Atoms("Si")
    bad = Prediction(math.nan, np.full((1, 3), np.inf), np.zeros((3, 3)))
    table = error_table(DataSet([Structure(atoms, 0.0, np.zeros((1, 3)))]), [bad])
    write_report(tmp_path, "Diverged", {}, [], {"train": table}, {}, {})
    errors = json.loads((tmp_path / "errors.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert errors["train"]["all"]["energy_mae"] is None


@pytest.mark.parametrize(
    "records",
    [
        [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}],
        [{"loss": 1.0, "valid_energy_mae": 0.1, "valid_forces_mae": 0.2, "ema_valid_forces_mae": 0.1}] * 3,
        [{"epoch": k, "loss": 0.0, "stress_rmse": 0.001 * k} for k in range(100)],
        [{"epoch": 1, "loss": math.nan, "valid_loss": 1.0}, {"epoch": 2, "loss": math.inf, "note": "text"}],
        [{"epoch": k, "valid_loss": 10.0 ** (3 - k)} for k in range(12)],
    ],
)
def test_learning_curves_of_any_log(records, tmp_path):
    learning_curve_picture(tmp_path / "a.png", records)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_log_without_numbers(tmp_path):
    with pytest.raises(EquipotError, match="neither losses nor errors"):
        learning_curve_picture(tmp_path / "a.png", [{"epoch": 1}, {"epoch": 2}])
    # Such a log must not keep a fit from its report.
    path = write_report(tmp_path, "Quiet", {}, [{"epoch": 1}, {"epoch": 2}], {}, {}, {})
    assert path.exists()
