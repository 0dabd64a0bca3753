"""The text of HTML as people see it, and the links behind its words."""

from html.parser import HTMLParser

# Links that name a person or a topic, and lead to no place of the sender's.
_NAMING = ("mention", "hashtag")
_NAMES = "https://matrix.to/"
_QUOTE = "mx-reply"


class _Text(HTMLParser):
    """Lines are kept; a link's hidden parts are text, so that it is whole. `hidden`: those that words do not show."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden: list[str] = []
        self._target = ""
        self._began = 0
        self._quoted = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br" or (tag == "p" and self.parts):
            self.parts.append("\n")
        elif tag == _QUOTE:
            self._quoted = True
        elif tag == "a":
            self._target = "" if self._quoted else _target(dict(attrs))
            self._began = len(self.parts)

    def handle_endtag(self, tag: str) -> None:
        if tag == _QUOTE:
            self._quoted = False
        elif tag == "a" and self._target:
            if self._target.split("/")[2] not in "".join(self.parts[self._began :]):
                self.parts.append(f" {self._target}")
                self.hidden.append(self._target)
            self._target = ""

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _target(attributes: dict[str, str | None]) -> str:
    """Where a link of the sender's leads; empty for any other."""
    target, classes = attributes.get("href") or "", attributes.get("class") or ""
    ours = target.startswith(("https://", "http://")) and not target.startswith(_NAMES)
    return target if ours and not any(word in classes for word in _NAMING) else ""


def _parsed(html: str) -> _Text:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser


def text_of(html: str) -> str:
    """The text of HTML, however broken; behind words that hide a link, the link."""
    return "".join(_parsed(html).parts)


def links_of(html: str) -> list[str]:
    """The links that the words of HTML hide."""
    return _parsed(html).hidden
