"""Images changed at random, so that a net sees another set in each epoch: for ``Batches`` and ``Trainer``.

Each transform is a callable ``transform(x) -> x`` for images (N, C, H, W) of any library, which it leaves as they are; the
result has their dtype and lies on their device. What happens to an image is drawn for each one from a stream of random
numbers alone, so that a seed gives the same images on every backend.

For example:

>>> x, t = np.ones((4, 1, 8, 8)), np.arange(4)
>>> moved = augment.Compose(augment.Shift(2), augment.Rotate(10))
>>> [x.shape for x, t in Batches(x, t, 2, seed=0, transform=moved)]
[(2, 1, 8, 8), (2, 1, 8, 8)]
"""

from xpdl.data.augment.base import Transform
from xpdl.data.augment.geometry import Elastic, Rotate, Scale
from xpdl.data.augment.pixels import Crop, Cutout, Flip, Shift
from xpdl.data.augment.values import Brightness, Noise
from xpdl.data.compose import Compose

__all__ = [
    "Brightness",
    "Compose",
    "Crop",
    "Cutout",
    "Elastic",
    "Flip",
    "Noise",
    "Rotate",
    "Scale",
    "Shift",
    "Transform",
]
