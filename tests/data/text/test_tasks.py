"""Tasks on sequences: additions, dates, copying and brackets."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.data import additions, brackets, copies, dates
from xpdl.data.text.dates import _CASES, _DAYS, _FORMS, _QUESTIONS, _question_and_answer

TASKS = (additions, dates, copies, brackets)
SUMS = {
    "additions": [141140691, 76766295, 1799167, 998400],
    "dates": [2650200372, 436944144, 29175085, 5374746],
    "copies": [733212996, 926763754, 8562938, 10897899],
    "brackets": [263995558, 189085, 3203021, 2507],
}
EACH = pytest.mark.parametrize("task", TASKS)


def rows(task, n=1000, **options):
    """(question, answer) of all rows, as text or number."""
    train, test, vocabulary = task(n, seed=1, **options)
    for x, t in (train, test):
        for question, answer in zip(x, t, strict=True):
            yield vocabulary.decode(question), int(answer) if t.ndim == 1 else vocabulary.decode(answer)


class TestRows:
    @pytest.mark.parametrize(
        ("task", "shapes"),
        [(additions, [(7,), (5,)]), (dates, [(29,), (11,)]), (copies, [(10,), (11,)]), (brackets, [(20,), ()])],
    )
    def test_shapes_and_split(self, task, shapes):
        (x_train, t_train), (x_test, t_test), vocabulary = task(200, test_share=0.25, seed=0)
        assert [x_train.shape, t_train.shape] == [(150, *shape) for shape in shapes]
        assert [x_test.shape, t_test.shape] == [(50, *shape) for shape in shapes]
        assert {a.dtype for a in (x_train, t_train, x_test, t_test)} == {np.dtype("int64")}
        assert max(x_train.max(), x_test.max()) < len(vocabulary)

    @EACH
    def test_follows_its_seed(self, task):
        (x, t), test, vocabulary = task(100, seed=3)
        again, test_again, _ = task(100, seed=3)
        for one, other in zip((x, t, *test), (*again, *test_again), strict=True):
            np.testing.assert_array_equal(one, other)
        assert (x != task(100, seed=4)[0][0]).any() and task(100, seed=4)[2] == vocabulary

    @EACH
    def test_rows_of_a_seed_stay_what_they_were(self, task):
        """Sums of the ids, each times its place, from when rows were drawn and written one by one."""
        (x, t), test, _ = task(1000, seed=3)
        assert [int((a.ravel() * np.arange(a.size)).sum()) for a in (x, t, *test)] == SUMS[task.__name__]

    @EACH
    def test_follows_the_seed_of_xpdl(self, task):
        drawn = []
        for seed in (5, 5, 6):
            xpdl.seed(seed)
            drawn.append(task(100)[0][0].tolist())
        assert drawn[0] == drawn[1] != drawn[2]

    @EACH
    def test_no_question_comes_twice(self, task):
        questions = [question for question, _ in rows(task)]
        assert len(set(questions)) == len(questions) == 1000

    @EACH
    def test_short_questions_are_everywhere(self, task):
        """Short ones are drawn again and again, and found first."""
        train, test, vocabulary = task(3000, test_share=0.5, seed=0)
        blank = vocabulary.ids[" "]
        share_train, share_test = ((x == blank).mean() for x, _ in (train, test))
        assert abs(share_train - share_test) < 0.02

    @pytest.mark.parametrize(
        "task, short, most",
        [(additions, {"digits": 1}, 100), (copies, {"length": 2}, 26 + 26**2), (dates, {}, 301_154)],
    )
    def test_more_questions_than_there_are_is_refused_before_any_is_drawn(self, task, short, most):
        with pytest.raises(ValueError, match=f"{task.__name__}: there are {most} different rows, got n={10**9}; ask"):
            task(10**9, **short)  # whose draws would take minutes

    def test_hardly_as_many_questions_as_asked_for_is_an_error(self):
        with pytest.raises(ValueError, match="brackets: there are hardly 2000 different rows, got n=2000"):
            brackets(2000, length=2)

    @pytest.mark.backends("values")
    @pytest.mark.skip_backend("jit", reason="nothing to trace")
    @EACH
    def test_is_of_the_backend_in_use(self, backend, task):
        with backend.use():
            (x, t), test, _ = task(20, seed=0)
        expected, expected_test, _ = task(20, seed=0)
        for one, other in zip((x, t, *test), (*expected, *expected_test), strict=True):
            backend.check(one, other)


class TestAdditions:
    def test_answers_are_sums(self):
        for question, answer in nonempty(rows(additions)):
            a, b = map(int, question.split("+"))
            assert answer == f"_{a + b}".ljust(5)

    def test_numbers_have_all_lengths(self):
        pairs = [tuple(map(len, question.strip().split("+"))) for question, _ in rows(additions)]
        assert {pairs.count((a, b)) > 30 for a in (1, 2, 3) for b in (1, 2, 3)} == {True}

    def test_digits(self):
        widths = {(len(question), len(answer)) for question, answer in rows(additions, digits=2)}
        assert widths == {(5, 4)} and max(len(q.strip()) for q, _ in rows(additions, digits=2)) == 5

    def test_vocabulary_is_the_book_s(self):
        vocabulary = additions(10, seed=0)[2]
        assert set(vocabulary.tokens) == set("0123456789+ _") and vocabulary.begin_id == vocabulary.ids["_"]
        assert vocabulary.decode(vocabulary.encode("57+5   "), special=False) == "57+5"


class TestDates:
    def test_answers_are_the_days(self):
        forms = set()
        for question, answer in nonempty(rows(dates)):
            assert len(question) == 29 and re.fullmatch(r"_\d{4}-\d\d-\d\d", answer)
            date, form = parsed(question.strip())
            assert answer == f"_{date.isoformat()}"
            assert 1970 <= date.year <= 2019
            forms.add(form)
        assert len(forms) == len(_FORMS)

    def test_small_and_large_letters(self):
        words = [question.strip() for question, _ in rows(dates) if re.search("[a-z]", question.lower())]
        for case in (str.upper, str.lower, str.title):
            assert sum(word == case(word) for word in words) > 150

    @pytest.mark.exhaustive
    def test_number_of_different_questions(self):
        codes = range(_DAYS * len(_FORMS) * len(_CASES))
        assert len({_question_and_answer(code)[0] for code in codes}) == _QUESTIONS

    def test_vocabulary_does_not_depend_on_what_is_drawn(self):
        assert dates(10, seed=0)[2] == dates(1000, seed=1)[2]


def parsed(text):
    """The day that a text names, and the form of it, by Python's own parser."""
    for form in ("%A, %B %d, %Y", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%m/%d/%y", "%Y-%m-%d"):
        try:
            date = datetime.datetime.strptime(text, form).date()
        except ValueError:
            continue
        if form.startswith("%A"):
            assert text.lower().startswith(date.strftime("%A").lower())
        # of May, one name is the other
        return date, form.replace("%b", "%B") if "may" in text.lower() else form
    raise AssertionError(text)


def test_copies_are_the_same_again():
    for question, answer in nonempty(rows(copies)):
        assert answer == f"_{question}" and re.fullmatch("[a-z]+ *", question)
    lengths = [len(question.strip()) for question, _ in rows(copies, 3000)]
    assert set(lengths) == set(range(1, 11))


class TestBrackets:
    def test_labels_say_whether_all_are_closed(self):
        for question, label in nonempty(rows(brackets)):
            text = question.strip()
            while "()" in text or "[]" in text:
                text = text.replace("()", "").replace("[]", "")
            assert label == (text == "")

    def test_half_is_right_at_every_length(self):
        by_length = {}
        for question, label in rows(brackets, 4000):
            by_length.setdefault(len(question.strip()), []).append(label)
        assert set(by_length) <= set(range(2, 21, 2)) and len(by_length) == 10
        # of the short ones, hardly any are right
        assert all(0.4 < np.mean(by_length[length]) < 0.6 for length in range(12, 21, 2))

    def test_rows_nest(self):
        depths = [
            max(np.cumsum([(c in "([") - (c in ")]") for c in q.strip()])) for q, right in rows(brackets) if right
        ]
        assert max(depths) >= 6 and min(depths) == 1
