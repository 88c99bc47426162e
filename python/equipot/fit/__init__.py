"""Fitting potentials to data: models of MACE's kind by gradient descent, linear models by linear algebra.

>>> import equipot.fit
>>> equipot.fit.train(data={"train": "train.xyz"}, model={"channels": 16}, folder="run")
>>> equipot.fit.linear(data={"train": "train.xyz"}, folder="linear")
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipot.fit.datasets import DataSets
from equipot.fit.linear import linear
from equipot.fit.linear_settings import LinearSettings
from equipot.fit.settings import Settings, SettingsError, advice, example, nearest, read_toml
from equipot.fit.train import train
from equipot.fit.training_settings import TrainSettings

__all__ = [
    "DataSets",
    "LinearSettings",
    "SettingsError",
    "TrainSettings",
    "example_file",
    "fit_file",
    "linear",
    "train",
]

KINDS: dict[str, type[Settings]] = {"train": TrainSettings, "linear": LinearSettings}
"""What `kind` in a settings file may be."""


def fit_file(
    path: str | Path,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    again: bool = False,
    scan: bool = False,
    quiet: bool = False,
) -> Path:
    """Fit what a settings file describes.

    Parameters
    ----------
    path : path-like
        A TOML file; its `kind` says which fit.
    folder : path-like, optional
        The run's folder instead of that in the file.
    resume : bool
        kind "train": go on with the run in the folder.
    again : bool
        Start anew where there is a run already, whose folder is kept under another name.
    scan : bool
        kind "linear": try several sizes of the basis first.
    quiet : bool
        Show nothing.

    Returns
    -------
    pathlib.Path
        The model file.
    """
    table = read_toml(path)
    kind = _kind(table, str(path))
    if kind == "train":
        if scan:
            raise SettingsError('--scan is for kind = "linear".')
        return train(path, folder, resume=resume, again=again, quiet=quiet)
    if resume:
        raise SettingsError(
            '--resume is for kind = "train": a linear fit starts over, in the same folder with --again.'
        )
    return linear(path, folder, again=again, scan=scan, quiet=quiet)


def example_file(kind: str) -> str:
    """Give a settings file for a kind of fit, with every setting explained."""
    if kind not in KINDS:
        raise SettingsError(_wrong_kind(kind, "--example"))
    head = [
        "# Settings for `equipot fit FILE`, in Å and eV.",
        "# What is commented out shows the default, or an example where there is none.",
        "",
    ]
    return example(KINDS[kind], "\n".join(head))


def _kind(table: dict[str, Any], name: str) -> str:
    kind = table.get("kind")
    if kind is None:
        close = nearest("kind", [k for k in table if isinstance(table[k], str)])
        advice = f" (is '{close}' meant to be it?)" if close else ""
        raise SettingsError(f'{name}: kind is missing: write kind = "train" or kind = "linear" at the top{advice}.')
    if kind not in KINDS:
        raise SettingsError(_wrong_kind(kind, name))
    return str(kind)


def _wrong_kind(kind: Any, where: str) -> str:
    end = advice(kind, list(KINDS)) if isinstance(kind, str) else "."
    return f'{where}: kind must be "train" or "linear", not {kind!r}{end}'
