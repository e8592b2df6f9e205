"""A hook of mkdocs: every notebook of this folder becomes a page of the site."""

import json
from pathlib import PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files


def markdown_of(notebook: str) -> str:
    """The cells of a notebook as a page; links to other notebooks lead to their pages."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text.replace(".ipynb)", ".md)"))
        else:
            parts.append(f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages; the notebooks themselves can be downloaded."""
    for file in list(files):
        path = PurePosixPath(file.src_uri)
        if path.suffix != ".ipynb":
            continue
        title, text = markdown_of(file.content_string).split("\n", 1)
        page = f"{title}\n\n[Download this notebook]({path.stem}.ipynb)\n{text}"
        files.append(File.generated(config, str(path.with_suffix(".md")), content=page))
    return files
