"""Networks of PyTorch Image Models in a process of their own.

PyTorch and TensorFlow in one process bring two copies of the same libraries, and importing PyTorch after TensorFlow
ends in a segmentation fault with some of their wheels. This module imports no TensorFlow.
"""

import multiprocessing
import sys
import time

from convzoo.errors import ConfigError, first_line

_CLASSES = 1000


class TimmProcess:
    """A process that makes steps of one network when asked to, and waits in between.

    Args:
        name: Name of the network in timm.
        mode: "train" or "inference".
        **settings: batch_size, image_size, optimizer ("rmsprop" or "sgd"), learning_rate, weight_decay, num_threads.

    Attributes:
        versions: Versions of torch and timm.

    Raises:
        ConfigError: timm or torch cannot be imported, timm has no such network, or the process ended.
    """

    def __init__(self, name: str, mode: str, **settings):
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._name = name
        # It ends with this process.
        context.Process(target=_serve, args=(other, name, mode, settings), daemon=True).start()
        other.close()
        self.versions = self._answer()

    def __call__(self) -> float:
        """Makes a step and returns the CPU seconds that the process has used so far."""
        self._connection.send("step")
        return self._answer()

    def cpu_seconds(self) -> float:
        """Returns the CPU seconds that the process has used so far."""
        self._connection.send("time")
        return self._answer()

    def _answer(self):
        try:
            answer = self._connection.recv()
        except EOFError as error:
            raise ConfigError(f"the process of timm:{self._name} ended; see what it said above") from error
        if isinstance(answer, str):
            raise ConfigError(answer)
        return answer


def _serve(connection, name, mode, settings):
    try:
        step = _make_step(name, mode, **settings)
    except ConfigError as error:
        connection.send(str(error))
        return
    connection.send({name: sys.modules[name].__version__ for name in ("torch", "timm")})
    while True:
        try:
            request = connection.recv()
        except EOFError:  # the other process has ended
            return
        if request == "step":
            step()
        connection.send(time.process_time())


def _make_step(name, mode, *, batch_size, image_size, optimizer, learning_rate, weight_decay, num_threads):
    """Returns a function of one step on the CPU, which waits for the result."""
    try:
        import timm
        import torch
    except Exception as error:  # incompatible wheels raise exceptions of any type
        raise ConfigError(
            f"timm:{name} needs torch and timm, which cannot be imported ({first_line(error)}): pip install torch timm"
        ) from error
    if not timm.is_model(name):
        raise ConfigError(f"timm {timm.__version__} has no network {name!r}")
    torch.set_num_threads(num_threads)
    images = torch.randn(batch_size, 3, image_size, image_size)
    labels = torch.arange(batch_size) % _CLASSES
    model = timm.create_model(name, num_classes=_CLASSES).train(mode == "train")
    optimizer_class = torch.optim.RMSprop if optimizer == "rmsprop" else torch.optim.SGD
    optimizer = optimizer_class(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay)

    def infer():
        with torch.inference_mode():
            float(model(images).sum())

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return train if mode == "train" else infer
