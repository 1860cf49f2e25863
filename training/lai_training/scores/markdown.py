"""Tables of scores as Markdown."""

import pandas as pd


def format_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown; cells are printed as they are."""
    rows = [[str(name) for name in table.columns]]
    rows += [["---"] * len(rows[0])]
    rows += [[str(cell).replace("|", "/") for cell in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
