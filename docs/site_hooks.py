"""Hooks of the documentation site: what the repository holds already becomes its pages.

* the documents in the repository root and the READMEs of its folders, with their links turned to
  pages of the site (to a file that is no page, the link becomes its name);
* the notebooks, cell by cell, with their outputs;
* a reference page per package: what the package is about, then its modules, alphabetically.

Folders and packages stand in the order of the data flow.

Nothing is written beside the sources; MkDocs holds the pages in memory.
"""

import json
import posixpath
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "stac_extension" / "lai_stac" / "json-schema"
PACKAGES = {
    "lai_training": "training",
    "lai_udf": "udf",
    "lai_backend": "udf",
    "lai_stac": "stac_extension",
    "lai_service": "service",
    "lai_demo": "demo",
}
FOLDERS = ("training", "udf", "udf/lai_backend", "stac_extension", "service", "notebooks", "demo")
DOCUMENTS = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections of the navigation that hold what was found."""
    sections = {
        "notebooks/": [f"notebooks/{path.stem}.md" for path in find_notebooks()],
        "packages/": [page for page in find_documents().values() if page.startswith("packages/")],
        "decisions/": [f"decisions/{path.name}" for path in find_decisions()],
        "reference/": [f"reference/{package}.md" for package in PACKAGES],
    }
    for entry in config.nav or []:
        for title, target in entry.items():
            if isinstance(target, str) and target in sections:
                entry[title] = sections[target]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    documents = find_documents()
    pages = {
        page: turn_links((ROOT / source).read_text(), source, page, documents)
        for source, page in documents.items()
    }
    pages |= {f"notebooks/{path.stem}.md": show_notebook(path) for path in find_notebooks()}
    pages |= {f"reference/{name}.md": list_modules(name, home) for name, home in PACKAGES.items()}
    # The identifiers of our STAC extensions are addresses, where their schemas lie.
    pages |= {
        f"{name}/v0.1.0/schema.json": (SCHEMAS / file).read_text("utf-8")
        for name, file in (("lai-quality", "schema.json"), ("uncertainty", "uncertainty.json"))
    }
    for page, content in pages.items():
        files.append(File.generated(config, page, content=content))
    return files


def find_notebooks() -> list[Path]:
    """Return the notebooks in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9]_*.ipynb"))


def find_decisions() -> list[Path]:
    """Return the decision records in their order, their list first."""
    folder = ROOT / "docs" / "decisions"
    return [folder / "README.md", *sorted(folder.glob("[0-9]*.md"))]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of pages that lie in `docs` itself, as those of the gathered documents."""
    source = f"docs/{page.file.src_uri}"
    if not (ROOT / source).is_file():
        return markdown  # gathered: its links are turned
    return turn_links(markdown, source, page.file.src_uri, find_documents())


def find_documents() -> dict[str, str]:
    """Return the page of every document: path in the repository -> path in the site."""
    found = {name: page for name, page in DOCUMENTS.items() if (ROOT / name).is_file()}
    here = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("*/README.md")}
    here |= {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("udf/*/README.md")}
    rest = sorted(
        name for name in here - set(FOLDERS) if not name.startswith((".", "build", "docs"))
    )
    for folder in [name for name in FOLDERS if name in here] + rest:
        found[f"{folder}/README.md"] = f"packages/{folder.replace('/', '-')}.md"
    return found


def turn_links(text: str, source: str, page: str, documents: dict[str, str]) -> str:
    """Return a document with its relative links turned to pages of the site."""

    def turn(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        place = documents.get(path) or documents.get(f"{path}/README.md")
        if path.startswith("docs/"):
            place = path.removeprefix("docs/")
        elif path.startswith("notebooks/") and path.endswith((".py", ".ipynb")):
            place = f"notebooks/{PurePosixPath(path).stem}.md"
        if place is None:
            return label if label.strip("`").rstrip("/") == path else f"{label} (`{path}`)"
        there = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"{image}[{label}]({there}{'#' if anchor else ''}{anchor})"

    return LINK.sub(turn, text)


def show_notebook(path: Path) -> str:
    """Return a notebook as Markdown: text, code, printed lines, pictures."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).strip()
                parts.append(f'<img alt="figure" src="data:image/png;base64,{picture}">')
            elif text := "".join(output.get("text", data.get("text/plain", []))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def list_modules(package: str, home: str) -> str:
    """Return the reference page of a package: a directive per module."""
    folder = ROOT / home / package
    paths = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")]
    names = sorted(".".join(path.parts) for path in paths if path.name != "__init__")
    about = f"::: {package}\n    options: {{members: false, show_root_heading: false}}"
    return "\n\n".join([f"# {package}", about, *(f"::: {package}.{name}" for name in names)])
