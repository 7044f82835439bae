"""A page's tables, headings and scripts, as the tests ask for them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

__all__ = ["Page", "numbers"]


class Page(HTMLParser):
    """The tables, headings and scripts of a page, and the ids and addresses in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self._at = ""
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href", "action") if name in values]
        if tag not in ("meta", "link", "input", "br", "img"):
            self.open.append(tag)
        if tag in ("table", "script"):
            self._at = values.get("id", "")
        if tag == "table":
            self.tables[self._at] = []
        elif tag == "tr":
            self.tables[self._at].append([])
        elif tag in ("td", "th"):
            self.tables[self._at][-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "h1" in self.open or "h2" in self.open:
            self.headings[-1] += data
        elif "script" in self.open:
            self.scripts[self._at] = self.scripts.get(self._at, "") + data
        elif ("td" in self.open or "th" in self.open) and self.tables.get(self._at):
            self.tables[self._at][-1][-1] += data


def numbers(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells]
