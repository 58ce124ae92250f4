"""The fields of an experiment: name, type, default, range and meaning of each.

Numbers are finite. Where a field allows None, None means "off" or "as published for the network".
"""

import itertools
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import AfterValidator, Field


def _interval(values: tuple) -> tuple:
    if values[0] > values[1]:
        raise ValueError("has a lower end above its upper end")
    return values


def _increasing(values: tuple) -> tuple:
    if any(low >= high for low, high in itertools.pairwise(values)):
        raise ValueError("is not strictly increasing")
    return values


def _unique(values: tuple) -> tuple:
    if len({*values}) < len(values):
        raise ValueError("names one twice")
    return values


def _starts_with_one(values: tuple) -> tuple:
    if values[0] != 1:
        raise ValueError("does not start with 1, which selects the best checkpoint")
    return values


_T = TypeVar("_T")
# The result of a run does not depend on a field that may change when the run is resumed.
_MayChange = Annotated[_T, Field(json_schema_extra={"may_change": True})]
_Tuple = Annotated[_T, Field(strict=False)]  # also accepts a list, because JSON has no tuples
_Interval = Annotated[_Tuple[tuple[_T, _T]], AfterValidator(_interval)]
_NotEmpty = Annotated[_Tuple[tuple[_T, ...]], Field(min_length=1)]
_Text = Annotated[str, Field(min_length=1)]
_PositiveInt = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_NonNegative = Annotated[float, Field(ge=0)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_LrMultiplier = _Tuple[tuple[_Text, _Positive]]
_WeightDecayMultiplier = _Tuple[tuple[_Text, _NonNegative]]
_Scale = Annotated[float, Field(ge=1 / 16, le=16)]
_Side = Annotated[int, Field(ge=1, le=16_384)]
_PositiveFraction = Annotated[float, Field(gt=0, le=1)]
_BelowOne = Annotated[float, Field(ge=0, le=0.999)]
_Decay = Annotated[float, Field(ge=0, le=0.9999)]


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class Model(Section):
    """The network."""

    name: _Text
    """Name of the network, one of `convzoo.models.list_models()`."""
    image_size: _PositiveInt | None = None
    """Height and width of the input in pixels. None: as published for the network."""
    operator: dict[str, Any] = {}
    """Settings of what replaces the network's convolutions, see `convzoo.models.operators`: `num_experts` of CondConv,
    `regions` of DRConv. With `name`, such as `CondConv`, it replaces the network's own operator."""
    overrides: dict[str, Any] = {}
    """Keyword arguments of the network's builder, such as `stem_strides`."""


class Classification(Section):
    """Evaluation of classification (`convzoo.tasks.Classification`); other tasks ignore it."""

    eval_top_k: _MayChange[
        Annotated[_NotEmpty[_PositiveInt], AfterValidator(_increasing), AfterValidator(_starts_with_one)]
    ] = (1, 5)
    """Values of k, from 1 on: evaluation reports how often the label is among the k most probable classes."""


class Segmentation(Section):
    """Decoder (`convzoo.models.create_segmenter`) and evaluation of segmentation; other tasks ignore it."""

    decoder: Literal["deeplabv3plus", "deeplabv3"] = "deeplabv3plus"
    """With separable convolutions and finer features of the backbone, or with ordinary ones and without."""
    output_stride: Literal[8, 16, 32] = 16
    """Pixels between two positions of the backbone's last feature map: 8, 16 or 32."""
    filters: _PositiveInt = 256
    """Channels of the pyramid and of the decoder."""
    low_level_filters: _PositiveInt = 48
    """deeplabv3plus: channels of the projected low-level features."""
    atrous_rates: _NotEmpty[_PositiveInt] | None = None
    """Dilation rates of the pyramid. None: derived from the stride of the last feature map."""
    head_dropout_rate: _BelowOne = 0.1
    """Dropout rate before the classifier."""
    eval_size: _MayChange[_Tuple[tuple[_Side, _Side]] | None] = None
    """Evaluate at the size of each image, of which none is larger than this height and width. With `data.scale_jitter`
    the network receives the images at that size, else the logits are resized. None: at the size of the network's
    input."""
    eval_scales: _MayChange[_NotEmpty[_Scale]] = (1.0,)
    """Factors on the input size; evaluation averages the probabilities, such as of `(0.5, 0.75, 1.0, 1.25, 1.5)`."""
    eval_flip: _MayChange[bool] = False
    """Average the probabilities with those of the mirrored image in evaluation."""


class Detector(Section):
    """Network of a detector (`convzoo.models.create_detector`); other tasks ignore it."""

    neck: Literal["ssd", "fpn"] = "ssd"
    """`ssd`: feature maps at strides 16, 32 and coarser ones. `fpn`: a feature pyramid from stride 8 on (RetinaNet)."""
    lite: bool = False
    """Separable convolutions after the backbone."""
    extra_filters: _Tuple[tuple[_PositiveInt, ...]] | None = None
    """ssd: channels of the feature maps after the backbone's, for a network of width 1. None: (512, 256, 256, 128)."""
    pyramid_filters: _PositiveInt | None = None
    """fpn: channels of the pyramid. None: 256."""
    head_convs: Annotated[int, Field(ge=0)] | None = None
    """fpn: number of 3x3 convolutions before each predictor. None: 4."""
    min_level: Annotated[int, Field(ge=1, le=5)] | None = None
    """fpn: finest level of the pyramid, of stride 2^min_level. None: 3."""
    max_level: Annotated[int, Field(ge=5, le=10)] | None = None
    """fpn: coarsest level of the pyramid, of stride 2^max_level. None: 7."""


class Detection(Section):
    """Loss and post-processing of detection (`convzoo.tasks.Detection`); other tasks ignore it."""

    class_loss: Literal["focal", "hard_negative"] = "focal"
    """Sigmoid focal loss of all anchors, or sigmoid cross-entropy of the matched anchors and of three times as many
    others, those with the largest loss."""
    focal_alpha: _Fraction = 0.75
    """focal: weight of an anchor's own class; other classes have 1 - alpha."""
    focal_gamma: _NonNegative = 2.0
    """focal: exponent of the error."""
    box_loss_weight: _Positive = 1.0
    """Factor of the boxes' loss."""
    match_threshold: _PositiveFraction = 0.5
    """Lowest IoU of an anchor with the object that it has to predict."""
    nms_threshold: _MayChange[_PositiveFraction] = 0.6
    """Largest IoU of two detections of a class."""
    score_threshold: _MayChange[_Fraction] = 1e-8
    """Detections have a larger score."""
    max_detections: _MayChange[Annotated[int, Field(ge=1, le=1000)]] = 100
    """Largest number of detections of an image. The metrics of COCO count at most 100 of each class."""


class Verification(Section):
    """Network, loss and pairs of verification (`convzoo.tasks.Verification`); other tasks ignore it."""

    embedding_size: _PositiveInt | None = None
    """Numbers of an embedding, from a linear layer after the pooling. None: no such layer."""
    loss: Literal["arcface", "cosface", "softmax"] = "arcface"
    """Softmax cross-entropy of scaled cosines: with a margin on the angle, with one on the cosine, or without."""
    margin: Annotated[float, Field(gt=0, lt=3)] | None = None
    """arcface and cosface: the margin. None: 0.5 radians and 0.35."""
    scale: _Positive = 64.0
    """Factor of the cosines."""
    pairs: _MayChange[_Text | None] = None
    """Images and pairs of evaluation: `pairs:IMAGES,PAIRS.txt` in LFW's format, or a source of which pairs are
    generated; `data.eval_split` is a split of it. None: pairs of `data.source`."""
    num_pairs: _MayChange[Annotated[int, Field(ge=2, le=10_000_000)]] = 6000
    """Number of generated pairs, half of them of one identity."""
    num_folds: _MayChange[Annotated[int, Field(ge=1, le=1000)]] = 10
    """Folds of generated pairs."""
    pair_seed: _MayChange[Annotated[int, Field(ge=0, le=2**31 - 1)]] = 0
    """Seed of generated pairs."""
    mirror: _MayChange[bool] = True
    """Evaluate and export the sum of the embeddings of an image and its mirror image."""


class Init(Section):
    """Initialization of a new run. A run that has checkpoints resumes from them instead."""

    weights: _Text | None = None
    """A `.weights.h5` file, a checkpoint, or the workdir of an earlier run: its best checkpoint, else its newest, with
    the moving average if there is one. What `model.operator` and `model.overrides` do not set comes from the weights.
    None: random initialization."""
    new_classifier: bool = False
    """Initialize the classifier randomly even if the number of classes agrees."""
    freeze: _NotEmpty[_Text] | None = None
    """Shell patterns of layers whose weights and statistics stay fixed, such as `("stem_*", "block[0-3]_*")`."""
    backbone_lr_multiplier: _Positive = 1.0
    """Factor on the learning rate of all weights outside the classifier."""


class Data(Section):
    """Input pipeline: source, splits, augmentation of training images, preprocessing."""

    source: _Text
    """`digits`, `fake`, `glyphs`, `idx:FOLDER`, `folder:FOLDER`, `tfds:NAME` or `tfrecord:FOLDER`; for segmentation
    `masks:IMAGES,MASKS`, `shapes` or `tfds:NAME`; for detection `coco:FOLDER`, `coco:IMAGES,ANNOTATIONS.json`,
    `shapes_boxes` or `tfds:NAME`."""
    data_dir: _MayChange[_Text | None] = None
    """Folder of TensorFlow Datasets (`tfds`, `digits`) and of the record counts of `tfrecord`. None: the environment
    variable TFDS_DATA_DIR, else `~/tensorflow_datasets`."""
    train_split: _Text = "train"
    """Split to train on. Every source supports slices such as `train[:90%]`."""
    eval_split: _Text = "test"
    """Split to evaluate on during training."""
    crop_area: _Interval[_PositiveFraction] | None = (0.08, 1.0)
    """Inception crop: lowest and highest fraction of the image's area. None: no such crop."""
    crop_aspect: _Interval[_Positive] = (3 / 4, 4 / 3)
    """Inception crop: lowest and highest width divided by height."""
    scale_jitter: _Interval[_Scale] | None = None
    """segmentation: lowest and highest factor by which an image is enlarged before a random crop of the input size,
    such as `(0.5, 2.0)`. Evaluation and export do not resize images then. Requires `crop_area` None and
    `segmentation.eval_size`."""
    crop_padding: _PositiveInt | None = None
    """Pixels of padding before a random crop of the image's size. Requires `crop_area` None."""
    flip: bool = True
    """Flip half of the images left to right."""
    color_jitter: _Tuple[tuple[_NonNegative, _NonNegative, _NonNegative]] | None = None
    """Largest distance from 1 of the factors of brightness, contrast and saturation."""
    auto_augment: bool = False
    """AutoAugment, policy v0."""
    rand_augment: _Tuple[tuple[Annotated[int, Field(ge=1, le=16)], Annotated[float, Field(ge=0, le=30)]]] | None = None
    """RandAugment: number of operations and magnitude, such as `(2, 10.0)`."""
    random_erasing: _Fraction = 0.0
    """Probability of random erasing."""
    mixup: _Positive | None = None
    """Alpha of mixup. If mixup and cutmix are set, each image gets one of the two."""
    cutmix: _Positive | None = None
    """Alpha of CutMix."""
    repeated_augmentation: _PositiveInt = 1
    """Copies of an image in a batch, each with its own augmentation."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation of resizing. None: as published for the network."""
    mean: _Tuple[tuple[float, float, float]] | None = None
    """Mean of red, green and blue on the scale 0 to 255, which is subtracted. None: as published for the network."""
    std: _Tuple[tuple[_Positive, _Positive, _Positive]] | None = None
    """Divisor of red, green and blue after that. None: as published for the network."""
    crop_fraction: _PositiveFraction | None = None
    """Center crop in evaluation. None: as published for the network."""
    shuffle_buffer: _PositiveInt = 16_384
    """`tfds` and `tfrecord`: examples in memory for shuffling, over all virtual shards. Other sources shuffle a whole
    split."""
    max_corrupt_fraction: _MayChange[_Fraction] = 0.001
    """Fraction of an epoch's images that may be corrupt; more of them end the run."""
    service: _MayChange[_Text | None] = None
    """`HOST:PORT,HOST:PORT,...` of data servers (`scripts/data_service.sh`), which decode and augment. None: this
    machine does."""


# The fields that each optimizer uses, and their defaults: those of Keras, of the paper, or of this project's networks.
OPTIMIZER_DEFAULTS = {
    "rmsprop": {"momentum": 0.9, "rho": 0.9, "epsilon": 1e-3, "decoupled_weight_decay": False},
    "sgd": {"momentum": 0.9, "nesterov": True, "decoupled_weight_decay": False},
    "adamw": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "lamb": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6},
    "lars": {"momentum": 0.9, "trust_coefficient": 1e-3},
    "lion": {"beta_1": 0.9, "beta_2": 0.99},
    "muon": {"momentum": 0.95, "nesterov": True, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
}


class Optimizer(Section):
    """The optimizer and its peak learning rate. A field that the optimizer does not use must be None."""

    name: Literal["rmsprop", "sgd", "adamw", "lamb", "lars", "lion", "muon"] = "rmsprop"
    """`rmsprop` has the semantics of TensorFlow 1. `muon` updates the kernels of convolutions and dense layers; AdamW
    updates the classifier, depthwise kernels and all other weights."""
    learning_rate: _NonNegative
    """Peak of the schedule, for this batch size."""
    momentum: _Decay | None = None
    """rmsprop, sgd, lars and muon. None: 0.95 for muon, else 0.9."""
    nesterov: bool | None = None
    """sgd and muon: Nesterov momentum. None: True."""
    rho: _Decay | None = None
    """rmsprop: decay of the mean square. None: 0.9."""
    beta_1: Annotated[float, Field(gt=0, le=0.9999)] | None = None
    """adamw, lamb, lion and the AdamW of muon: decay of the mean gradient; of lion in the update. None: 0.9."""
    beta_2: _Decay | None = None
    """adamw, lamb and the AdamW of muon: decay of the mean square; lion: of the mean gradient. None: 0.99 for lion,
    else 0.999."""
    epsilon: _Positive | None = None
    """rmsprop: added to the mean square inside the square root; adamw, lamb and the AdamW of muon: added to the root.
    None: 0.001 for rmsprop, 1e-6 for lamb, else 1e-7."""
    trust_coefficient: _Positive | None = None
    """lars: factor in the learning rate of a layer, beside the norm of its weights over that of its gradient. None:
    0.001."""
    decoupled_weight_decay: bool | None = None
    """rmsprop and sgd: decay the weights as adamw does instead of adding to the gradient, see `weight_decay`. None:
    False."""
    lr_multipliers: _Tuple[tuple[_LrMultiplier, ...]] = ()
    """Pairs of a shell pattern of weights and a factor on their learning rate, such as `(("*_routing/*", 0.1),)`. A
    weight that several patterns match gets the product. `init.backbone_lr_multiplier` multiplies it further."""


class Schedule(Section):
    """The learning rate over time."""

    name: Literal["cosine", "cosine_restarts", "linear", "poly", "exponential", "step", "rsqrt", "constant"] = "cosine"
    """Shape of the decay. `rsqrt`: the peak divided by `sqrt(1 + epochs after the warm-up / timescale_epochs)`."""
    warmup_epochs: _NonNegative = 0.0
    """Epochs of linear warm-up from 0. All but `rsqrt` decay from step 0 on in any case."""
    cooldown_epochs: _NonNegative = 0.0
    """Epochs at the end in which the rate is also multiplied by a factor that falls linearly from 1 to 0."""
    decay_epochs: _Positive = 2.4
    """exponential: epochs between two decays."""
    decay_rate: _PositiveFraction = 0.97
    """exponential and step: factor of each decay."""
    milestones: Annotated[_NotEmpty[_Positive], AfterValidator(_increasing)] | None = None
    """step: increasing epochs at which the rate decays, such as `(200, 300, 350)`."""
    cycle_epochs: _Positive | None = None
    """cosine_restarts: epochs of a cycle, at whose end the rate returns to the peak."""
    timescale_epochs: _Positive | None = None
    """rsqrt: epochs after the warm-up in which the rate falls to 0.71 of the peak."""
    end_factor: _Fraction = 0.0
    """cosine, cosine_restarts, linear and poly: last rate divided by the peak, of cosine_restarts in each cycle."""
    power: _Positive = 0.9
    """poly: exponent of the remaining share of the training."""


class EarlyStopping(Section):
    """End of the training before its last step, at an evaluation, as of Keras's `EarlyStopping`."""

    patience: _MayChange[_PositiveInt | None] = None
    """Successive evaluations without an improvement that end the training. None: no early stopping."""
    monitor: _MayChange[_Text | None] = None
    """Metric of evaluation, such as `top1` or `loss`. None: the metric that selects the best checkpoint."""
    mode: _MayChange[Literal["auto", "min", "max"]] = "auto"
    """Whether lower or higher is better. `auto`: lower for metrics whose names end in `loss`."""
    min_delta: _MayChange[_NonNegative] = 0.0
    """An improvement is larger than this."""


class Experiment(Section):
    """An experiment."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of weights, dropout, the order of examples and augmentation."""
    deterministic: bool = False
    """Compute the same bits from the same config on the same machine, interrupted or not. Slower, one device only."""
    task: Literal["classification", "segmentation", "detection", "verification"] = "classification"
    """Classification predicts a label per image, segmentation a label per pixel, detection boxes with a label each,
    verification whether two images show one identity."""
    model: Model
    classification: Classification
    segmentation: Segmentation
    detector: Detector
    detection: Detection
    verification: Verification
    init: Init
    data: Data
    batch_size: _PositiveInt
    """Examples per optimizer update, over all replicas."""
    eval_batch_size: _MayChange[_PositiveInt | None] = None
    """Examples per evaluation step. None: `batch_size`."""
    epochs: Annotated[float, Field(gt=0, le=1_000_000)]
    """Length of the training."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras dtype policy. `mixed_float16` scales the loss dynamically and is not for TPUs."""
    remat: bool = False
    """Rematerialization: keep only the inputs of the network's blocks for the backward pass, which computes each block
    a second time. Saves memory and takes longer."""
    batch_norm_replicas: _PositiveInt | None = None
    """Replicas over whose examples BatchNorm computes its statistics; None: all. If they are fewer than all, the moving
    statistics are averaged over the replicas before each evaluation and checkpoint."""
    gradient_accumulation_steps: _PositiveInt = 1
    """Parts of a replica's batch, whose gradients are computed one after the other."""
    clip_norm: _Positive | None = None
    """Largest global norm of the gradient of the whole batch. None: no clipping."""
    log_norms: bool = False
    """Log the norms of gradients, updates and weights for each class of layer, as averages over steps."""
    label_smoothing: _BelowOne = 0.0
    """Probability mass that is spread evenly over all classes."""
    weight_decay: _Fraction = 0.0
    """rmsprop and sgd add `weight_decay * w` to the gradient of every trainable weight `w` that `weight_decay_on`
    names. adamw, lion and muon subtract `learning_rate * weight_decay * w` from `w` before each update; lamb adds
    `weight_decay * w` to the update and lars to the gradient, as in their papers. The reported loss does not include
    it, and regularizers of layers are not applied."""
    weight_decay_on: _NotEmpty[Literal["kernels", "biases", "batch_norm"]] = ("kernels", "biases")
    """What decays: scales and offsets of BatchNorm are `batch_norm`, all other biases are `biases`, and all other
    weights are `kernels`."""
    weight_decay_multipliers: _Tuple[tuple[_WeightDecayMultiplier, ...]] = ()
    """Pairs of a shell pattern of weights and a factor on their weight decay, such as `(("embed_classes/*", 10.0),)`. A
    weight that several patterns match gets the product."""
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    ema_decay: Annotated[float, Field(ge=0, le=0.999999)] | None = None
    """Decay of the moving average of weights and statistics, which evaluation then uses. None: no average."""
    steps_per_loop: _MayChange[_PositiveInt] = 100
    """Steps per loop, the devices' work between two calls from the host. Each loop logs one line of metrics. The first
    step of a process and the steps of a profile are shorter calls."""
    eval_every_epochs: _MayChange[_Positive] = 1.0
    """Epochs between two evaluations, rounded to whole loops."""
    checkpoint_every_epochs: _MayChange[_Positive] = 1.0
    """Epochs between two checkpoints, rounded to whole loops."""
    checkpoint_every_minutes: _MayChange[_Positive | None] = 10.0
    """Minutes between two additional checkpoints, each at the end of a loop. None: no additional checkpoints."""
    keep_checkpoints: _MayChange[_PositiveInt] = 3
    """Number of newest checkpoints to keep."""
    trackers: _MayChange[
        Annotated[_Tuple[tuple[Literal["tensorboard", "wandb", "mlflow"], ...]], AfterValidator(_unique)]
    ] = ("tensorboard",)
    """What receives the metrics in addition to `metrics.jsonl`. `wandb` and `mlflow` need the extras of these names."""
    callbacks: _MayChange[Annotated[_Tuple[tuple[_Text, ...]], AfterValidator(_unique)]] = ()
    """Your functions as `package.module:function`, called after each log, evaluation and checkpoint with a
    `convzoo.training.callbacks.Event`."""
