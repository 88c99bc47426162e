"""The command `equipot`."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from equipot import EquipotError, __version__

app = typer.Typer(
    help="Equivariant interatomic potentials: look into model files, convert them, and find the LAMMPS plugin.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Entry point of the command."""
    app()


def _one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that a user can cause into a sentence on stderr and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
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


@app.command()
@_one_sentence
def golden(
    folder: Annotated[
        Path, typer.Argument(help="A folder with NAME/*.model.xz and NAME/reference.npz, made by mace-torch.")
    ] = Path("../shared/golden/mace"),
) -> None:
    """Compare reference models of mace-torch with their conversion, quantity by quantity."""
    from equipot.golden import print_table

    if not print_table(folder, _console()):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
