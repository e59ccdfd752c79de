"""The typed description of a run: frozen dataclasses. :mod:`ladseg.recipe_files` reads and writes them."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ladseg.distillation_methods import METHODS
from ladseg.errors import RecipeError, nearest
from ladseg.recipe_values import Length, Range

# Keys whose values are mappings but not sections, so that they are replaced as a whole.
VALUES = ("label_map", "args", "term_weights", "options")
# The keys of one distillation method; the section's other keys concern the student and teacher of all methods.
METHOD_KEYS = ("method", "weight", "weight_for_classes", "term_weights", "tau", "layer", "options")
# Keys that hold paths, in which ~ and $VARIABLE are replaced; relative paths start at the working directory.
NAMES_A_FILE = ("data.root", "data.classes", "data.unlabelled", "student.weights", "teacher.weights", "out")
MASK_VALUE = Range(least=0, most=65535)
ValueRange = tuple[Annotated[int, MASK_VALUE], Annotated[int, MASK_VALUE]]
NotNegative = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Dropout = Annotated[float, Range(least=0, below=1)]
Probability = Annotated[float, Range(least=0, most=1)]
Count = Annotated[int, Range(least=1)]
NotNegativeInt = Annotated[int, Range(least=0)]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
ClassWeights = Literal["random", "fixed", "none"]
Placebo = Literal["shuffled", "noise"]
if TYPE_CHECKING:
    DistillMethod = str
else:
    DistillMethod = Literal[tuple(METHODS)]


@dataclass(frozen=True)
class Data:
    """The images and their masks.

    Args:
        layout: The arrangement of the data set on disk, a name that ``ladseg data`` lists; ``folder`` is
            images/{train,val}/x.jpg and masks/{train,val}/x.png, or another customary tree.
        root: The data set's folder.
        classes: The class names in the order of the class ids: a list, a file with one name per line, a CSV file of
            name,r,g,b, or a file of another tool (docs/data.md); empty takes the layout's own, with its ignore_index
            and label_map.
        ignore_index: The value of ignored pixels in the mask files, null if there is none; 255 is always ignored
            unless label_map names it.
        label_map: Mask value -> class id, if the files hold other ids than 0, 1, 2 ...; values left out are ignored.
        colors: For masks in colour, the colours [r, g, b] that stand for the mask values 0, 1, 2 ...
        value_range: The lowest and the highest value of images with more than 8 bits per channel, such as [0, 4095], or
            a list of one such pair per channel; null takes the range that the check finds in the data set.
        channels: Number of image channels; 3 is RGB, to which grey images are converted. Other numbers need mean and
            std.
        mean: Mean of each channel, for images in 0..1, as ladseg check --stats prints it; null takes what the student's
            weights expect.
        std: Standard deviation of each channel, as the mean.
        images: For the layouts folder, labelme and yolo, a pattern of the images' paths, such as {split}/{stem}.jpg;
            for coco_json their folder, such as images/{split}; null for the customary trees.
        masks: For the layouts folder, labelme and yolo, a pattern of the masks' paths, such as
            {split}/{stem}_mask.png; for coco_json the annotation file, such as annotations/{split}.json.
        pairs: For layout list, the list of pairs, such as {split}.txt or pairs.csv.
        val_fraction: For data without a val split, the share of the training images to validate on, such as 0.2; the
            choice depends on their names alone.
        test: A split that is measured besides val, such as test; nothing is selected on it. Null for none.
        group: With val_fraction, which images stay together, such as the frames of a video: {stem_prefix} is the stem
            without the number at its end, {folder} the folder; or a pattern such as images/{group}_*.png; null divides
            single images.
        unlabelled: A folder of images without masks, on which the student learns from a classic teacher alone.
        unlabelled_share: Share of each of the student's batches that is taken from them.
        augmented: For layout voc, whether to train on SBD's masks too.
        cache: Where to keep decoded images and labels, ram or disk; null decodes them each time.
        workers: Number of loader processes; results do not depend on it.
    """

    layout: str = "folder"
    root: str = ""
    classes: list[str] | str = ""
    ignore_index: Annotated[int, MASK_VALUE] | None = 255
    label_map: Annotated[dict[Annotated[int, MASK_VALUE], Annotated[int, MASK_VALUE]], Length(least=1)] | None = None
    colors: list[Annotated[list[Annotated[int, Range(least=0, most=255)]], Length(3)]] | None = None
    value_range: ValueRange | list[ValueRange] | None = None
    channels: Annotated[int, Range(least=1, most=1024)] = 3
    mean: Annotated[list[float], Length(least=1)] | None = None
    std: Annotated[list[Positive], Length(least=1)] | None = None
    images: str | None = None
    masks: str | None = None
    pairs: str | None = None
    val_fraction: Annotated[float, Range(above=0, below=1)] | None = None
    test: str | None = None
    group: str | None = None
    unlabelled: str | None = None
    unlabelled_share: Annotated[float, Range(above=0, below=1)] = 0.5
    augmented: bool = False
    cache: Literal["ram", "disk"] | None = None
    workers: Annotated[int, Range(least=0, most=1024)] = 0


@dataclass(frozen=True)
class StudentSettings:
    """The network to make more accurate.

    Args:
        model: A name that ``ladseg models`` lists, HEAD@BACKBONE with any timm backbone, or package.module:Class
            for your own network.
        args: Arguments of your own network.
        weights: A local file of weights, ``timm`` to let timm fetch its backbone's, or null for random weights.
        output_stride: Input size divided by feature-map size; null takes the model's own.
        features: Path of the module whose output feature distillers read; null takes the backbone's last map.
        aux_weight: Weight of the training-only heads' loss; null takes the model's own (0.4; 1 for STDC).
        dropout: Probability of every dropout layer; null takes the model's own.
        input: How images are normalised: network, as the weights expect (RGB by their mean and deviation), or bgr, as
            in CIRKD (BGR of 0..255 minus ImageNet's mean); null means network.
    """

    model: str = "pspnet_r18"
    args: dict[str, Any] | None = None
    weights: str | None = None
    output_stride: Annotated[int, Range(least=1, most=64)] | None = None
    features: str | None = None
    aux_weight: NotNegative | None = None
    dropout: Dropout | None = None
    input: Literal["network", "bgr"] | None = None


@dataclass(frozen=True)
class TeacherSettings:
    """The network that the student learns from (paper section 3.2).

    Args:
        label_assisted: Whether the teacher sees the noised label as a fourth channel; false is the classic teacher.
        model: As for the student; null takes the student's.
        args: As for the student; null takes the student's if the model is the same.
        weights: As for the student; null takes the student's if the model is the same.
        output_stride: As for the student; null takes the student's if the model is the same.
        features: As for the student; null takes the student's if the model is the same.
        aux_weight: Weight of the training-only heads' loss; null takes the model's own.
        dropout: As for the student; null takes the student's if the model is the same.
        input: As for the student; null takes the student's if the model is the same.
        input_layer: Path of the layer to which the label's channel is added, a list of several, or stem for a label
            stem; null finds them.
        warm_start: Start from the trained plain student; null does so if there is one and it is the same model.
        alpha: Strength of the pixel noise (Eq. 5).
        class_weights: random, N(0,1) per image and class, as in the paper; fixed, one ramp over the classes, which the
            teacher learns to read within hundreds of steps; none, the label itself.
        scale: Factor on the whole noised label, relative to an image that is normalised by mean and deviation.
        ignore: What ignored pixels become, one more class with its own weight, or zero.
        slice_std: Standard deviation of the new input weights; match takes that of the layer's RGB weights.
        consistency: Weight lambda of the consistency loss between two noised paths (Eq. 7); 0 trains one path, at half
            the cost. Null is the paper's 1 with random class weights, else 0: the two paths then differ by pixel noise
            alone, and the term does harm (docs/results.md).
        consistency_form: one-way is D(O1, O2); symmetric adds D(O2, O1), each with its target detached.
        iterations: Training steps; null takes the schedule's.
        lr: Peak learning rate; null takes the schedule's.
        weight_decay: Weight decay; null takes the schedule's.
        train: Whether to train the teacher; false takes it from weights: the teacher.safetensors or
            student.safetensors of a finished run, which records model, noise and all other settings; or a file of
            another library, whose network model names. With warm_start true and no weights, the trained plain student
            itself is the teacher.
        classes: With train false, the teacher's class id for each class of the data; null matches the class names.
        class_names: With train false and a file that is not ladseg's, the names of its classes in the order of their
            ids, as a list or a file as data.classes; null is the data's.
        snapshot: Train no teacher: after this share of its steps, such as 0.5, the student as it is then teaches itself
            for the rest. Null for a teacher.
        placebo: For a control, what the teacher sees in place of the label: shuffled is the label of another image,
            noise has the label's mean and deviation and no other trace of it; null is the label.
    """

    label_assisted: bool = True
    model: str | None = None
    args: dict[str, Any] | None = None
    weights: str | None = None
    output_stride: Annotated[int, Range(least=1, most=64)] | None = None
    features: str | None = None
    aux_weight: NotNegative | None = None
    dropout: Dropout | None = None
    input: Literal["network", "bgr"] | None = None
    input_layer: list[str] | str | None = None
    warm_start: bool | None = None
    alpha: NotNegative = 0.01
    class_weights: ClassWeights = "fixed"
    scale: Positive = 1.0
    ignore: Literal["class", "zero"] = "class"
    slice_std: NotNegative | Literal["match"] = 0.1
    consistency: NotNegative | None = None
    consistency_form: Literal["one-way", "symmetric"] = "one-way"
    iterations: Count | None = None
    lr: Positive | None = None
    weight_decay: NotNegative | None = None
    train: bool = True
    classes: list[NotNegativeInt] | None = None
    class_names: Annotated[list[str], Length(least=2)] | str | None = None
    snapshot: Annotated[float, Range(above=0, below=1)] | None = None
    placebo: Placebo | None = None

    @property
    def finished_file(self) -> str | None:
        """The file of a finished teacher; None for one that is trained, or that is the plain student."""
        return None if self.train else self.weights

    @property
    def paths(self) -> int:
        """How many noised draws of the label a training step shows: two for the consistency loss to compare, or one."""
        return 2 if self.label_assisted and consistency_weight(self.consistency, self.class_weights) else 1


def consistency_weight(given: float | None, class_weights: ClassWeights) -> float:
    """Return lambda of Eq. 7: ``given``, or by default the paper's 1 with random class weights, else 0."""
    if given is not None:
        return given
    return 1.0 if class_weights == "random" else 0.0


@dataclass(frozen=True)
class Distill:
    """How the student imitates the teacher (Eq. 8). A list of sections instead of one combines several methods.

    Args:
        method: The method's name; docs/methods.md has each method's formula, weights and settings.
        weight: Weight beta of the method's first term; null takes the method's own (cwd 3, kd 1, fitnet 10, at 10000).
        weight_for_classes: The number of classes that the weight of cwd was chosen for, such as the paper's 19. With C
            classes it is multiplied by C / 19, as the gradient of cwd goes as weight / C; null takes it as it is.
        term_weights: Weights of any of the method's terms by name, such as {cirkd_pixel: 0.01}; null takes its own.
        tau: Temperature; null takes the method's own (cwd 4, kd 1, dist 1).
        layer: The feature map that the method reads: head, the map before the classifier, or backbone, the backbone's
            last map or the one that the network's features names; null takes the method's own.
        options: Settings of a single method, such as {masked: 0.5}; docs/methods.md lists them.
        also: The further methods of a list, filled in from it; not a key.
        warm_start: Start the student from the trained plain student; null does so if there is one and start is null. In
            a comparison null gives all students the same start.
        start: The share of its steps after which the student learns from the teacher too, such as 0.7; until then it
            learns from the labels alone, as the plain student does. Null teaches it from the first step on.
        alpha: Strength of the pixel noise during distillation; null keeps the teacher's.
        class_weights: Class weights of the noise during distillation; null keeps the teacher's.
        aux_weight: Weight of the training-only heads' loss of the distilled student; null takes the student's.
        lr: Peak learning rate of the distilled student; null takes the schedule's.
        weight_decay: Weight decay of the distilled student; null takes the schedule's.
        min_lr: Learning rate that the distilled student's decay ends at; null takes the schedule's.

    Raises:
        RecipeError: There is no such method, or it does not have a given key.
    """

    method: DistillMethod = "cwd"
    weight: NotNegative | None = None
    weight_for_classes: Count | None = None
    term_weights: dict[str, NotNegative] | None = None
    tau: Positive | None = None
    layer: Literal["head", "backbone"] | None = None
    options: dict[str, Any] | None = None
    also: list[dict[str, Any]] = field(default_factory=list)
    warm_start: bool | None = None
    start: Annotated[float, Range(above=0, below=1)] | None = None
    alpha: NotNegative | None = None
    class_weights: ClassWeights | None = None
    aux_weight: NotNegative | None = None
    lr: Positive | None = None
    weight_decay: NotNegative | None = None
    min_lr: NotNegative | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            close = nearest(self.method, list(METHODS), listed=False)
            raise RecipeError(f"distill.method '{self.method}' is not one of {', '.join(METHODS)}{close}")
        method = METHODS[self.method]
        for key, read in {
            "weight": bool(method.terms),
            "weight_for_classes": "cwd" in method.terms,
            "tau": method.tau is not None,
            "layer": method.layer is not None,
        }.items():
            if getattr(self, key) is not None and not read:
                raise RecipeError(f"distill.{key}: {self.method} does not read it; leave it out")
        for key, known in {"term_weights": method.terms, "options": tuple(method.options)}.items():
            for name in (getattr(self, key) or {}).keys() - set(known):
                hint = nearest(name, known) if known else ", nor any other"
                raise RecipeError(f"distill.{key}: {self.method} has no '{name}'{hint}")
        for name, value in (self.options or {}).items():
            fault = method.options[name].fault(value)
            if fault:
                raise RecipeError(f"distill.options: {name} of {self.method} is {value}; {fault}")
        for settings in self.also:
            Distill(**settings)

    @property
    def named_weights(self) -> dict[str, float]:
        """The weights of the loss terms that the recipe names; the method's other terms keep their own."""
        first = {} if self.weight is None else {METHODS[self.method].terms[0]: self.weight}
        return first | (self.term_weights or {})


@dataclass(frozen=True)
class Schedule:
    """How long and how each network is trained.

    Args:
        iterations: Number of training steps.
        minutes: A time budget for all trainings of the run together; iterations is then what fits into it, estimated
            from a few steps at the start. Null for none.
        batch_size: Images per step, over all processes.
        accumulate: Number of parts of a step's batch that are computed one after the other, to save memory; batch norm
            sees each part by itself.
        crop: Height and width of the training crops.
        optimizer: sgd or adamw.
        lr: Peak learning rate.
        momentum: Momentum of SGD.
        min_lr: Final learning rate of the decay.
        decay: How the learning rate falls: poly, a power of the remaining steps, or cosine, half a wave.
        freeze: What is not trained: backbone, batch_norm (its weights and running statistics), or both. The weights by
            which a label enters a frozen backbone are trained all the same.
        head_lr: Factor on the learning rate of everything outside the backbone.
        weight_decay: Weight decay.
        norm_decay: Weight decay of biases and of normalisation layers; null means weight_decay for sgd, 0 for adamw.
        warmup: Number of steps of linear warm-up.
        warmup_ratio: Share of the learning rate at which the warm-up starts (0.1 in mmsegmentation); null takes
            1/warmup.
        power: Exponent of the polynomial decay.
        clip_grad: Largest gradient norm; null for no clipping.
        precision: auto means bfloat16 if the device gains from it, else fp32.
        ema: Decay of an exponential moving average of the weights, such as 0.999, which is evaluated and delivered in
            their place; in the first steps the decay is smaller. Null for none.
        eval_every: Steps between evaluations on val; null for five evaluations in all. A student whose weights are a
            finished network is evaluated before the first step too.
        eval_window: Height and width of the windows in which val's images are predicted, for images that are too large
            for the memory; the logits of overlaps are averaged. Null predicts each image whole.
        early_stop: Number of evaluations in a row without improvement after which a training ends; null for none. The
            learning rate falls as in the full training.
        deliver: Whether to deliver the weights of the best evaluation or the last weights.
        save_every: Steps between checkpoints, in addition to those at evaluations; null for none in addition.
    """

    iterations: Count = 4000
    minutes: Positive | None = None
    batch_size: Count = 8
    accumulate: Count = 1
    crop: Annotated[tuple[int, int], Range(least=8, most=16384)] = (360, 360)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.02
    momentum: Annotated[float, Range(least=0, below=1)] = 0.9
    min_lr: NotNegative = 0.0
    decay: Literal["poly", "cosine"] = "poly"
    freeze: list[Literal["backbone", "batch_norm"]] = field(default_factory=list)
    head_lr: Positive = 1.0
    weight_decay: NotNegative = 1e-4
    norm_decay: NotNegative | None = None
    warmup: Annotated[int, Range(least=0)] = 0
    warmup_ratio: Annotated[float, Range(above=0, most=1)] | None = None
    power: NotNegative = 0.9
    clip_grad: Positive | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    ema: Annotated[float, Range(above=0, below=1)] | None = None
    eval_every: Count | None = None
    eval_window: Annotated[tuple[int, int], Range(least=8, most=16384)] | None = None
    early_stop: Count | None = None
    deliver: Literal["best", "last"] = "best"
    save_every: Count | None = 200


@dataclass(frozen=True)
class Loss:
    """The class loss of every network's heads, the L_seg of Eq. 7 and Eq. 8.

    Args:
        cross_entropy: Weight of the cross-entropy.
        class_weights: Factor on the cross-entropy of each class's pixels, as a list in the order of the classes;
            balanced takes the inverse of each class's share of the training pixels; null means 1 for all.
        mean: What the cross-entropy is averaged over: the valid pixels (by their class weights), or all pixels of the
            batch, ignored ones included, as in mmsegmentation.
        ohem: Online hard example mining: only pixels whose class has a predicted probability below this count in the
            cross-entropy; null counts all. mmsegmentation's STDC has 0.7 with mean all.
        ohem_min_kept: The least number of pixels that it keeps per image, on average over the batch.
        dice: Weight of the Dice loss; this and the next two need segmentation_models_pytorch.
        focal: Weight of the focal loss.
        focal_gamma: Exponent of the focal loss.
        lovasz: Weight of the Lovász-softmax loss.
    """

    cross_entropy: NotNegative = 1.0
    class_weights: Annotated[list[NotNegative], Length(least=1)] | Literal["balanced"] | None = None
    mean: Literal["valid", "all"] = "valid"
    ohem: Annotated[float, Range(above=0, most=1)] | None = None
    ohem_min_kept: Count = 10_000
    dice: NotNegative = 0.0
    focal: NotNegative = 0.0
    focal_gamma: NotNegative = 2.0
    lovasz: NotNegative = 0.0


@dataclass(frozen=True)
class Augment:
    """The random changes of training images. Text instead of the section is its ``function``.

    Args:
        rescale: Long and short side of the box to which every image is first scaled, with its aspect ratio kept, in
            training and evaluation, such as [2048, 512]; null keeps the size.
        scale: Smallest and largest factor on the size.
        scale_step: Step between the possible factors, such as 0.1; null for any factor between the two.
        antialias: Whether to smooth images before they are made smaller.
        cat_max_ratio: Largest share of a crop's valid pixels that one class may have (0.75 in mmsegmentation);
            otherwise another crop is drawn, up to ten times. Null accepts any crop.
        flip: Probability of mirroring the image.
        vertical_flip: Probability of turning the image upside down.
        rotate: Largest rotation in degrees, in either direction; pixels from outside the image are ignored.
        color: jitter, factors of up to 1 +- jitter on brightness, contrast and saturation; photometric,
            mmsegmentation's photometric distortion; none.
        jitter: Largest deviation from 1 of jitter's factors.
        blur: Probability of a Gaussian blur, sigma 0.1 to 2.
        cutout: Probability of covering 2 to 33 % of the image with a rectangle of the mean colour; the label stays.
        function: package.module:build, your own function of the crop's height and width that returns a transform of
            torchvision v2 (or another callable) of image and mask as tv_tensors. The rest of the section then has no
            effect, except rescale in evaluation.
    """

    rescale: Annotated[list[Annotated[int, Range(least=8, most=16384)]], Length(2)] | None = None
    scale: Annotated[list[Annotated[float, Range(least=0.05, most=20)]], Length(2)] = field(
        default_factory=lambda: [0.5, 2.0]
    )
    scale_step: Positive | None = None
    antialias: bool = True
    cat_max_ratio: Annotated[float, Range(above=0, most=1)] | None = None
    flip: Probability = 0.5
    vertical_flip: Probability = 0.0
    rotate: Annotated[float, Range(least=0, most=180)] = 0.0
    color: Literal["jitter", "photometric", "none"] = "jitter"
    jitter: Annotated[float, Range(least=0, most=1)] = 0.25
    blur: Probability = 0.0
    cutout: Probability = 0.0
    function: str | None = None


def _installed_tracker() -> list[Tracker]:
    return ["tensorboard"] if find_spec("tensorboard") else []


@dataclass(frozen=True)
class Recipe:
    """A whole run: the student alone, the label-assisted teacher, and the student distilled from it.

    Args:
        name: Name of the run's folder, runs/NAME.
        preset: ladseg, this project's defaults; paper, the paper's settings; released-code, those of the authors' code.
        data: The images and their masks.
        student: The network to make more accurate.
        teacher: The network that it learns from.
        distill: How the student imitates it.
        schedule: How long and how each network is trained.
        loss: The class loss of every network's heads.
        augment: The random changes of training images.
        baseline: Whether to train the student without a teacher too, with the same schedule.
        seed: Seed of all random numbers of the run.
        out: The run's folder; null for runs/NAME.
        trackers: Where to show losses, mIoU and sample pictures during the run: tensorboard (the default if it is
            installed), wandb, mlflow.
        keep_checkpoints: Whether a finished training keeps its checkpoints; the best weights stay in any case.
    """

    name: str = "lad"
    preset: Literal["ladseg", "paper", "released-code"] = "ladseg"
    data: Data = field(default_factory=Data)
    student: StudentSettings = field(default_factory=StudentSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    distill: Distill = field(default_factory=Distill)
    schedule: Schedule = field(default_factory=Schedule)
    loss: Loss = field(default_factory=Loss)
    augment: Augment = field(default_factory=Augment)
    baseline: bool = True
    seed: Annotated[int, Range(least=0, most=2**63 - 1)] = 0
    out: str | None = None
    trackers: list[Tracker] = field(default_factory=_installed_tracker)
    keep_checkpoints: bool = False

    @property
    def unlabelled_images(self) -> int:
        """How many images of each of the student's batches have no mask."""
        return 0 if self.data.unlabelled is None else round(self.data.unlabelled_share * self.schedule.batch_size)

    @property
    def teacher_is_students_model(self) -> bool:
        """Whether the teacher is the student's own network."""
        return self.teacher.model in (None, self.student.model) and self.teacher.args in (None, self.student.args)

    @property
    def teacher_starts_warm(self) -> bool:
        """Whether the teacher starts from the trained plain student."""
        trained = self.teacher.train and self.teacher.snapshot is None
        possible = self.baseline and trained and self.teacher_is_students_model
        return possible if self.teacher.warm_start is None else self.teacher.warm_start

    @property
    def student_starts_warm(self) -> bool:
        """Whether the distilled student starts from the trained plain student."""
        if self.distill.warm_start is not None:
            return self.distill.warm_start
        # Not where the teacher is that same student: it would have nothing to teach.
        other_teacher = self.teacher.snapshot is None and (self.teacher.train or self.teacher.weights is not None)
        return self.baseline and other_teacher and self.distill.method != "none" and self.distill.start is None

    @property
    def snapshot_step(self) -> int | None:
        """Steps after which the student teaches itself; None where a teacher does."""
        share = self.teacher.snapshot
        return None if share is None else max(1, round(share * self.schedule.iterations))

    @property
    def untaught_steps(self) -> int:
        """Steps of the distilled student on the labels alone, before it learns from a teacher too."""
        if self.snapshot_step is not None:
            return self.snapshot_step
        return round((self.distill.start or 0) * self.schedule.iterations)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.out) if self.out else Path("runs") / self.name
