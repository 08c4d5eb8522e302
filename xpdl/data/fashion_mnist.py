"""Fashion-MNIST: pieces of clothing in the form of MNIST's digits."""

from __future__ import annotations

from xpdl.data._files import Split, check_flags
from xpdl.data.idx_files import IdxSet

#: classes of the labels 0 to 9
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

FASHION_MNIST = IdxSet(
    "Fashion-MNIST",
    ("fashion-mnist",),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    # of the files whose MD5 in the publisher's README are 8d4fb7e6c68d591d4c3dfef9ec88bf0d,
    # 25c81989df183df01b3e8a0aad5dffbe, bef4ecab320f06d8554ea6380940ec79 and bb300cfdad3c16e7a12a480ee83cd310
    {
        "train-images-idx3-ubyte.gz": (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        "train-labels-idx1-ubyte.gz": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        "t10k-images-idx3-ubyte.gz": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        "t10k-labels-idx1-ubyte.gz": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
)


def load_fashion_mnist(
    normalize: bool = True, flatten: bool = True, one_hot_label: bool = False, *, verify: bool = True
) -> tuple[Split, Split]:
    """60,000 training and 10,000 test images of pieces of clothing, of the ten kinds of `FASHION_MNIST_CLASSES`.

    Parameters, what is returned and what is raised are as for `load_mnist`.

    Notes
    -----
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    arXiv:1708.07747. The four files, which are called like those of MNIST, plain or with ``.gz``, are looked for in the
    subfolder ``fashion-mnist`` of the folder ``XPDL_DATA``, then in the cache, and else downloaded there. The SHA-256 is
    that of the ``.gz`` files as they are published, so unpacked or repacked ones need ``verify=False``.
    """
    check_flags("load_fashion_mnist", normalize=normalize, flatten=flatten, one_hot_label=one_hot_label, verify=verify)
    return FASHION_MNIST.load(normalize, flatten, one_hot_label, verify)
