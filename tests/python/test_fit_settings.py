"""Settings of fits: what is refused and how, the example file, and the command's part."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import equipot
from equipot.fit import LinearSettings, TrainSettings, example_file, fit_file
from equipot.fit.settings import Settings, SettingsError, build, descriptions, read_toml, to_dict, to_toml

DATA = {"data": {"train": "train.xyz"}}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, ["[data]", "missing"]),
        ({"data": {}}, ["'train'", "[data]", "missing"]),
        ({**DATA, "epoch": 3}, ["'epoch'", "'epochs'"]),
        ({**DATA, "model": {"chanels": 3}}, ["[model]", "'chanels'", "'channels'"]),
        ({**DATA, "cutoff": 5.0}, ["'cutoff'", "belongs in [model]"]),
        ({**DATA, "optimizer": {"epochs": 5}}, ["'epochs'", "top of the file"]),
        ({**DATA, "loss": {"learning_rte": 5}}, ["[loss]", "'learning_rate'", "[optimizer]"]),
        ({**DATA, "model": {"channels": 0}}, ["channels", "at least 1", "0"]),
        ({**DATA, "model": {"channels": 3.5}}, ["channels", "whole number", "3.5"]),
        ({**DATA, "model": {"channels": True}}, ["channels", "whole number", "true"]),
        ({**DATA, "model": {"cutoff": "5"}}, ["cutoff", "a number", '"5"']),
        ({**DATA, "model": {"cutoff": float("nan")}}, ["cutoff", "finite"]),
        ({**DATA, "model": {"radial_widths": [64, 0]}}, ["radial_widths", "at least 1"]),
        ({**DATA, "model": 3}, ["[model]", "section"]),
        ({**DATA, "optimizer": {"algorithm": "amsgard"}}, ["algorithm", "'amsgrad'"]),
        ({**DATA, "optimizer": {"learning_rate": 0}}, ["learning_rate", "above 0"]),
        ({**DATA, "loss": {"config_weights": {"bulk": -1.0}}}, ["config_weights", "bulk", "at least 0"]),
        ({**DATA, "loss": {"energy": 0, "forces": 0, "stress": 0}}, ["[loss]", "weight"]),
        ({**DATA, "start": {"freeze": ["embedding"]}}, ["freeze", "model to start from"]),
        ({"data": {"train": [1]}}, ["train", "text"]),
        ({**DATA, "device": "cuda"}, ["'device'", "fits run on the CPU"]),
    ],
)
def test_wrong_settings_are_named_with_the_right_ones(table: dict, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        build(TrainSettings, table, "fit.toml")
    message = str(caught.value)
    assert message.startswith("fit.toml")
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("cls", "table", "sentence"),
    [
        (TrainSettings, {**DATA, "optimizer": {"algorithm": "amsgard"}}, r"did you mean 'amsgrad'\?$"),
        (TrainSettings, {**DATA, "loss": {"learning_rte": 5}}, r"did you mean 'learning_rate' in \[optimizer\]\?$"),
        (TrainSettings, {**DATA, "epoch": 3}, r"did you mean 'epochs'\? Known here are data, kind, .*\.$"),
        (LinearSettings, {"data": {"train": "a.xyz", "heads": 1}}, r"'heads'; known here are train, .*\.$"),
        (
            LinearSettings,
            {**DATA, "basis": {"l_sums": [1] * 5}},
            r"^settings, \[basis\]: l_sums has one number per order",
        ),
        (TrainSettings, {**DATA, "start": {"head": "a"}}, r"^settings: \[start\] head needs a model"),
    ],
)
def test_advice_is_a_question_and_sections_are_named_once(cls: type[Settings], table: dict, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        build(cls, table)


def test_settings_survive_being_written(tmp_path: Path) -> None:
    table = {
        "data": {"train": ["a.xyz", "b.xyz"], "atomic_energies": {"H": -13.6}},
        "optimizer": {"learning_rate": 1e-7},
        "loss": {"config_weights": {"a b": 2.0}},
        "model": {"radial_widths": []},
        "max_hours": 2,
    }
    settings = build(TrainSettings, table)
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(to_dict(settings)))
    assert build(TrainSettings, read_toml(path)) == settings
    assert settings.max_hours == 2.0
    assert isinstance(settings.max_hours, float)


def test_example_holds_every_setting_and_the_defaults(tmp_path: Path) -> None:
    text = example_file("train")
    path = tmp_path / "fit.toml"
    path.write_text(text)
    assert build(TrainSettings, read_toml(path)) == build(TrainSettings, DATA)
    # with the comment signs of settings taken away (they have no space behind them) it must still be right
    plain = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.split("\n")]
    path.write_text("\n".join(plain))
    table = read_toml(path)
    build(TrainSettings, {**table, "start": {**table["start"], "model": "m.equipot"}})

    def check(settings: Settings, part: dict) -> None:
        texts = descriptions(type(settings))
        for field in dataclasses.fields(settings):
            assert texts.get(field.name), f"{type(settings).__name__}.{field.name} is not described"
            assert field.name in part, f"{type(settings).__name__}.{field.name} is not in the example"
            section = getattr(settings, field.name)
            if isinstance(section, Settings):
                check(section, part[field.name])

    check(build(TrainSettings, DATA), table)


def test_paths_are_relative_to_the_settings_file() -> None:
    settings = build(TrainSettings, {"data": {"train": "train.xyz", "test": "/far/test.xyz"}, "start": {"model": "m"}})
    moved = settings.relative_to(Path("/somewhere"))
    assert moved.data.train == ("/somewhere/train.xyz",)
    assert moved.data.test == ("/far/test.xyz",)
    assert moved.start.model == "/somewhere/m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["kind", "missing"]),
        ('knd = "train"', ["kind", "'knd'"]),
        ('kind = "trian"', ["'trian'; did you mean 'train'?"]),
        ("kind = train", ["TOML", "line 1"]),
        ('kind = "train"\n[data]\ntrain = []', ["[data]", "names no file"]),
        ('kind = "train"\n[data]\ntrain = "absent.xyz"', ["absent.xyz"]),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "fit.toml"
    path.write_text(text)
    with pytest.raises(equipot.EquipotError) as caught:
        fit_file(path)
    for word in words:
        assert word in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.toml"], "a mistake must leave nothing behind"


def test_missing_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        fit_file(tmp_path / "absent.toml")
