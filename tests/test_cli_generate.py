"""``xpdl generate``: texts of a saved GPT, and one line for what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl import GPT, Affine, Sequential, SoftmaxWithLoss, Vocabulary, cli

TEXT = "the quick brown fox.\n" * 20
VOCABULARY = Vocabulary.characters(TEXT)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command in a folder with net.safetensors: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    net().save("net.safetensors")

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(xpdl.backends, "_current", None)
        return cli.main(["generate", *args]), *capsys.readouterr()

    return call


def net(vocab: int = len(VOCABULARY), vocabulary: Vocabulary | None = VOCABULARY) -> GPT:
    made = GPT(vocab, 8, 8, 2, 1, seed=0)
    made.vocabulary = vocabulary
    return made


def test_prints_the_prompt_and_what_follows(run: Callable[..., Any]) -> None:
    options = {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "seed": 3}
    ids = net().generate(VOCABULARY.encode("the "), 30, **options)  # type: ignore[arg-type]
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    code, out, err = run("net.safetensors", "--prompt", "the ", "--tokens", "30", *given)
    assert (code, err) == (0, "") and out == VOCABULARY.decode(ids) + "\n" and out.startswith("the ")
    assert len(ids) == 34


def test_begins_a_line_by_default(run: Callable[..., Any]) -> None:
    code, out, _ = run("net.safetensors")
    assert code == 0 and out.startswith("\n") and len(out) == 1 + 200 + 1


def test_ends_after_a_stop_token(run: Callable[..., Any]) -> None:
    code, out, _ = run("net.safetensors", "--seed", "0", "--tokens", "500", "--stop", ".", "--stop", "x")
    assert code == 0 and out[-2] in ".x" and not set(out[:-2]) & set(".x")


def test_another_text_each_time(run: Callable[..., Any]) -> None:
    assert len({run("net.safetensors", "--seed", str(seed))[1] for seed in (0, 1, 1)}) == 2


@pytest.mark.parametrize(
    "options",
    [{}, {"depth": 1, "dropout_ratio": 0.0, "tie_weights": False, "stateful": False}],
    ids=["better", "plain"],
)
def test_an_rnn_lm_goes_on_with_a_text(run: Callable[..., Any], options: dict[str, Any]) -> None:
    made = xpdl.RnnLm(len(VOCABULARY), 8, 8, seed=0, **options)
    made.vocabulary = VOCABULARY
    made.save("rnn.safetensors")
    draws = {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "seed": 3}
    stop = int(VOCABULARY.encode("x")[0])
    ids = made.generate(VOCABULARY.encode("the "), sample_size=60, stop=stop, **draws)
    given = [f"--{name.replace('_', '-')}={value}" for name, value in draws.items()]
    code, out, err = run("rnn.safetensors", "--prompt", "the ", "--tokens", "60", "--stop", "x", *given)
    assert (code, err, out) == (0, "", VOCABULARY.decode(ids) + "\n")


def test_an_rnn_lm_writes_no_unknown_words(run: Callable[..., Any]) -> None:
    words = Vocabulary.words("the fox saw the dog", unknown="<unk>")
    made = xpdl.RnnLm(len(words), 4, 4, seed=0)
    made.vocabulary = words
    made.save("rnn.safetensors")
    code, out, _ = run("rnn.safetensors", "--prompt", "the", "--tokens", "300", "--seed", "0")
    assert code == 0 and "<unk>" not in out and {"fox", "saw", "dog"} <= set(out.split())


@pytest.mark.parametrize("kind", ["GPT", "RnnLm"])
@pytest.mark.parametrize("prompts", [["the ", "fox"], ["qui", "fox"], ["t", "q", "brown fox"]])
def test_goes_on_with_each_of_several_prompts(run: Callable[..., Any], kind: str, prompts: list[str]) -> None:
    made: Any = net() if kind == "GPT" else xpdl.RnnLm(len(VOCABULARY), 8, 8, seed=0)
    made.vocabulary = VOCABULARY
    made.save("several.safetensors")
    given = [f"--prompt={prompt}" for prompt in prompts]
    code, out, err = run("several.safetensors", *given, "--tokens", "7", "--temperature", "0", "--stop", "x")
    stop = int(VOCABULARY.encode("x")[0])
    texts = []
    for prompt in prompts:
        if kind == "RnnLm":
            made.reset_state()
        texts.append(VOCABULARY.decode(made.generate(VOCABULARY.encode(prompt), 7, temperature=0, stop=stop)))
    assert (code, err, out) == (0, "", "\n\n".join(texts) + "\n")


def sized(rows: int) -> Sequential:
    made = Sequential(Affine(units=2), loss=SoftmaxWithLoss)
    made.predict(np.zeros((rows, 3), np.float32))
    return made


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--prompt", "Größe"], "--prompt: "),
        (["--prompt", "the", "--prompt", ""], "--prompt must have at least one token, got an empty text"),
        (["--prompt", ""], "--prompt must have at least one token, got an empty text"),
        (["--stop", "ox"], "--stop must be one token, got 'ox', which has 2; repeat it for several"),
        (["--stop", "Z"], "--stop: "),
        (["--tokens", "0"], "count must be an int of at least 1, got 0"),
        (["--temperature", "-1"], "temperature must be a finite number at least 0, got -1.0"),
        (["--top-k", "0"], "top_k must be an int of at least 1, got 0"),
        (["--top-p", "2"], "top_p must be a probability in (0, 1], got 2.0"),
    ],
)
def test_wrong_options_are_one_line(run: Callable[..., Any], args: list[str], says: str) -> None:
    code, out, err = run("net.safetensors", *args)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("xpdl generate: error: ") and says in err


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: net(vocabulary=None), "has no vocabulary; assign it to net.vocabulary before net.save"),
        (lambda: sized(2), "is a Sequential, which is no GPT and no RnnLm; name the file that its save wrote"),
        (lambda: xpdl.CBOW(5, 4), "is a CBOW, which is no GPT and no RnnLm; name the file that its save wrote"),
        (lambda: xpdl.RnnLm(5, 4, 4), "has no vocabulary; assign it to net.vocabulary before net.save"),
        *(
            (lambda kind=kind: kind(5, 4, 4), f"is a {kind.__name__}, which answers questions of the form that it was")
            for kind in (xpdl.Seq2seq, xpdl.PeekySeq2seq, xpdl.AttentionSeq2seq)
        ),
    ],
)
def test_other_models_are_refused(run: Callable[..., Any], model: Callable[[], Any], says: str) -> None:
    model().save("other.safetensors")
    code, out, err = run("other.safetensors")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"other.safetensors: {says}" in err


def test_a_missing_file_is_one_line(run: Callable[..., Any]) -> None:
    code, out, err = run("none.safetensors")
    assert (code, out, err.count("\n")) == (2, "", 1) and "none.safetensors" in err
