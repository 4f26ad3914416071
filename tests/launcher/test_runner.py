"""`manage.py test` takes Django's labels and runs pytest."""

import pytest

from launcher.test_runner import node_id


@pytest.mark.parametrize(
    ("label", "node"),
    [
        ("tests", "tests"),
        ("tests.launcher", "tests/launcher"),
        ("tests.launcher.test_runner", "tests/launcher/test_runner.py"),
        ("tests.launcher.test_replay.SomeTests", "tests/launcher/test_replay.py::SomeTests"),
        ("tests.launcher.test_replay.SomeTests.test_x", "tests/launcher/test_replay.py::SomeTests::test_x"),
        ("tests/launcher/test_replay.py::test_x", "tests/launcher/test_replay.py::test_x"),
        ("launcher.session", "launcher/session.py"),
    ],
)
def test_a_dotted_label_is_the_same_test_in_pytests_words(label, node):
    assert node_id(label) == node


def test_an_unknown_label_is_refused_with_a_sentence():
    with pytest.raises(SystemExit, match="No test ran"):
        node_id("nowhere.tests.Case")
