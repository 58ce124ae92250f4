"""Every field of an experiment, with its meaning and its default. Experiments start from here and change what differs.

The config is locked: a field that is not named here is an error, in a file and on the command line alike.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The base experiment. It names no network and no data: an experiment's file does."""
    config = ConfigDict()
    config.seed = 0  # of weights, dropout, order and augmentation
    # The same bits from the same config on the same machine, interrupted or not; slower. Of one device alone.
    config.deterministic = False

    config.task = "classification"  # or segmentation: a label for every pixel, from the feature maps of config.model

    config.model = ConfigDict()
    config.model.name = placeholder(str)  # one of convzoo.models.list_models()
    config.model.image_size = placeholder(int)  # height and width in pixels; None: as published for the network
    config.model.overrides = ConfigDict()  # keywords of the network's builder, as num_experts

    config.segmentation = ConfigDict()  # of that network; see convzoo.models.create_segmenter
    config.segmentation.output_stride = 16  # pixels between two positions of the backbone's last map: 8, 16 or 32
    config.segmentation.filters = 256
    config.segmentation.low_level_filters = 48
    config.segmentation.atrous_rates = ()  # dilations of the pyramid; (): by the output stride
    config.segmentation.head_dropout_rate = 0.1

    config.init = ConfigDict()  # what a run starts from; its own checkpoints come first
    # A .weights.h5 file, the workdir of an earlier run (its best checkpoint, else its newest, with the moving average
    # where kept) or one checkpoint. The overrides that were recorded with it hold where model.overrides is silent.
    config.init.weights = placeholder(str)
    config.init.new_head = False  # start the classifier anew even if the number of classes agrees
    config.init.freeze = ()  # shell patterns of layers that keep weights and statistics: ("stem_*", "block[0-3]_*")
    config.init.body_rate = 1.0  # factor on the learning rate of everything outside the classifier

    config.data = ConfigDict()
    # digits, fake, idx:FOLDER, folder:FOLDER, tfds:NAME, tfrecord:FOLDER; with a label for every pixel: shapes, tfds
    config.data.source = placeholder(str)
    config.data.data_dir = placeholder(str)  # where TensorFlow Datasets keeps its files; None: its own default
    config.data.train_split = "train"  # slices as "train[:90%]" work for every source
    config.data.eval_split = "test"
    config.data.crop_area = (0.08, 1.0)  # inception crop: share of the picture's area; (): no such crop
    config.data.crop_aspect = (3 / 4, 4 / 3)  # inception crop: width over height
    config.data.crop_padding = 0  # pixels; instead (crop_area ()) a crop of the picture's size from a padded one
    config.data.flip = True  # left to right, half of the time
    config.data.jitter = (0.0, 0.0, 0.0)  # of brightness, contrast, saturation: how far the factors are from 1
    config.data.auto_augment = False  # AutoAugment's policy v0
    config.data.rand_augment = ()  # RandAugment: (layers, magnitude), as (2, 10.0); (): off
    config.data.erasing = 0.0  # probability of random erasing
    config.data.mixup = 0.0  # alpha; 0: off. With cutmix each picture gets one of the two
    config.data.cutmix = 0.0  # alpha; 0: off
    config.data.repeats = 1  # how often a picture comes in a batch, each time augmented anew
    config.data.interpolation = placeholder(str)  # bilinear or bicubic; None: as published for the network
    config.data.crop_fraction = placeholder(float)  # evaluation's centre crop; None: as published for the network
    config.data.shuffle_buffer = 16_384  # examples
    config.data.max_broken = 0.001  # share of an epoch's pictures that may be broken; more of them end the run
    # HOST:PORT,HOST:PORT,... of data servers (scripts/data_service.sh), which decode and augment; None: this machine
    config.data.service = placeholder(str)

    config.batch_size = placeholder(int)  # over all replicas and all accumulated parts
    config.eval_batch_size = placeholder(int)  # None: the training batch size
    config.epochs = placeholder(float)
    config.precision = "float32"  # or mixed_bfloat16
    # Replicas whose examples batch normalisation takes together; None: all of them. Where it is fewer (1: each by
    # itself), the moving statistics are averaged over the replicas before each evaluation and checkpoint.
    config.batch_norm_replicas = placeholder(int)
    config.gradient_accumulation = 1  # parts that each replica's batch is computed in, one after the other
    config.clip_norm = placeholder(float)  # global norm of the gradient of the whole batch; None: no clipping

    config.label_smoothing = 0.0
    config.weight_decay = 0.0  # times the sum of squares / 2, in the loss, of every weight outside batch normalisation

    config.optimizer = ConfigDict()
    config.optimizer.name = "rmsprop"  # with TensorFlow 1 semantics; or sgd
    config.optimizer.learning_rate = placeholder(float)  # the schedule's peak, at this batch size
    config.optimizer.momentum = 0.9
    config.optimizer.rho = 0.9  # rmsprop: decay of the mean square
    config.optimizer.epsilon = 1e-3  # rmsprop: inside the square root
    config.optimizer.nesterov = True  # sgd

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # cosine, linear, exponential, step or constant
    config.schedule.warmup_epochs = 0.0  # linear from 0; the schedule itself starts at step 0 all the same
    config.schedule.decay_epochs = 2.4  # exponential: the rate falls by decay_rate, in a step, once in so many epochs
    config.schedule.decay_rate = 0.97  # exponential and step: the factor of each fall
    config.schedule.milestones = ()  # step: the epochs at which the rate falls, as (200, 300, 350)
    config.schedule.end_factor = 0.0  # cosine and linear: the last rate, as a share of the peak

    config.ema_decay = placeholder(float)  # moving average of weights and statistics, evaluated where set; None: off

    config.steps_per_loop = 100  # steps between two looks of the host at the devices; one log line each
    config.eval_every_epochs = 1.0  # rounded to whole loops, as the next
    config.checkpoint_every_epochs = 1.0
    config.checkpoint_every_minutes = 10.0  # as well, at the end of a loop; None: by epochs alone
    config.keep_checkpoints = 3
    return config.lock()
