"""A warning for each link of the finished site that leads nowhere, and for what a page would fetch."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links", "setup"]


def setup(app):
    app.connect("build-finished", _warn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _warn(app, error):
    from sphinx.util import logging

    if error is None and app.builder.name == "html":
        for line in broken_links(Path(app.outdir)):
            logging.getLogger(__name__).warning(line)


def broken_links(folder):
    """A sentence for each fault in the HTML files of a folder, but for the theme's own."""
    paths = sorted(set(folder.rglob("*.html")) - set(folder.glob("_static/**/*")))
    pages = {path.resolve(): _Page(path) for path in paths}
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        for target, is_part in page.links:
            fault = _fault(path, target, is_part, pages)
            if fault:
                yield f"{name}: {target} {fault}."


def _fault(path, target, is_part, pages):
    """What is wrong with a link; '' if nothing."""
    url = urlsplit(target)
    if url.scheme or url.netloc:
        return "is fetched from elsewhere" if is_part and url.scheme != "data" else ""
    aim = (path.parent / unquote(url.path)).resolve() if url.path else path
    if not aim.exists():
        return "does not exist"
    if url.fragment and aim in pages and unquote(url.fragment) not in pages[aim].ids:
        return "names a place that the page does not have"
    return ""


class _Page(HTMLParser):
    """The ids and the links of a page; a link that loads a part of the page is marked."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = {"", "top"}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.update(filter(None, (attrs.get("id"), attrs.get("name"))))
        for key in ("href", "src"):
            if attrs.get(key):
                self.links.append((attrs[key], tag != "a"))
