"""The text of HTML as people see it, and the links behind its words."""

from html.parser import HTMLParser

# Links that name a person or a topic, and lead to no place of the sender's.
_NAMING = ("mention", "hashtag")
_NAMES = "https://matrix.to/"
_QUOTE = "mx-reply"
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_TABLE = ("table", "caption", "tr", "th", "td")
_BLOCKS = {"p", "div", "ul", "ol", "li", "blockquote", "pre", "hr", "details", "summary", *_HEADINGS, *_TABLE}


class _Text(HTMLParser):
    """Lines and blocks are kept, quotes are not; a link's hidden parts are text, so that it is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._link: dict[str, str | None] = {}
        self._began = 0
        self._quoted = False
        self._edge = False
        self._linked = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == _QUOTE:
            self._quoted = True
        elif self._quoted:
            return
        elif tag == "br":
            self.parts.append("\n")
        elif tag in _BLOCKS:
            self._edge = True
        elif tag == "a":
            self.end_link()
            # Of an attribute that is given twice the first holds.
            self._link, self._began = dict(reversed(attrs)), len(self.parts)

    def handle_endtag(self, tag: str) -> None:
        if tag == _QUOTE:
            self._quoted = False
        elif tag in _BLOCKS:
            self._edge = True
        elif tag == "a":
            self.end_link()

    def handle_data(self, data: str) -> None:
        if not self._quoted:
            self._add(data)

    def end_link(self) -> None:
        """Adds where the link leads, unless its words tell; one that is never closed ends with the text."""
        hidden = _hidden(self._link, "".join(self.parts[self._began :]))
        self._link = {}
        if hidden:
            self._add(f" {hidden}")
            self._linked = True

    def _add(self, text: str) -> None:
        """At a block's edge a new line is begun, and space shows nothing."""
        if self._edge:
            text = text.lstrip()
            if text and self.parts and not self.parts[-1].endswith("\n"):
                self.parts.append("\n")
        if text:
            if self._linked and text[0].isalnum() and not self.parts[-1].endswith("\n"):
                self.parts.append(" ")
            self._edge = self._linked = False
            self.parts.append(text)


def _hidden(link: dict[str, str | None], words: str) -> str:
    """Where a link of the sender's leads if its words do not tell its host, else nothing."""
    target, classes = (link.get("href") or "").strip(), link.get("class") or ""
    plain = target.lower()
    if not plain.startswith(("https://", "http://")) or plain.startswith(_NAMES):
        return ""
    if words.lstrip().startswith(("@", "#")) and any(word in classes for word in _NAMING):
        return ""
    host = plain.split("/")[2]
    return "" if host and host in words.lower() else target


def text_of(html: str) -> str:
    """The text of HTML, however broken; behind words that hide a link, the link."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    parser.end_link()
    return "".join(parser.parts)
