"""The catalogue of messages: what the code says, what of it is translated, and the compiled form that is read.

Babel, a package of the tests, does it all: no gettext of the system is needed. The compiled file is kept beside the
text, because the platform runs where Babel is not installed; a test holds the two equal.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import django
import unfold
from babel.messages import Catalog
from babel.messages.extract import extract_python
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.contrib import admin
from django.utils.translation.template import templatize

from algo.phrases import PHRASES
from algo.strategies import schemas, strategy_factory
from algo.translated import model_words

LANGUAGE = "fa"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLURALS = "nplurals=2; plural=(n > 1);"
KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
}
_CALL = re.compile(
    r"""\b(pgettext|npgettext|ngettext|gettext|_)\(((?:\s*u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*,?)+)"""
)
NOT_SHOWN = ("migrations", "management", "tests.py")
Message = tuple[str | None, str | tuple[str, str], str]  # context, text (or both numbers), where


def catalogue_path() -> Path:
    return Path(settings.LOCALE_PATHS[0]) / LANGUAGE / "LC_MESSAGES" / "django.po"


def stored() -> Catalog:
    with catalogue_path().open("rb") as file:
        return read_po(file, locale=LANGUAGE, domain="django")


def said() -> Catalog:
    """Everything the code says to people, without translations."""
    catalog = Catalog(locale=LANGUAGE, domain="django", project="algo_trade", charset="utf-8", fuzzy=False)
    for context, text, where in _everything():
        catalog.add(text, context=context, locations=[(where, 0)])
    return catalog


def merged() -> Catalog:
    """What is said, with the translations there are. A sentence that changed loses its translation: a similar one of
    another sentence is no translation."""
    known, catalog = stored(), said()
    for message in catalog:
        old = known.get(message.id, message.context) if message.id else None
        if old is not None:
            message.string = _in_numbers(old.string, message.id)
            message.user_comments = old.user_comments
    return catalog


def _in_numbers(string: Any, text: Any) -> Any:
    """A sentence that gets a plural begins with one translation for both numbers."""
    return (string, string) if isinstance(string, str) and isinstance(text, tuple) else string


def written(catalog: Catalog) -> bytes:
    """As the file of text."""
    text = BytesIO()
    write_po(text, catalog, width=120, sort_output=True, omit_header=True, include_lineno=False)
    header = 'msgid ""\nmsgstr ""\n' + "".join(f'"{line}\\n"\n' for line in HEADER)
    return (header + "\n").encode() + text.getvalue()


HEADER = (
    "Project-Id-Version: algo_trade",
    "Language: fa",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: 8bit",
    f"Plural-Forms: {PLURALS}",
)


def compiled(catalog: Catalog) -> bytes:
    """As the file that is read at run time."""
    catalog.creation_date = catalog.revision_date = EPOCH  # the same text is the same file
    binary = BytesIO()
    write_mo(binary, catalog)
    return binary.getvalue()


def _everything() -> Iterator[Message]:
    root = Path(settings.BASE_DIR)
    for path in sorted((root / "algo").rglob("*.py")):
        if not any(part in path.parts for part in NOT_SHOWN):
            yield from _of_python(path, path.relative_to(root).as_posix())
    for path in sorted((root / "algo" / "templates").rglob("*.html")):
        yield from _of_template(path, path.relative_to(root).as_posix())
    yield from ((None, text, where) for text, where in model_words())
    yield from ((None, text, where) for text, where in schema_words())
    yield from ((None, text, where) for text, where in admin_words())
    yield from ((None, text, "algo/phrases.py") for text in PHRASES)
    yield from ((None, HTTPStatus(int(code)).phrase, "algo/api/problems.py") for code in _answers())
    yield from _of_the_theme()


def _answers() -> list[str]:
    """Statuses of errors, whose names are titles of problems."""
    codes: Any = settings.DRF_STANDARDIZED_ERRORS["ALLOWED_ERROR_STATUS_CODES"]
    return [*codes, "428", "502", "503", "504"]


def _of_python(path: Path, where: str) -> Iterator[Message]:
    with path.open("rb") as file:
        for _, function, messages, _ in extract_python(file, KEYWORDS, [], {"encoding": "utf-8"}):
            texts = list(messages) if isinstance(messages, tuple | list) else [messages]
            if isinstance(texts[0], str):
                yield _message(str(function), [text for text in texts if isinstance(text, str)], where)


def _of_template(path: Path, where: str) -> Iterator[Message]:
    for function, arguments in _CALL.findall(templatize(path.read_text())):
        yield _message(function, list(ast.literal_eval(f"({arguments},)".replace(",,", ","))), where)


def _message(function: str, texts: list[str], where: str) -> Message:
    if function.startswith("pgettext"):
        return texts[0], texts[1], where
    if function.startswith("ngettext"):
        return None, (texts[0], texts[1]), where
    return None, texts[0], where


def schema_words() -> Iterator[tuple[str, str]]:
    """Titles and help texts of the strategies' parameters, and what is said of wrong ones. The pure rooms know no
    translation: their words are translated where they are shown."""
    for strategy in strategy_factory.strategy_names():
        for name, info in strategy_factory.schema_for(strategy).model_fields.items():
            yield from ((text, f"{strategy}.{name}") for text in (info.title, info.description) if text)
    yield from ((text, "algo/strategies/schemas.py") for text in dict.fromkeys(schemas.WORDS.values()))


def admin_words() -> Iterator[tuple[str, str]]:
    """Headings of the sections of read-only pages."""
    for page in admin.site._registry.values():
        titles: dict[str, Any] = getattr(page, "sections", {})
        yield from ((title, type(page).__name__) for title in titles if title)


def _of_the_theme() -> Iterator[Message]:
    """What the admin's theme says that Django does not say already: the theme brings no Persian."""
    theme, known = Path(unfold.__file__).parent, _known_to_django()
    used = [path for path in sorted(theme.rglob("*")) if "contrib" not in path.parts or "filters" in path.parts]
    found = [message for path in used if path.suffix == ".html" for message in _of_template(path, "unfold")]
    found += [message for path in used if path.suffix == ".py" for message in _of_python(path, "unfold")]
    for context, text, where in found:
        first = text if isinstance(text, str) else text[0]
        if first not in known:
            yield context, text, where


def _known_to_django() -> set[str]:
    """Which sentences Django brings in our language."""
    known: set[str] = set()
    for path in Path(django.__file__).parent.rglob(f"locale/{LANGUAGE}/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            ids = (message.id for message in read_mo(file) if message.id and message.string)
            known |= {text if isinstance(text, str) else text[0] for text in ids}
    return known
