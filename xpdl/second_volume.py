"""Names of Deep Learning from Scratch 2, and what stands for them here."""

from __future__ import annotations

_MODEL = "xpdl.RnnLm"
#: name there -> what to write here
NAMES: dict[str, str] = {
    "TimeRNN": "xpdl.RNN",
    "TimeLSTM": "xpdl.LSTM",
    "TimeGRU": "xpdl.GRU",
    "TimeBiLSTM": "xpdl.Bidirectional(xpdl.LSTM(units))",
    "TimeEmbedding": "xpdl.Embedding",
    "TimeAffine": "xpdl.Affine with axis=-1",
    "TimeDropout": "xpdl.Dropout with inverted=True",
    "TimeSoftmaxWithLoss": "xpdl.SoftmaxWithLoss",
    **dict.fromkeys(("SimpleRnnlm", "Rnnlm", "BetterRnnlm", "RnnlmGen", "BetterRnnlmGen"), _MODEL),
    "eval_perplexity": "perplexity of xpdl.RnnLm",
    "RnnlmTrainer": "xpdl.Trainer",
    "clip_grads": "clip_norm of an optimizer",
    "SimpleCBOW": "xpdl.CBOW",
    "SimpleSkipGram": "xpdl.SkipGram",
    "NegativeSamplingLoss": "xpdl.NegativeSampling",
    **{name: f"xpdl.data.{name}" for name in ("UnigramSampler", "create_contexts_target", "most_similar")},
    "preprocess": "xpdl.Vocabulary",
    "eval_seq2seq": "accuracy of xpdl.Seq2seq",
}
