"""Word vectors of *Alice's Adventures in Wonderland* by CBOW: nearest words, and the vectors in the plane."""

import numpy as np
from matplotlib.figure import Figure
from shared import options, save

import xpdl
from xpdl.data import create_contexts_target, most_similar

WINDOW, SIZE = 4, 50
QUERIES = ("queen", "said", "eyes", "she", "down")
GROUPS = {
    "who": ["queen", "king", "duchess", "hatter", "gryphon", "caterpillar", "dormouse", "rabbit", "cat", "knave"],
    "to speak": ["said", "replied", "added", "asked", "cried", "remarked", "whispered", "shouted"],
    "to think": ["thought", "knew", "wondered", "felt", "wished"],
    "bodies": ["eyes", "head", "hands", "arms", "face", "mouth", "feet", "neck"],
    "where": ["down", "up", "out", "away", "back", "off", "over", "under"],
}


def main(argv: list[str] | None = None) -> tuple[list[float], dict[str, list[str]]]:
    args = options(__doc__, argv, seconds=5)
    text = xpdl.load_alice()[: 20_000 if args.short else None]
    vocabulary = xpdl.Vocabulary.words(text, min_count=2 if args.short else 4, unknown="<unknown>")
    corpus = vocabulary.encode(text)
    contexts, target = create_contexts_target(corpus, WINDOW)
    net = xpdl.CBOW(len(vocabulary), SIZE, WINDOW, corpus, seed=args.seed)
    settings = {"optimizer": xpdl.Adam(lr=0.005), "seed": args.seed, "verbose": False}
    history = xpdl.Trainer(net, contexts, target, epochs=1 if args.short else 6, **settings).train()
    print(f"{vocabulary}, loss {history.epoch_loss_list[0]:.2f} -> {history.epoch_loss_list[-1]:.2f}")
    nearest = {}
    for query in (query for query in QUERIES if query in vocabulary):
        nearest[query] = [word for word, _ in most_similar(query, vocabulary, net.word_vecs)]
        print(f"{query:8}{' '.join(nearest[query])}")
    vectors = xpdl.asnumpy(net.word_vecs).astype("float64")
    save(plane(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), vocabulary), args, "word_vectors")
    return history.epoch_loss_list, nearest


def plane(vectors: np.ndarray, vocabulary: xpdl.Vocabulary) -> Figure:
    """Draw groups of words along the two directions in which their vectors differ most, by the SVD of them."""
    groups = {name: [word for word in words if word in vocabulary] for name, words in GROUPS.items()}
    rows = vectors[[vocabulary.ids[word] for words in groups.values() for word in words]]
    centre = rows.mean(axis=0)
    _, _, directions = np.linalg.svd(rows - centre, full_matrices=False)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, words in groups.items():
        places = (vectors[[vocabulary.ids[word] for word in words]] - centre) @ directions[:2].T
        points = axes.scatter(places[:, 0], places[:, 1], s=12, label=name)
        for word, place in zip(words, places, strict=True):
            colour = points.get_facecolor()[0]
            axes.annotate(word, place, xytext=(3, 2), textcoords="offset points", color=colour, fontsize=8)
    axes.set(xticks=[], yticks=[], title="Vectors of words, by their two principal components")
    axes.margins(x=0.14)
    axes.legend(loc="lower left")
    return figure


if __name__ == "__main__":
    main()
