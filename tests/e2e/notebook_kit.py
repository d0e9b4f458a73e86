"""Notebooks run from top to bottom in a real kernel, and what their cells said."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def executed(name: str, folder: Path, *, timeout_s: int = 300) -> nbformat.NotebookNode:
    """The notebook of this name after it ran in a folder; it is kept without outputs."""
    shutil.copy(NOTEBOOKS / name, folder)
    book = nbformat.read(folder / name, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells)
    NotebookClient(
        book, timeout=timeout_s, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return book


def said_by(book: nbformat.NotebookNode) -> dict[str, str]:
    """What each cell of code printed, and what it gave, by its id."""
    return {cell["id"]: _text_of(cell) for cell in book.cells if cell.cell_type == "code"}


def _text_of(cell: nbformat.NotebookNode) -> str:
    """What was printed may come in pieces, as the kernel sent it; anything else begins on a line of its own."""
    text = ""
    for out in cell.outputs:
        found = out.get("text", "") or out.get("data", {}).get("text/plain", "")
        text += found if out.output_type == "stream" or not text else f"\n{found}"
    return text
