"""The command `equipot`."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from equipot import EquipotError, __version__

app = typer.Typer(
    help="Equivariant interatomic potentials: fit, evaluate, inspect and convert them, and find the LAMMPS plugin.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Å is no reason to stop
    app()


def _one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that a user can cause into a sentence on stderr and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except MemoryError:
            print("equipot: this needs more memory than there is", file=sys.stderr)
            raise typer.Exit(1) from None
        except (EquipotError, OSError, ImportError) as error:
            print(f"equipot: {error}", file=sys.stderr)
            raise typer.Exit(1) from None

    return wrapped


def _console() -> Console:
    # Into a file or a pipe, tables keep their width instead of folding at 80 columns.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"equipot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
@_one_sentence
def info(file: Annotated[Path, typer.Argument(help="A *.equipot file.")]) -> None:
    """Print what a model file holds: architecture, species, cutoff, parameters, size, card."""
    from equipot.info import show

    _console().print(show(file))


@app.command()
@_one_sentence
def convert(
    source: Annotated[Path, typer.Argument(help="A mace-torch checkpoint (*.model).")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; SOURCE with the ending .equipot if left out."),
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="Keep only this head; may be given several times. All if left out.")
    ] = None,
    species: Annotated[
        str | None, typer.Option(help="Keep only these elements, for instance H,C,O. All if left out.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")] = False,
) -> None:
    """Convert a MACE model into a *.equipot file."""
    from equipot.convert import convert_file

    if source.is_dir():
        raise EquipotError(f"'{source}' is a folder, not a model file")
    plain = source.with_suffix("") if source.suffix == ".xz" else source  # model.model.xz -> model.equipot
    destination = output or plain.with_suffix(".equipot")
    symbols = [symbol.strip() for symbol in species.split(",") if symbol.strip()] if species is not None else None
    convert_file(source, destination, heads=head or None, species=symbols, overwrite=overwrite)
    print(f"{destination} written")


@app.command("lammps-plugin")
@_one_sentence
def lammps_plugin(
    folder: Annotated[bool, typer.Option("--folder", help="Print the folder, for LAMMPS_PLUGIN_PATH.")] = False,
) -> None:
    """Print the path of the LAMMPS plugin, for `plugin load` or LAMMPS_PLUGIN_PATH."""
    from equipot.lammps import plugin_folder, plugin_path

    path = plugin_path()
    print(plugin_folder() if folder else path)


@app.command(hidden=True)
@_one_sentence
def golden(
    folder: Annotated[
        Path, typer.Argument(help="A folder with NAME/*.model.xz and NAME/reference.npz, made by mace-torch.")
    ],
) -> None:
    """Compare reference models of mace-torch with their conversion, quantity by quantity."""
    from equipot.golden import print_table

    if not print_table(folder, _console()):
        raise typer.Exit(1)


data_app = typer.Typer(help="Look through reference data.", no_args_is_help=True)
app.add_typer(data_app, name="data")

_EnergyKey = Annotated[str | None, typer.Option(help="Key of the energies; recognised automatically if left out.")]
_ForcesKey = Annotated[str | None, typer.Option(help="Key of the forces.")]
_StressKey = Annotated[str | None, typer.Option(help="Key of the stresses, eV/Å³ with tension positive.")]
_VirialKey = Annotated[str | None, typer.Option(help="Key of the virials, eV.")]
_ConfigTypeKey = Annotated[str, typer.Option(help="Key that sorts structures into groups.")]


@data_app.command("check")
@_one_sentence
def data_check(
    files: Annotated[list[str], typer.Argument(help="Files that ASE reads; also patterns, also FILE@::10.")],
    energy_key: _EnergyKey = None,
    forces_key: _ForcesKey = None,
    stress_key: _StressKey = None,
    virial_key: _VirialKey = None,
    config_type_key: _ConfigTypeKey = "config_type",
    picture: Annotated[Path | None, typer.Option(help="Draw the data into this file, for instance data.png.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything found into this file.")] = None,
) -> None:
    """Summarise data files and report problems; exit status 1 if nothing can be fitted to them."""
    from equipot.data.show import check_files

    keys = {"energy_key": energy_key, "forces_key": forces_key, "stress_key": stress_key, "virial_key": virial_key}
    if not check_files(files, _console(), picture, json, config_type_key=config_type_key, **keys):
        raise typer.Exit(1)


@app.command("eval")
@_one_sentence
def evaluate(
    model: Annotated[Path, typer.Argument(help="A *.equipot file.")],
    files: Annotated[list[str], typer.Argument(metavar="DATA...", help="Files that ASE reads.")],
    head: Annotated[str | None, typer.Option(help="Which of the model's heads to use.")] = None,
    dtype: Annotated[str, typer.Option(help="float64, float32 or mixed.")] = "float64",
    energy_key: _EnergyKey = None,
    forces_key: _ForcesKey = None,
    stress_key: _StressKey = None,
    virial_key: _VirialKey = None,
    config_type_key: _ConfigTypeKey = "config_type",
    picture: Annotated[Path | None, typer.Option(help="Draw predicted against reference into this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the errors into this file.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the structures with predictions into this file, as extended XYZ."),
    ] = None,
) -> None:
    """Compare a model with reference data: errors of energies, forces and stresses."""
    from equipot.evaluate import evaluate_files

    keys = {"energy_key": energy_key, "forces_key": forces_key, "stress_key": stress_key, "virial_key": virial_key}
    evaluate_files(
        model, files, _console(), head, dtype, picture, json, output, config_type_key=config_type_key, **keys
    )


@app.command()
@_one_sentence
def fit(
    settings: Annotated[Path | None, typer.Argument(help="A TOML file that describes the fit.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; else the one in SETTINGS, else their name without .toml."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Start anew: the folder of the old run is kept as FOLDER.1, FOLDER.2, …")
    ] = False,
    scan: Annotated[bool, typer.Option("--scan", help='Of kind "linear": try several sizes and weights.')] = False,
    example: Annotated[
        str | None, typer.Option(metavar="KIND", help='Print a settings file of kind "train" or "linear", explained.')
    ] = None,
) -> None:
    """Fit a potential to data."""
    from equipot.fit import example_file, fit_file

    if example is not None:
        print(example_file(example), end="")
    elif settings is None:
        raise EquipotError("no settings file given; make one with: equipot fit --example train > fit.toml")
    else:
        print(fit_file(settings, folder, resume=resume, again=again, scan=scan))


if __name__ == "__main__":
    main()
