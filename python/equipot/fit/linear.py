"""Fit linear potentials: from data and settings, by way of a choice of sizes if it is asked for, to a model file.

>>> from equipot.fit.linear import linear
>>> linear(data={"train": "train.xyz", "test": "test.xyz"}, folder="copper")
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from equipot import EquipotError
from equipot.data.progress import lasting_console, without_bars
from equipot.files import write_file
from equipot.fit.datasets import DataSets, read_sets
from equipot.fit.linear_fit import LinearFit
from equipot.fit.linear_scan import scan_sizes
from equipot.fit.linear_settings import LinearSettings
from equipot.fit.runfolder import check_folder, set_aside
from equipot.fit.settings import SettingsError, gather, to_dict, to_toml, use_threads


def linear(
    settings: str | Path | Mapping[str, Any] | LinearSettings | None = None,
    folder: str | Path | None = None,
    *,
    again: bool = False,
    sets: DataSets | None = None,
    scan: bool = False,
    quiet: bool = False,
    **sections: Any,
) -> Path:
    """Fit a linear potential.

    Parameters
    ----------
    settings : path-like, mapping or LinearSettings, optional
        A TOML file, or what it would say.
    folder : path-like, optional
        The run's folder, instead of that in the settings. It must not hold anything unless `again`.
    again : bool
        Start anew where there is a run already, whose folder is kept under another name.
    sets : DataSets, optional
        Data in memory instead of files.
    scan : bool
        Try several sizes of the basis first, and take the one that is recommended.
    quiet : bool
        Show nothing.
    **sections
        Settings by name, on top of `settings`: values, or tables for sections, as in ``basis={"channels": 32}``.

    Returns
    -------
    pathlib.Path
        The model file. Beside it lie the settings, tables of errors, pictures and ``report.html``.

    Raises
    ------
    EquipotError
        For wrong settings and data, and folders in use.
    """
    chosen, _, base, default = gather(LinearSettings, settings, sections, in_memory=sets is not None)
    chosen = chosen.relative_to(base)
    path = Path(folder or chosen.folder or default)
    if sets is None and not chosen.data.train:
        raise SettingsError("[data]: train names no file.")
    if scan and chosen.basis.channels_from is not None:
        raise SettingsError("[basis]: channels_from fixes the size of the basis; there is nothing to scan.")
    console = lasting_console(piped_width=140, quiet=quiet, soft_wrap=True)

    def note(text: str) -> None:
        console.print(text, markup=False)

    use_threads(chosen.threads, note)
    kept = set_aside(path, note) if again else nullcontext()
    with kept, without_bars(quiet):
        check_folder(path)
        return _fit(chosen, sets, path, scan, console)


def _fit(settings: LinearSettings, sets: DataSets | None, path: Path, scan: bool, console: Console) -> Path:
    # read before the folder is made: a mistake in the data leaves nothing behind
    data = sets if sets is not None else read_sets(settings.data, settings.seed)
    fit = LinearFit(settings, data, console)
    fit.accumulate()
    with _folder(path):
        pictures: dict[str, Path] = {}
        if scan:
            part, picture = scan_sizes(fit, path)
            fit = fit.reduced(part)
            if picture is not None:
                pictures["Error against cost"] = picture
        write_file(path / "settings.toml", to_toml(to_dict(fit.settings)))
        fit.solve()
        return fit.finish(path, pictures)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """The run's folder, which is empty again when a fit fails or is stopped before there is a model."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EquipotError(f"Cannot make the run's folder '{path}': {error.strerror}.") from error
    try:
        yield
    except BaseException:
        if not (path / "model.equipot").exists():
            for name in ("settings.toml", "scan.json", "scan.png"):
                (path / name).unlink(missing_ok=True)
        raise
