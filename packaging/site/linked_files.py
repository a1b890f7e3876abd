"""Preprocessor of mdBook: adds the files outside of docs that its pages link to, as chapters.

On the web site there are no files beside the book. The pages in docs therefore need chapters for what they link to:
Markdown files as they are, other texts as code, and a note for binary files. Links between all of them are rewritten.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
LANGUAGES = {
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".js": "js",
    ".json": "json",
    ".conf": "nginx",
    ".service": "ini",
}


def chapters(items: list) -> Iterator[dict]:
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


class LinkedFiles:
    """The files that become chapters. `root` is the repository, and `docs` the folder of the book in it."""

    def __init__(self, root: Path, docs: str) -> None:
        self.root = root
        self.docs = docs
        # Path in the repository -> path in the book.
        self.found: dict[str, str] = {}

    def path_in_book(self, file: str) -> str | None:
        """The chapter of a file of the repository."""
        if file.startswith(f"{self.docs}/"):
            return file.removeprefix(f"{self.docs}/")
        if not (self.root / file).is_file():
            return None
        return self.found.setdefault(file, file if file.endswith(".md") else f"{file}.md")

    def rewrite(self, content: str, file: str, chapter: str) -> str:
        """Rewrites the links of `content`, which is the file `file` of the repository and the given chapter."""

        def replace(match: re.Match[str]) -> str:
            target = match[2]
            if "://" in target or target.startswith("mailto:"):
                return match[0]
            target = os.path.normpath(os.path.join(os.path.dirname(file), target))
            page = self.path_in_book(target)
            # Links to folders and to files of no interest stay as they are.
            return (
                match[0]
                if page is None
                else match[1] + os.path.relpath(page, os.path.dirname(chapter) or ".") + match[3]
            )

        # Links in code are text.
        parts = re.split(r"(```.*?```|`[^`\n]*`)", content, flags=re.DOTALL)
        return "".join(part if index % 2 else LINK.sub(replace, part) for index, part in enumerate(parts))

    def chapter(self, file: str, page: str) -> dict:
        data = (self.root / file).read_bytes()
        content = data.decode("utf-8", errors="replace")
        if file.endswith(".md"):
            content = self.rewrite(content, file, page)
        elif b"\0" in data:
            content = f"# {file}\n\nA binary file of {len(data):,} bytes, in the repository.\n"
        else:
            content = f"# {file}\n\n`````{LANGUAGES.get(Path(file).suffix, 'text')}\n{content}\n`````\n"
        title = next((line[2:] for line in content.splitlines() if line.startswith("# ")), file)
        keys = {"number": None, "sub_items": [], "parent_names": [], "source_path": None}
        return {"Chapter": {"name": title, "content": content, "path": page, **keys}}


def main() -> None:
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0 if sys.argv[2] == "html" else 1)
    context, book = json.load(sys.stdin)
    docs = Path(context["root"])
    linked = LinkedFiles(docs.parent, docs.name)
    items = book["items"]
    for chapter in chapters(items):
        if chapter["path"]:
            chapter["content"] = linked.rewrite(
                chapter["content"], f"{docs.name}/{chapter['path']}", chapter["path"]
            )
    items.append({"PartTitle": "Files of the repository"})
    added: dict[str, dict] = {}
    # A file can link to further files.
    while pending := {file: page for file, page in linked.found.items() if file not in added}:
        added |= {file: linked.chapter(file, page) for file, page in pending.items()}
    items.extend(added[file] for file in sorted(added))
    json.dump(book, sys.stdout)


main()
