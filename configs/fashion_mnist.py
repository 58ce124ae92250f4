"""The quickstart's network on Fashion-MNIST at 32x32.

    apt-get install dataset-fashion-mnist      # Debian; or put the four idx files into a folder of your own
    python train.py --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist
    python eval.py --workdir=runs/fashion_mnist --checkpoint=best --split=test

The best checkpoint is chosen on the last 5,000 training pictures; the test split is only for `eval.py`. Another folder:
`--config.data.source=idx:/my/folder`.

Seen on two CPU cores that did other work besides (TensorFlow 2.21, float32): 13.6 minutes, 88.4 % of the 10,000 test
pictures right after 4 epochs.
"""

from convzoo.configs import quickstart


def get_config(variant: str = ""):
    """The experiment; it has no variants."""
    if variant:
        raise ValueError(f"configs/fashion_mnist.py has no variant {variant!r}; leave it out")
    config = quickstart.get_config()
    config.model.overrides.bn_momentum = 0.99

    config.data.source = "idx:/usr/share/datasets/fashion-mnist"
    config.data.train_split = "train[:55000]"
    config.data.eval_split = "train[55000:]"
    config.data.flip = True

    config.batch_size = 128
    config.eval_batch_size = 512
    config.epochs = 4.0
    config.weight_decay = 1e-5
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.ema_decay = 0.99
    config.steps_per_loop = 50
    config.eval_every_epochs = 1.0
    config.checkpoint_every_epochs = 1.0
    return config
