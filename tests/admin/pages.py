"""Reading admin pages as a person would."""

from __future__ import annotations

import html
import re
from typing import Any


def shown(response: Any) -> str:
    """The text of a page, without its tags."""
    assert response.status_code == 200, response
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def form_data(response: Any) -> dict[str, Any]:
    """What a browser would send from the page's form as it stands."""
    form = response.context["adminform"].form
    data = {}
    for bound in form:
        value = bound.value()
        if value is True:
            data[bound.html_name] = "on"
        elif value is not None and value is not False:
            data[bound.html_name] = value
    return data


def errors(response: Any) -> dict[str, list[str]]:
    """The form's errors by field."""
    assert response.status_code == 200, response
    return {name: list(messages) for name, messages in response.context["adminform"].form.errors.items()}


def said(response: Any) -> list[str]:
    """The messages of the page that follows a save."""
    return [str(message) for message in response.context["messages"]]
