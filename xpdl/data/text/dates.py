"""Dates as people write them, and in the one form of ISO 8601."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from xpdl.backends.random import next_stream
from xpdl.data.text.tasks import Examples, examples
from xpdl.data.text.vocabulary import Vocabulary

# not those of the module calendar, which follow the locale
_MONTHS = [
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_FORMS = (
    "{weekday}, {month} {day}, {year}",
    "{month} {day}, {year}",
    "{month:.3} {day}, {year}",
    "{day} {month} {year}",
    "{day} {month:.3} {year}",
    "{number}/{day}/{short_year:02}",
    "{year}-{number:02}-{day:02}",
)
_CASES = (str, str.lower, str.upper)
_FIRST, _LAST = datetime.date(1970, 1, 1), datetime.date(2019, 12, 31)  # so that two digits name a year
_DAYS = (_LAST - _FIRST).days + 1
#: different questions: 5 forms with words, in 3 cases each, and 2 of numbers; of days in May, "May" is also the short name
_QUESTIONS = _DAYS * (5 * 3 + 2) - 50 * 31 * 2 * 3
#: of "Wednesday, September 25, 2002", and of "_2002-09-25"
_WIDTHS = 29, 11


def dates(n: int = 50_000, *, test_share: float = 0.1, seed: int | None = None) -> Examples:
    """Dates in many forms, and in one: ``"september 27, 1994"`` and ``"_1994-09-27"`` (Deep Learning from Scratch 2, 8.3).

    Parameters
    ----------
    n : int
        Different questions, in random order: days from 1970 to 2019, with the month as a word or a number, with or without
        the day of the week, in small and large letters.
    test_share : float
        Share of the rows that are kept to test with, in (0, 1).
    seed : int, optional
        By default the dates follow `xpdl.seed`.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : integer arrays (n, 29) and (n, 11)
        Ids of questions, filled with blanks, and answers, which begin with ``_``; of the backend in use.
    vocabulary : Vocabulary
        Of characters; ``begin`` is ``_``.

    Raises
    ------
    ShapeError
        If `n` is not a positive int.
    ValueError
        If there are not so many different questions, or `test_share` leaves no rows.

    Examples
    --------
    >>> (x, t), test, vocabulary = dates(100, seed=0)
    >>> vocabulary.decode(x[0]), vocabulary.decode(t[0])
    ('APRIL 21, 1984               ', '_1984-04-21')
    """
    stream = next_stream("dates", seed)
    rng = stream.generator("dates")
    written: set[int] = set()

    def draw(count: int) -> Iterable[tuple[str, str]]:
        days = rng.integers(0, _DAYS, count)
        forms, cases = (rng.integers(0, len(choices), count) for choices in (_FORMS, _CASES))
        codes = (days * len(_FORMS) + forms) * len(_CASES) + cases
        new = [code for code in dict.fromkeys(codes.tolist()) if code not in written]  # those that come again are known
        written.update(new)
        return map(_question_and_answer, new)

    return examples(draw, n, _WIDTHS, _vocabulary(), test_share, stream, "dates", most=_QUESTIONS)


def _question_and_answer(code: int) -> tuple[str, str]:
    rest, case = divmod(code, len(_CASES))
    day, form = divmod(rest, len(_FORMS))
    date = _FIRST + datetime.timedelta(days=day)
    return _CASES[case](_written(date, _FORMS[form])), f"_{date.isoformat()}"


def _written(date: datetime.date, form: str) -> str:
    return form.format(
        weekday=_WEEKDAYS[date.weekday()],
        month=_MONTHS[date.month - 1],
        number=date.month,
        day=date.day,
        year=date.year,
        short_year=date.year % 100,
    )


def _vocabulary() -> Vocabulary:
    """Return the characters of all forms, whichever dates are drawn."""
    names = "".join([*_MONTHS, *_WEEKDAYS])
    return Vocabulary(sorted({*names, *names.lower(), *names.upper(), *"0123456789,/- _"}), "characters", begin="_")
