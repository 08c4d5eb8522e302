"""Learning curves that are drawn anew while a training runs."""

from __future__ import annotations

from typing import Any

from xpdl.ops.checks import positive_int
from xpdl.plots.curves import learning_curves
from xpdl.plots.style import png


class LiveCurves:
    """A callback that redraws `learning_curves` after epochs, in one place of a notebook.

    Parameters
    ----------
    every : int
        Epochs from one drawing to the next; the last one is always drawn.

    Raises
    ------
    RuntimeError
        Outside of IPython, where there is no place to draw again in: elsewhere, draw ``learning_curves(history)`` once, or
        let `CSVLogger` or `TensorBoard` write while the training runs.

    Examples
    --------
    >>> Trainer(net, x, t, callbacks=[LiveCurves()]).train()  # doctest: +SKIP
    """

    def __init__(self, every: int = 1) -> None:
        self.every = positive_int(every, "every", "LiveCurves")
        self._handle: Any = None
        self._drawn = 0
        _ipython()

    def on_train_begin(self, trainer: Any) -> None:
        """Begin a picture below the cell that runs now."""
        self._handle, self._drawn = None, trainer.current_epoch

    def on_epoch_end(self, trainer: Any, epoch: int) -> None:
        """Draw, where it is time to."""
        if epoch % self.every == 0:
            self._draw(trainer)

    def on_train_end(self, trainer: Any) -> None:
        """Draw the last epoch."""
        if self._drawn < trainer.current_epoch:
            self._draw(trainer)

    def _draw(self, trainer: Any) -> None:
        display = _ipython()
        image = display.Image(data=png(learning_curves(trainer.history)))
        self._drawn = trainer.current_epoch
        if self._handle is None:
            self._handle = display.display(image, display_id=True)
        else:
            self._handle.update(image)


def _ipython() -> Any:
    """IPython's displays, where they are shown."""
    try:
        from IPython import display, get_ipython
    except ImportError:
        running = None
    else:
        running = get_ipython()
    if running is None:
        raise RuntimeError(
            "LiveCurves: there is no notebook to draw in; draw xpdl.plots.learning_curves(history) after the training, or "
            "use CSVLogger or TensorBoard"
        )
    return display
