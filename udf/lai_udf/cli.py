"""`lai-udf`: run the UDF here, or prepare it for a back-end. Commands parse, call and print.

Result paths go to stdout, progress and errors to stderr. Exit code 1: the work could not be done,
with one sentence why; 2: wrong use of the command.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

from lai_udf.bundle import DEFAULT_BUNDLE
from lai_udf.cli_words import name_options
from lai_udf.errors import LaiUdfError
from lai_udf.predict import OUTPUT_BANDS, LaiInputError
from lai_udf.run import Request, run_cube, run_items, run_scene
from lai_udf.scenes.cubes import CUBE_SUFFIXES, read_cube
from lai_udf.scenes.items import holds_items, open_items
from lai_udf.scenes.read import open_scene

app = typer.Typer(
    help="Leaf area index from Sentinel-2: run the function here or send it to the data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text, the same on every terminal and in every log
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lai-udf {version('sentinel2-lai')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Give the version without a command."""


DatetimeOption = Annotated[
    str | None, typer.Option(help="Time of a scene that does not say it: 2021-06-24T10:30:31Z.")
]


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Print our own errors as one sentence and exit with code 1."""
    try:
        yield
    except (LaiUdfError, LaiInputError) as error:
        typer.echo(f"lai-udf: {name_options(str(error))}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr, moved by calls with (done, total)."""
    with tqdm(desc=title, unit=unit, leave=False, disable=None) as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


def _split_bands(text: str) -> tuple[str, ...]:
    """Split `LAI,LAI_SD`; refuse names that are no output band."""
    bands = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in bands if name not in OUTPUT_BANDS]
    if unknown or not bands:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'none is named'}: give some of {', '.join(OUTPUT_BANDS)}, "
            "separated by commas",
            param_hint="--bands",
        )
    return bands


@app.command()
def run(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="GeoTIFF, STAC, SAFE, netCDF, Zarr.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the COGs.")],
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")] = None,
    target: Annotated[
        Literal["sl2p", "field"], typer.Option(help="What SNAP would say, or field LAI.")
    ] = "sl2p",
    samples: Annotated[int, typer.Option(min=0, help="Monte-Carlo draws; 0 = one pass.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    bands: Annotated[str, typer.Option(help="Output bands, comma-separated.")] = ",".join(
        OUTPUT_BANDS
    ),
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    datetime: DatetimeOption = None,
    overwrite: Annotated[bool, typer.Option(help="Compute what is finished already.")] = False,
) -> None:
    """Predict LAI of a scene: one COG per output band. Of several scenes: a folder of them each.

    A scene is a GeoTIFF, a STAC Item or a SAFE folder. Several are a STAC Collection or search
    result (one folder per Item), or a cube in netCDF or Zarr (one per date).
    """
    request = Request(model, target, samples, seed, _split_bands(bands))
    with _one_sentence(), _progress("LAI", "window") as progress:
        how: Any = {"overwrite": overwrite, "progress": progress, "skipped": _tell_skipped}
        declared: Any = {"reflectance_scale": scale, "reflectance_offset": offset}
        if Path(source).suffix.lower() in CUBE_SUFFIXES:
            how |= _scaling(scale, offset)
            paths = run_cube(read_cube(Path(source), datetime), output, request, **how)
        elif holds_items(source):
            if datetime is not None:
                raise typer.BadParameter(
                    "Items have times of their own: give it for one scene",
                    param_hint="--datetime",
                )
            paths = run_items(open_items(source, **declared), output, request, **how)
        else:
            scene = open_scene(source, datetime=datetime, **declared)
            paths = list(run_scene(scene, output, request, **how).values())
    for path in paths:
        typer.echo(path)


def _tell_skipped(folder: Path) -> None:
    typer.echo(f"lai-udf: {folder} is finished already; --overwrite computes it anew", err=True)


def _scaling(scale: float | None, offset: float | None) -> dict[str, Any]:
    """Return scale and offset of a cube, as keywords; a cube of reflectance needs none."""
    return {
        "reflectance_scale": 1.0 if scale is None else scale,
        "reflectance_offset": offset,
    }


@app.command()
def graph(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write.")] = Path(
        "udf/openeo_udp"
    ),
) -> None:
    """Write the user-defined process `sentinel2_lai`, its catalogue record and its benchmark."""
    from lai_udf.udp import write_documents

    with _one_sentence():
        paths = write_documents(output, Path(DEFAULT_BUNDLE).stem)
    for path in paths:
        typer.echo(path)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="UDF (.py), graph (.json), cube.")],
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")] = None,
    datetime: DatetimeOption = None,
) -> None:
    """Find what a back-end would stumble over in a UDF, graph or cube, before a job is paid."""
    from lai_udf.check import check_file

    with _one_sentence():
        report = check_file(path, **_scaling(scale, offset), datetime=datetime)
    for line in (*report.facts, *report.problems):
        typer.echo(name_options(line) if path.suffix.lower() in CUBE_SUFFIXES else line)
    if report.problems:
        raise typer.Exit(1)


@app.command()
def pack(
    output: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the archives.")],
    model: Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")] = None,
    python: Annotated[str, typer.Option(help="Python version of the back-end.")] = "3.11",
    base_url: Annotated[
        str, typer.Option(help="Where the archives will be uploaded.")
    ] = "https://example.com/lai",
    runtime: Annotated[bool, typer.Option(help="Fetch the ONNX Runtime as well.")] = True,
    measure: Annotated[bool, typer.Option(help="Run the UDF, for its memory.")] = True,
) -> None:
    """Pack model and runtime for a cloud back-end, with job options and checksums."""
    from lai_udf.bundle import open_bundle
    from lai_udf.pack import pack as pack_files

    with _one_sentence():
        packed = pack_files(
            output,
            open_bundle(model),
            python=python,
            base_url=base_url,
            runtime=runtime,
            measure=measure,
        )
    for path in packed.files:
        typer.echo(path)
    if packed.skipped:
        typer.echo(f"lai-udf: no runtime archive: {packed.skipped}", err=True)
    if packed.measured is not None:
        typer.echo(f"lai-udf: {packed.measured}", err=True)
    typer.echo(f"# Upload the archives to {base_url}, then:\n{packed.submission}", err=True)
