"""The context of the UDF and the bundle that it names: what is taken, and what is refused."""

import zipfile
from pathlib import Path

import pytest
import xarray as xr
from fake_cubes import make_bundle

from lai_udf.predict import (
    LaiInputError,
    LaiModelError,
    apply_datacube,
    count_threads,
)

SCALED = {"reflectance_scale": 1e-4, "reflectance_offset": -0.1}


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("4,2", 4), ("0", 1)])
def test_openmp_limits_how_many_blocks_are_in_work(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert count_threads() == threads


def test_all_cores_are_used_where_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert count_threads() >= 1
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    assert count_threads() >= 1


@pytest.mark.parametrize(
    "context",
    [
        {"target": "snap"},
        {"samples": 1},
        {"samples": 30.0},
        {"samples": -3},
        {"samples": 100_000},
        {"samples": True},
        {"variables": ["NDVI"]},
        {"variables": "LAI"},
        {"resolution": 60},
        {"bands": ["LAI", "NDVI"]},
        {"bands": ["LAI", "LAI"]},
        {"bands": []},
        {"bands": 3},
        {"pass_through": "SCL"},
        {"region": "Europe"},
        {"level": 95},
        {"calibration": 3},
        {"reflectance_scale": 0},
        {"reflectance_scale": "tenth"},
        {"reflectance_scale": 10_000},
        {"reflectance_offset": 1000},
        {"reflectance_offset": float("nan")},
        {"seed": -1},
        {"seed": 2**128},
        {"overlap": 1.5},
        {"plausibility": "maybe"},
        {"model": 3},
    ],
    ids=str,
)
def test_wrong_context_names_its_parameter(
    cube: xr.DataArray, known: str, context: dict[str, object]
) -> None:
    with pytest.raises(LaiInputError) as caught:
        apply_datacube(cube, {"model": known} | context)
    assert caught.value.parameter == next(iter(context))
    assert caught.value.expected


def test_unknown_context_key_is_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match="modell"):
        apply_datacube(cube, {"model": known, "modell": "x"})


def test_bundle_with_a_flipped_byte_fails_its_checksum(
    cube: xr.DataArray, known: str, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(known) as good, zipfile.ZipFile(damaged, "w") as bad:
        weights = bytearray(good.read("model.onnx"))
        weights[len(weights) // 2] ^= 1
        bad.writestr("model.json", good.read("model.json"))
        bad.writestr("model.onnx", bytes(weights))

    with pytest.raises(LaiModelError):
        apply_datacube(cube, {"model": str(damaged)})


@pytest.mark.parametrize("content", [None, b"no zip at all"])
def test_missing_or_foreign_bundle_is_refused(
    cube: xr.DataArray, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bundle.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LaiModelError):
        apply_datacube(cube, {"model": str(path)})


def test_truncated_bundle_is_refused(cube: xr.DataArray, known: str, tmp_path: Path) -> None:
    path = tmp_path / "half.zip"
    path.write_bytes(Path(known).read_bytes()[:-200])
    with pytest.raises(LaiModelError):
        apply_datacube(cube, {"model": str(path)})


def test_bundle_may_be_an_unpacked_folder(cube: xr.DataArray, known: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(known) as archive:
        archive.extractall(tmp_path / "lai_model")

    folder = apply_datacube(cube, {"model": str(tmp_path / "lai_model")})

    xr.testing.assert_identical(folder, apply_datacube(cube, {"model": known}))


def test_bundle_without_a_field_correction_cannot_predict_field_lai(
    cube: xr.DataArray, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "plain.zip", calibration={})
    with pytest.raises(LaiModelError):
        apply_datacube(cube, {"model": str(bundle), "target": "field"})
