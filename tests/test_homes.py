"""Each concept has one home: nobody else writes flag numbers, lists of bands or scaling formulas.

The sources are read as syntax trees, embedded SQL, JavaScript and HTML as text. A finding elsewhere
than in `lai_udf.predict` is a second home. `lai_udf.series` ships alone, as `predict` does, and
states what it needs; a test holds it to the same values. `KNOWN` lists what is still to be moved:
it may only shrink.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lai_udf import predict

ROOT = Path(__file__).parents[1]
FOLDERS = ("udf", "training/lai_training", "stac_extension", "service", "demo")
SHIP_ALONE = {"udf/lai_udf/predict.py", "udf/lai_udf/series.py"}

INPUT_BANDS = frozenset(predict.BANDS)
OUTPUT_BANDS = frozenset(predict.OUTPUT_BANDS)
FLAG_BITS = frozenset(1 << bit for bit in range(8)) | {8 | 16, 32 | 64, 8 | 16 | 32 | 64}

ELSEWHERE = {
    "scaling service/lai_service/files/pixels.py",  # any COG, by the scale of its own tags
    "scaling udf/lai_udf/scenes/geotiff.py",  # the inverse: digital numbers of a scene
}
"""What looks like a second home and is none."""

KNOWN: set[str] = set()
"""Second homes that are still to be moved."""


def is_flag_number(node: ast.AST) -> bool:
    """Recognise `flags & 32`, `32 | 64`: a bit operation with a literal of LAI_FLAGS."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr)):
        return False
    sides = (node.left, node.right)
    if any(isinstance(side, ast.BinOp) and isinstance(side.op, ast.RShift) for side in sides):
        return False  # a bit of a bitmap, taken by its place
    return any(
        isinstance(side, ast.Constant) and type(side.value) is int and side.value in FLAG_BITS
        for side in sides
    )


def is_band_list(node: ast.AST) -> bool:
    """Recognise a literal that spells half of the input bands, or all output bands but one."""
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return False
    words = {part.value for part in node.elts if isinstance(part, ast.Constant)}
    if "B01" in words:
        return False  # the instrument's thirteen bands, in the order of its products
    return len(words & INPUT_BANDS) >= 5 or len(words & OUTPUT_BANDS) >= 4


def is_scaling(node: ast.AST) -> bool:
    """Recognise `values * scale + offset`, `(values + offset) * scale` and their inverses."""
    if not isinstance(node, ast.BinOp):
        return False
    additive = isinstance(node.op, ast.Add | ast.Sub)
    other = ast.Mult | ast.Div if additive else ast.Add | ast.Sub
    if not additive and not isinstance(node.op, ast.Mult | ast.Div):
        return False
    inner = [side for side in (node.left, node.right) if isinstance(side, ast.BinOp)]
    inner = [side for side in inner if isinstance(side.op, other)]
    text = ast.unparse(node)
    return bool(inner) and "scale" in text and "offset" in text


KINDS = {"flag number": is_flag_number, "band list": is_band_list, "scaling": is_scaling}
IN_TEXT = {
    "flag number": re.compile(
        r"flags?\b[^\n]{0,20}[&|] *(?:1|2|4|8|16|24|32|64|96|120|128)\b", re.I
    ),
    "scaling": re.compile(r"\* *scale *\+ *\w*offset|\+ *\w*offset\) *\* *\w*scale", re.I),
}


def sources(*suffixes: str) -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in found if path.suffix in suffixes and path.is_file())


def findings(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (kind, line) of every second home in a file."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        for kind, pattern in IN_TEXT.items():
            for match in pattern.finditer(text):
                yield kind, text.count("\n", 0, match.start()) + 1
        return
    for node in ast.walk(ast.parse(text)):
        for kind, is_found in KINDS.items():
            if is_found(node):
                yield kind, getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):  # SQL among others
            for _ in IN_TEXT["flag number"].finditer(node.value):
                yield "flag number", node.lineno


def test_nobody_else_writes_flags_bands_or_scaling() -> None:
    places = []
    for path in sources(".py", ".sql", ".js", ".html", ".mjs"):
        name = path.relative_to(ROOT).as_posix()
        if name not in SHIP_ALONE:
            places += [(f"{kind} {name}", line) for kind, line in findings(path)]
    new = [f"{home}:{line}" for home, line in places if home not in KNOWN | ELSEWHERE]
    assert not new, "import it from lai_udf.predict:\n" + "\n".join(sorted(new))


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("flag number", "cloudy = flags & 32"),
        ("flag number", "unusable = 8 | 16"),
        ("band list", "bands = ['B02', 'B03', 'B04', 'B05', 'B06']"),
        ("band list", "shown = {'LAI', 'LAI_SD', 'LAI_LOWER', 'LAI_UPPER'}"),
        ("scaling", "y = values * scale + offset"),
        ("scaling", "y = (dn + offset) / scale"),
        ("scaling", "y = (lai - self.offset) / self.scale"),
    ],
)
def test_a_second_home_is_found(kind: str, line: str) -> None:
    assert any(KINDS[kind](node) for node in ast.walk(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ["x = a | b", "mode & 0o777", "x >> n & 1", "['B04', 'B03', 'B02']", "x * scale"]
)
def test_what_is_no_second_home_is_left_alone(line: str) -> None:
    assert not any(
        is_found(node) for node in ast.walk(ast.parse(line)) for is_found in KINDS.values()
    )


def test_the_series_function_states_the_flags_and_bands_of_predict() -> None:
    path = ROOT / "udf/lai_udf/series.py"
    shared = {
        target.id: node.value
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and hasattr(predict, target.id) and target.id.isupper()
    }
    for name, value in shared.items():
        try:
            stated = ast.literal_eval(value)
        except ValueError:
            continue  # made of others, which are compared
        if name not in {"BLOCK_PX", "OUTPUT_BANDS"}:  # its own
            assert stated == getattr(predict, name), name
