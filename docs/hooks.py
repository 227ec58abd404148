"""What the site has beside docs/: pages that stand elsewhere, and links in docstrings.

mkdocs calls the functions, griffe, which reads the docstrings, the class.
"""

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ELSEWHERE = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench-results/*.md",
    "bench-results/*.svg",
)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds them under the paths that they have in the repository."""
    root = Path(config.config_file_path).parent
    for path in (path for pattern in ELSEWHERE for path in root.glob(pattern)):
        uri = path.relative_to(root).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Leads links between them and docs/, which is the root here, to the pages."""
    if page.file.src_uri.startswith(("reference/", "recipes/")):  # docs/ is one up here, too
        return markdown
    return markdown.replace("](docs/", "](").replace("](../", "](")


class Roles(griffe.Extension):
    """Reads docstrings as Sphinx does: :func:`name` is a link, and #: documents an attribute."""

    ROLE = re.compile(r":(?:attr|class|func|meth):`~?([\w.]+)`")
    COMMENT = re.compile(r"#: (.*)")

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Changes the docstrings of a package once all of it is read."""
        self.change(pkg, pkg)

    def change(self, package: griffe.Module, of: griffe.Object) -> None:
        """Changes the docstring of an object and of those in it."""
        if of.is_attribute and not of.docstring and (comment := self.comment(of)):
            of.docstring = griffe.Docstring(comment, parent=of)
        if of.docstring:
            of.docstring.value = self.ROLE.sub(
                lambda found: f"[`{found[1]}`][{self.path(package, of, found[1])}]",
                of.docstring.value,
            )
        for member in of.members.values():
            if isinstance(member, griffe.Object):
                self.change(package, member)

    def comment(self, of: griffe.Object) -> str:
        """What is said of an attribute on its line, or on those above."""
        if not isinstance(of.filepath, Path) or not of.lineno or not of.endlineno:
            return ""
        lines = of.lines_collection[of.filepath]
        if here := self.COMMENT.search(lines[of.endlineno - 1]):
            return here[1]
        first = of.lineno - 1
        while first and lines[first - 1].lstrip().startswith("#: "):
            first -= 1
        return " ".join(line.lstrip()[3:] for line in lines[first : of.lineno - 1])

    def path(self, package: griffe.Module, of: griffe.Object, name: str) -> str:
        """What a name means in a docstring: of its class, or else of the package."""
        within = of if of.is_class else of.parent
        if within and within.is_class and name in within.all_members:
            return f"{within.path}.{name}"
        return name if name.startswith(f"{package.name}.") else f"{package.name}.{name}"
