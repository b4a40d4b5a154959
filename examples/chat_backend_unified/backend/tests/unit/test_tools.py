import pytest

from chat.tools import calculator, evaluate, knowledge_base


def test_multiplication_comes_before_addition():
    assert evaluate("2+3*4") == 14


def test_dividing_by_zero_is_refused():
    with pytest.raises(ValueError, match="cannot calculate"):
        evaluate("1/0")


def test_python_code_is_refused():
    with pytest.raises(ValueError, match="only numbers"):
        evaluate("__import__('os').getcwd()")


def test_the_calculator_reports_an_error_as_its_result():
    assert calculator.invoke({"expression": "2+"}).startswith("error: cannot calculate")


def test_a_topic_is_found_in_any_case():
    assert "one file" in knowledge_base.invoke({"topic": " SQLite "})


def test_an_unknown_topic_is_named():
    assert knowledge_base.invoke({"topic": "entropy"}) == "Nothing is known about 'entropy'."
