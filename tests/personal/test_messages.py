"""The catalogue: what is compiled is what is written, and translations keep what they are given to fill in."""

from __future__ import annotations

import re

import pytest

from algo.localised import reading
from algo.management import _messages
from algo.phrases import told
from algo.selectors.preferences import reader_of_language

CATALOGUE = _messages.stored()
TRANSLATED = [message for message in CATALOGUE if message.id and message.string and any(message.string)]
PLACEHOLDERS = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")
ARABIC_LETTERS = re.compile("[كيى]")  # of Arabic keyboards: Persian has ک and ی
ASCII_MARKS = re.compile(r"[\u0600-\u06ff]\s*[,;?](?=\s|$)")


def strings(message):
    return [message.string] if isinstance(message.string, str) else list(message.string)


def ids(message):
    return [message.id] if isinstance(message.id, str) else list(message.id)


def test_the_compiled_catalogue_is_the_written_one():
    compiled = _messages.catalogue_path().with_suffix(".mo").read_bytes()
    assert compiled == _messages.compiled(CATALOGUE), "run: manage.py update_messages"


def test_no_translation_is_a_guess():
    assert [message.id for message in CATALOGUE if message.id and message.fuzzy] == []


def test_translations_keep_the_placeholders():
    for message in TRANSLATED:
        wanted = set(PLACEHOLDERS.findall(ids(message)[-1]))
        for string in strings(message):
            assert set(PLACEHOLDERS.findall(string)) == wanted, message.id


def test_persian_is_written_with_persian_letters_and_marks():
    for message in TRANSLATED:
        for string in strings(message):
            assert not ARABIC_LETTERS.search(string), string
            assert not ASCII_MARKS.search(string), string


@pytest.mark.parametrize("prefix", ["می", "نمی"])
def test_a_verb_is_joined_to_its_prefix_by_a_half_space(prefix):
    for message in TRANSLATED:
        for string in strings(message):
            assert not re.search(rf"(?<![\w\u200c]){prefix} [\u0600-\u06ff]", string), string


def test_every_sentence_that_is_shown_is_translated_and_no_other():
    said = {(message.context, str(message.id)) for message in _messages.said() if message.id}
    translated = {(message.context, str(message.id)) for message in TRANSLATED if all(strings(message))}
    assert sorted(said - translated, key=str) == [], "translate them: docs/translating.md"
    stored = {(message.context, str(message.id)) for message in CATALOGUE if message.id}
    assert sorted(stored - said, key=str) == [], "run: manage.py update_messages"


def test_a_stored_sentence_is_told_with_what_was_filled_in():
    with reading(reader_of_language("fa")):
        assert told("the spread is 0.612 %; at most 0.5 % is allowed") == "اسپرد ۰.۶۱۲٪ است؛ حداکثر ۰.۵٪ مجاز است"
        assert told("a deal on BTCUSDT is already open") == "معامله‌ای در \u2068BTCUSDT\u2069 باز است"
        assert told("it was never checked; deal 3 has not ended") == "هرگز بررسی نشده است؛ معاملهٔ ۳ پایان نیافته است"
        assert told("must be at most 50") == "باید حداکثر ۵۰ باشد"
        assert told("what an exchange says by itself") == "what an exchange says by itself"
    assert told("a deal on BTCUSDT is already open") == "a deal on BTCUSDT is already open"
