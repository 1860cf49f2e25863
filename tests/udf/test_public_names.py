"""The package offers what it lists, and importing the UDF imports nothing else of ours."""

import subprocess
import sys

import pytest

import lai_udf


def test_list_of_names_is_sorted_and_complete() -> None:
    homes = [name for names in lai_udf._HOMES.values() for name in names]

    # constants first, then classes, then functions: the order of ruff
    order = {name: (not name.isupper(), not name[0].isupper(), name) for name in lai_udf.__all__}
    assert sorted(lai_udf.__all__, key=order.__getitem__) == lai_udf.__all__
    assert sorted([*homes, "__version__"]) == sorted(lai_udf.__all__)
    assert set(lai_udf.__all__) <= set(dir(lai_udf))


@pytest.mark.parametrize("name", lai_udf.__all__)
def test_name_can_be_imported(name: str) -> None:
    assert getattr(lai_udf, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="ndvi"):
        _ = lai_udf.ndvi


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, lai_udf; print([n for n in ('numpy', 'xarray', 'typer') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_udf_imports_no_other_module_of_ours() -> None:
    code = (
        "import sys, lai_udf.predict;"
        "print(sorted(name for name in sys.modules if name.startswith('lai_')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['lai_udf', 'lai_udf.predict']"
