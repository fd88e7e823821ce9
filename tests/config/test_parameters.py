"""What users may post as parameters, and what is refused."""

import math
from typing import Any

import pytest

from hpcbridge.config.applications import ParameterSettings
from hpcbridge.config.parameters import check_parameters
from hpcbridge.errors import BadParameter


def check(value: Any, **rules: Any) -> Any:
    return check_parameters({"p": ParameterSettings(**rules)}, {"p": value})["p"]


def refusal(value: Any, **rules: Any) -> str:
    with pytest.raises(BadParameter) as caught:
        check(value, **rules)
    assert "'p'" in str(caught.value)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "posted", "value"),
    [
        ("str", "a b", "a b"),
        ("str", "", ""),
        ("str", "größe 𝄞", "größe 𝄞"),
        ("int", 5, 5),
        ("int", "-5", -5),
        ("int", "+007", 7),
        ("int", 10**18 - 1, 10**18 - 1),
        ("float", 5, 5.0),
        ("float", "2.5e-3", 0.0025),
        ("float", "1E3", 1000.0),
        ("float", -0.5, -0.5),
        ("bool", True, True),
        ("bool", "False", False),
        ("bool", "true", True),
    ],
)
def test_a_value_is_taken_in_its_type_also_from_text(kind: str, posted: Any, value: Any) -> None:
    taken = check(posted, type=kind)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("kind", "posted"),
    [
        *(("str", each) for each in (5, True, ["a"], {"a": 1})),
        *(("int", each) for each in (True, 1.0, 1.5, "1.5", "", " 1", "1\n", "0x10", "1_000")),
        *(("int", each) for each in ("٣", "--1", [1], {}, 10**18, -(10**18), 10**400, "9" * 19)),
        *(("float", each) for each in (True, "nan", "inf", "-Infinity", "1e", ".", "1.2.3")),
        *(("float", each) for each in ("1e٣", "1 ", [], math.nan, math.inf, 10**400, "1e999")),
        *(("bool", each) for each in (0, 1, "1", "yes", "", [True], {"true": 1})),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, posted: Any) -> None:
    words = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
    assert f"must be {words[kind]}" in refusal(posted, type=kind)


@pytest.mark.parametrize("kind", ["str", "int", "float", "bool"])
def test_null_counts_as_not_posted(kind: str) -> None:
    assert "is required" in refusal(None, type=kind)


def test_a_default_takes_the_place_of_what_is_not_posted() -> None:
    declared = {"p": ParameterSettings(type="int", default=4)}
    assert check_parameters(declared, {}) == {"p": 4}
    assert check_parameters(declared, {"p": None}) == {"p": 4}
    assert check_parameters(declared, {"p": 5}) == {"p": 5}


def test_a_default_that_is_false_or_zero_is_a_default() -> None:
    declared = {
        "flag": ParameterSettings(type="bool", default=False),
        "number": ParameterSettings(type="int", default=0),
        "text": ParameterSettings(type="str", default=""),
    }
    assert check_parameters(declared, {}) == {"flag": False, "number": 0, "text": ""}


def test_what_is_not_declared_has_no_effect() -> None:
    declared = {"p": ParameterSettings(type="int")}
    posted = {"p": 1, "pvpython": "/bin/sh", "job.directory": "/", "__class__": "x"}
    assert check_parameters(declared, posted) == {"p": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "a\r#SBATCH --wrap=x",
        "\n#SBATCH --uid=0",
        "nul\0byte",
        "tab\there",
        "bell\x07",
        "escape\x1b[2J",
        "del\x7f",
        "c1\x85",
        "line\u2028separator",
        "paragraph\u2029separator",
        "lone\ud800surrogate",
        "low\udfffsurrogate",
    ],
)
def test_text_with_anything_that_could_begin_a_line_is_refused(text: str) -> None:
    assert "without control characters" in refusal(text, type="str")


@pytest.mark.parametrize(
    "text",
    [
        *("$(touch x)", "`id`", "a; b", "a && b", "|", ">out", "*", "~root", "\\", "#SBATCH -p x"),
        *("'", '"', "{{ job.name }}", "{% include 'x' %}", "${IFS}", "%(x)s", "-o/tmp/x", "../.."),
    ],
)
def test_text_that_means_something_to_a_shell_or_a_template_is_only_text(text: str) -> None:
    assert check(text, type="str") == text


def test_text_has_a_greatest_length() -> None:
    assert check("x" * 256, type="str") == "x" * 256
    assert "at most 256 characters" in refusal("x" * 257, type="str")
    assert "at most 3 characters" in refusal("𝄞𝄞𝄞𝄞", type="str", max_length=3)


def test_a_pattern_is_for_the_whole_text() -> None:
    rules: dict[str, Any] = {"type": "str", "pattern": "[a-z]+"}
    assert check("abc", **rules) == "abc"
    for text in ("abc1", "1abc", "ab c", "", "abc\n"):
        assert "matching [a-z]+" in refusal(text, **rules)
    assert "matching" in refusal("evil", type="str", pattern="^a|b$")
    assert "matching" in refusal("ax", type="str", pattern="a|b")


def test_numbers_have_bounds_that_are_allowed_themselves() -> None:
    rules: dict[str, Any] = {"type": "int", "min": -1, "max": 3}
    assert [check(each, **rules) for each in (-1, 3)] == [-1, 3]
    for value in (-2, 4, "4"):
        assert "at least -1, at most 3" in refusal(value, **rules)
    assert "at most 0.5" in refusal(0.51, type="float", max=0.5)
    assert "at most 16777217" in refusal(10**9, type="int", max=16777217)


def test_choices_are_the_only_values() -> None:
    assert check("b", type="str", choices=["a", "b"]) == "b"
    assert check("2", type="int", choices=[1, 2]) == 2
    assert "one of a, b" in refusal("c", type="str", choices=["a", "b"])
    assert "one of 1, 2" in refusal(3, type="int", choices=[1, 2])


def test_a_refusal_does_not_repeat_what_was_posted() -> None:
    assert "<script>" not in refusal("<script>\n", type="str")
