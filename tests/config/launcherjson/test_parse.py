"""Launcher files that people have edited: read as they are, and told exactly where they broke."""

import json

import pytest
from wslink import launcher

from hpcbridge.config.launcherjson.parse import parse
from hpcbridge.config.launcherjson.tokens import Broken

SAMPLE = launcher.sample_config_file.partition("look like:")[2]
"""The example that wslink's launcher prints: as it stands, it is broken in three places."""


def refusal(text: str) -> str:
    """Where and why ``text`` is refused."""
    with pytest.raises(Broken) as caught:
        parse(text)
    return f"{caught.value.place}: {caught.value}"


# -- what is read


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": [1, -2.5, 1e3, true, false, null, "x"], "b": {"c": []}}',
        '{"a": "\\u00e9\\n\\"\\\\/"}',
        '{"url": "http://host/*no comment*/", "hash": "#none"}',
        '{"quote": "it\'s // no comment"}',
    ],
)
def test_json_is_read_as_python_reads_it(text: str) -> None:
    assert parse(text).plain == json.loads(text)


@pytest.mark.parametrize(
    "comment",
    ["// one line", "## as in the older documentation", "/* two\n   lines, 'with' \"quotes\" */"],
)
def test_comments_may_stand_between_any_two_words(comment: str) -> None:
    pieces = ["", "{", '"a"', ":", "[", "1", ",", "2", "]", "}", ""]
    assert parse(f"\n{comment}\n".join(pieces)).plain == {"a": [1, 2]}


def test_files_of_windows_editors_are_read() -> None:
    assert parse('\ufeff{\r\n  "a": 1, // one\r\n  "b": 2\r\n}\r\n').plain == {"a": 1, "b": 2}


def test_every_value_knows_its_place() -> None:
    found = parse('{\n  "a": {\n\t"b": [1,\n 22]}}').value["a"]
    assert str(found.key_at) == "line 2, column 3"
    inner = found.value["b"]
    assert (str(inner.key_at), str(inner.at)) == ("line 3, column 2", "line 3, column 7")
    assert str(inner.value[1].at) == "line 4, column 2"


# -- commas, the best known break


def test_a_comma_that_is_missing_between_two_applications_is_named_with_its_place() -> None:
    text = """{
  "apps": {
    "visualizer": {
      "cmd": ["pvpython"]
    }  // the first

    "loader": {}
  }
}"""
    assert refusal(text) == (
        'line 5, column 6: A comma is missing between "visualizer" and "loader": put one here.'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1\n "b": 2}', 'line 1, column 8: A comma is missing between "a" and "b"'),
        ('{"a": ["x" "y"]}', 'line 1, column 11: A comma is missing between "x" and "y"'),
        ('{"a": [{} {}]}', "line 1, column 10: A comma is missing: put one here."),
        ('{"a": 1,}', "line 1, column 8: A comma stands before }: remove it."),
        ('{"a": [1,\n]}', "line 1, column 9: A comma stands before ]: remove it."),
        ('{"a": 1,, "b": 2}', "line 1, column 8: A comma stands before ,: remove it."),
        ("{,}", "line 1, column 2: A comma stands here without anything before it"),
        ('{"a": [,1]}', "line 1, column 8: A comma stands here without anything before it"),
    ],
)
def test_commas_are_told_where_they_are_missing_and_where_there_are_too_many(
    text: str, said: str
) -> None:
    assert refusal(text).startswith(said)


# -- all the other breaks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: A launcher file begins with {"),
        ("[]", "line 1, column 1: A launcher file begins with {"),
        ('{"a" 1}', 'line 1, column 5: A colon is missing behind "a".'),
        ('{"a": }', 'line 1, column 7: A value is missing behind "a"'),
        ('{"a": 1', "line 1, column 8: The file ends, but the { in line 1, column 1 is not"),
        ('{"a"', "line 1, column 5: The file ends"),
        ('{"a":', "line 1, column 6: The file ends"),
        ('{"a": [1', 'but the [ of "a" in line 1, column 7 is not closed: a ] is missing.'),
        ('{"a": [1}', 'The [ of "a" in line 1, column 7 is closed by } here, not ].'),
        ('{"a": 1]', "The { in line 1, column 1 is closed by ] here, not }."),
        ('{"a": 1}}', "line 1, column 9: The configuration has ended before this"),
        ('{"a": "x\ny"}', 'line 1, column 7: This text has no closing " on its line.'),
        ("{'a': 1}", "line 1, column 2: Texts stand in double quotes here"),
        ("{a: 1}", 'line 1, column 2: Keys stand in double quotes: write "a".'),
        ('{1: "a"}', 'line 1, column 2: Keys stand in double quotes: write "1".'),
        ('{"a": localhost}', 'localhost stands without quotes: write "localhost".'),
        ('{"a": True}', "True is Python: write true."),
        ('{"a": NaN}', 'NaN stands without quotes: write "NaN".'),
        ('{"a": ${port}"}', '$ cannot stand here: is the opening " of a text missing?'),
        ('{"a": /srv/data}', '/ cannot stand here: is the opening " of a text missing?'),
        ('{"a": “x”}', "“ is a quote of word processors"),
        ('{"a": "C:\\data"}', "This text has a \\ that begins nothing JSON knows: write \\\\"),
        ('{"a": "x\ty"}', 'A tab stands inside this text: write "\\t"'),
        ('{"a": "x\x01y"}', "A control character stands inside this text"),
        ('{"a": 007}', "This is no number as JSON has them"),
        ('{"a": 1e999}', "The number 1e999 is too large."),
        ('{"a": 1} /* ', "line 1, column 10: This comment has no end"),
        ('{"a": "x"y"}', 'write \\" inside of "x"'),
        ('{"a":' + "[" * 100, "There are more than 64 levels of nesting."),
        ('{"a": 1,\n "a": 2}', 'line 2, column 2: "a" is there twice, first in line 1, column 2.'),
        ("{\x07}", "The character '\\x07' cannot stand here."),
    ],
)
def test_what_is_broken_is_told_with_line_column_and_cure(text: str, said: str) -> None:
    told = refusal(text)
    assert said in told
    assert told.startswith("line ")


def test_a_brace_that_is_missing_is_looked_for_by_the_indentation() -> None:
    text = """{
  "apps": {
    "first": {
      "cmd": ["a"],
      "ready_line": "x",
    "second": {
      "cmd": ["b"]
    }
  }
}
"""
    assert 'the { of "first" in line 3, column 14, by the indentation, is not closed' in refusal(
        text
    )


def test_the_example_of_the_old_launcher_is_led_to_its_repair() -> None:
    """Each step does what the last message said."""
    assert refusal(SAMPLE).startswith(
        'line 17, column 48: A comma is missing between "fields" and "sanitize"'
    )
    text = SAMPLE.replace('"host", "port"]  ', '"host", "port"], ')
    assert 'write \\" inside of "^[^"' in refusal(text)
    text = text.replace('"^[^"]*$"', '"^[^\\"]*$"')
    assert 'the { of "your_app" in line 116' in refusal(text)
    text = text.replace('is ready"\n        }', 'is ready" }\n        }')
    found = parse(text).plain
    assert list(found["apps"])[-1] == "your_app"
    assert found["configuration"]["sanitize"]["cmd2"]["regexp"] == '^[^"]*$'
