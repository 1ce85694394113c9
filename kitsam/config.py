"""Every option of every stage.

One dataclass a command; `cli.py` hands them to jsonargparse, which makes options, YAML keys, types and `--help`
from the fields and the text under them. Lengths in mm, volumes in mL, angles in degrees, HU as such. A field
without a default is required. Nothing is imported here that takes time, so that `kitsam --help` is quick.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EncoderName = Literal["vit_b", "vit_l", "vit_h", "medsam", "tiny"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "yes", "no"]
Storage = Literal["float16", "int8"]
Target = Literal["roi", "tumor", "cyst"]


@dataclass
class EncoderConfig:
    """The frozen SAM image encoder."""

    name: EncoderName = "vit_b"
    """vit_b, vit_l, vit_h: SAM's official checkpoints; medsam: MedSAM's weights; tiny: small and random, for trials"""
    checkpoint: Path | None = None
    """weights to use instead of those that `kitsam weights` cached"""
    input_size: int = 1024
    """pixels a side that a slice is resized to; only `tiny` takes others than 1024, in steps of 16"""
    seed: int = 0
    """of the random weights of `tiny`"""


@dataclass
class InputConfig:
    """How a CT slice becomes the three channels that the encoder sees."""

    channels: Literal["gray", "adjacent", "windows"] = "gray"
    """gray: the slice thrice; adjacent: slices z-1, z, z+1; windows: the slice in three HU windows"""
    window: tuple[float, float] = (-160.0, 240.0)
    """HU range scaled to 0..255"""
    windows: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] = (
        (-160.0, 240.0),
        (-20.0, 120.0),
        (50.0, 350.0),
    )
    """the HU ranges of `channels: windows`: soft tissue, lesions, enhancement"""


@dataclass
class ViewsConfig:
    """Augmented copies of each training slice, embedded beside the plain one; validation is never augmented."""

    count: int = 1
    """views of a slice; the first is the plain slice"""
    rotation: float = 15.0
    """largest rotation either way, degrees"""
    scale: float = 0.15
    """largest relative change of size either way"""
    contrast: float = 0.15
    """largest relative change of contrast, and of brightness as a share of the window, either way"""


@dataclass
class EmbedConfig:
    """Turn CT slices into SAM embeddings, in WebDataset shards. Started again, it does only what is missing."""

    data: Path
    """data set in the KiTS layout (case_00000/imaging.nii.gz, segmentation.nii.gz) or nnU-Net's (imagesTr, labelsTr)"""
    out: Path
    """folder of the shard set"""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    input: InputConfig = field(default_factory=InputConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    splits: Path | None = None
    """splits.json, or nnU-Net's splits_final.json (its first fold); made from `val_fraction` and `seed` if not given"""
    val_fraction: float = 0.1
    """share of the cases kept for validation"""
    background_ratio: float = 1.0
    """slices without kidney kept of a training case, per slice with one"""
    group_cases: int = 16
    """training cases whose slices are scattered over the same shards: the unit of work and of resume"""
    shard_samples: int = 512
    """most samples in a training shard"""
    batch_size: int = 4
    """slices encoded at once"""
    storage: Storage = "float16"
    """of the embeddings; int8, with a scale per channel, takes half the disk"""
    precision: Precision = "auto"
    """of the encoder; auto: bf16 on a GPU that has it, fp32 elsewhere"""
    compile: Compile = "auto"
    """the encoder, by torch.compile; auto: on a GPU with at least ten minutes of work, if a measurement says that it pays; never on a CPU"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    seed: int = 0
    """of the split, the groups, the background slices and the views"""
    dry_run: bool = False
    """print slices, bytes and time to expect, and write nothing"""


@dataclass
class CacheConfig:
    """Where the shards of a set that is given by its address are kept on this machine, for all processes."""

    folder: Path | None = None
    """folder of the cache; $KITSAM_CACHE/shards, or ~/.cache/kitsam/shards, if not given"""
    size: float = 100.0
    """most that the cached shards may take, GiB; what was used longest ago goes first"""
    ahead: int = 100
    """steps by which shards are fetched before they are needed"""


@dataclass
class OptimizerConfig:
    """AdamW with a linear warm-up, then a cosine."""

    peak_rate: float = 5e-5
    """learning rate after the warm-up"""
    final_rate: float = 0.0
    """learning rate at the last step"""
    warmup_steps: int = 250
    """steps of linear warm-up"""
    weight_decay: float = 0.1
    """decoupled weight decay"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay of AdamW's moments"""
    clip_norm: float = 1.0
    """largest norm of the gradient; 0: not clipped"""


@dataclass
class LossConfig:
    """Weighted sum of Dice and cross-entropy, per box, at the logits' resolution."""

    dice: float = 1.0
    """weight of the Dice loss"""
    cross_entropy: float = 1.0
    """weight of the cross-entropy"""
    balance: float = 0.5
    """exponent on the data's negative:positive ratio that weighs positive pixels; 0: all alike, 1: both classes weigh the same"""
    lesion: float = 3.0
    """how much a pixel of a tumor or cyst counts for the ROI decoder, which misses them more easily than kidney"""


@dataclass
class PromptConfig:
    """The boxes that decoders are asked with."""

    roi_box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """the ROI decoder's one box: x0 y0 x1 y1 as shares of the slice's width and height"""
    margin: float = 0.1
    """a kidney's box is enlarged by this share of its sides, on each side"""
    jitter: float = 0.1
    """in training each side of a box moves by up to this share of its length, in or out"""
    merge: float = 8.0
    """parts of a kidney nearer than this share a box, mm"""
    smallest: float = 25.0
    """parts smaller than this get no box, mm2, unless a slice has no larger one"""


@dataclass
class ValidationConfig:
    """Dice over the whole validation cases, with boxes of the true ROI."""

    every: int = 250
    """steps between validations"""
    patience: int = 0
    """stop after so many validations without a better one; 0: never"""
    select: Literal["dice", "dice_pooled"] = "dice"
    """the best decoder has the highest mean of the cases' Dice, or Dice of all cases' voxels together"""


@dataclass
class TrainConfig:
    """Train one mask decoder on a shard set. The same command again resumes."""

    target: Target
    """roi: kidney with all masses, from one fixed box; tumor, cyst: from a box per kidney"""
    shards: str
    """shard set that `kitsam embed` wrote: a folder, or an address that webdataset opens (https:, s3:, gs:, pipe:...)"""
    out: Path
    """folder of the run"""
    steps: int = 5000
    """optimizer steps"""
    batch_size: int = 64
    """slices a step, over all processes"""
    accumulate: int = 1
    """parts that a process computes its share of a batch in, for GPUs with little memory; the result does not depend on it"""
    quotas: Literal["natural"] | dict[str, float] = "natural"
    """share of each stratum in a batch, such as {kidney: 1, tumor: 2}; natural: as in the data"""
    shift: float = 0.05
    """each slice of a batch is moved by up to this share of its side, in whole cells of the embedding, its kidneys staying on it"""
    init: Literal["auto", "checkpoint", "random"] = "auto"
    """the decoder's first weights: SAM's own, or drawn anew; auto: SAM's own where the encoder has a checkpoint"""
    start_from: Path | None = None
    """run of the ROI decoder whose weights a lesion decoder starts from, instead of `init`: worth it where steps are few"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    workers: int = 2
    """threads of each process that make batches; the batches do not depend on it"""
    checkpoint_every: int = 250
    """steps between checkpoints"""
    keep_checkpoints: int = 2
    """last checkpoints kept, besides the best decoder"""
    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    wandb: bool = False
    """send losses, settings and validation pictures to Weights & Biases too (`wandb login` before, or WANDB_MODE=offline)"""
    step_timeout: float = 60.0
    """seconds in which a step, or writing a checkpoint, may keep the other processes waiting; starting and the first validation have half an hour"""
    precision: Precision = "auto"
    """auto: bf16 on a GPU that has it, fp32 elsewhere"""
    compile: Compile = "auto"
    """the decoder's step, by torch.compile; auto: on a GPU with at least ten minutes of work, if a measurement says that it pays; never on a CPU"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    seed: int = 0
    """of the samples' order, the boxes and new weights"""


@dataclass
class CascadeConfig:
    """From the three decoders' answers to one label volume."""

    roi_threshold: float = 0.5
    """probability above which a voxel belongs to the ROI"""
    lesion_threshold: float = 0.5
    """probability above which a voxel of the ROI is tumor or cyst"""
    smallest_roi: float = 2.0
    """3-D parts of the ROI smaller than this are dropped, mL"""
    smallest_lesion: float = 0.1
    """3-D parts of a tumor or cyst smaller than this become kidney, mL"""
    batch_size: int = 16
    """slices, or boxes, decoded at once"""


@dataclass
class EvaluateConfig:
    """Label the validation cases from their shards and compare with the truth, by the official KiTS23 metrics."""

    shards: str
    """shard set that `kitsam embed` wrote: a folder or an address"""
    data: Path
    """the data set it was made from: the truth at full resolution"""
    roi: Path
    """run of the ROI decoder"""
    out: Path
    """folder for metrics.csv, metrics.json and the predicted label maps"""
    tumor: Path | None = None
    """run of the tumor decoder; without it nothing is labelled tumor"""
    cyst: Path | None = None
    """run of the cyst decoder; without it nothing is labelled cyst"""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    workers: int = 2
    """processes beside each process that write and score label maps while the device goes on"""
    device: Device = "auto"
    """auto: a GPU if there is one"""


@dataclass
class ScoreConfig:
    """The same metrics for the label maps of any system."""

    predictions: Path
    """folder of case_XXXXX.nii.gz label maps"""
    data: Path
    """data set with the true segmentations"""
    out: Path
    """folder for metrics.csv and metrics.json"""
    only_present: bool = False
    """leave cases without a prediction out, instead of counting them 0"""
    against: Path | None = None
    """what to compare with, case by case: a folder that kitsam wrote metrics.json to, or any with the official metrics.csv, or of label maps"""
    workers: int | None = None
    """processes; one a processor core if not given. Each needs the memory of three label maps"""


@dataclass
class BundleConfig:
    """Put encoder, decoders and settings into one file, all that `kitsam predict` needs."""

    roi: Path
    """run of the ROI decoder"""
    out: Path
    """the .safetensors file"""
    tumor: Path | None = None
    """run of the tumor decoder"""
    cyst: Path | None = None
    """run of the cyst decoder"""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    encoder_checkpoint: Path | None = None
    """the encoder's weights, where they are not those that `kitsam weights` cached"""


@dataclass
class PredictConfig:
    """Label kidneys, tumors and cysts in CT volumes."""

    ct: list[Path]
    """CT volumes (.nii.gz, .nii), or KiTS case folders"""
    model: Path
    """bundle that `kitsam bundle` wrote"""
    out: Path
    """folder for NAME.nii.gz label maps and NAME.png overlays"""
    boxes: Path | None = None
    """JSON with boxes to use instead of the ROI's: {"NAME": [[i0, j0, k0, i1, j1, k1], ...]}, voxel indices of the file, ends included"""
    batch_size: int = 4
    """slices encoded at once"""
    precision: Precision = "auto"
    """of the encoder; auto: bf16 on a GPU that has it, fp32 elsewhere"""
    device: Device = "auto"
    """auto: a GPU if there is one"""


@dataclass
class ReportConfig:
    """One self-contained HTML file: results, curves, worst cases, overlays."""

    folder: Path
    """folder that `kitsam evaluate` or `kitsam score` wrote"""
    out: Path | None = None
    """the HTML file; FOLDER/report.html if not given"""


@dataclass
class PhantomConfig:
    """Make a KiTS-layout data set of drawn abdomens, with kidneys, tumors and cysts."""

    out: Path
    """folder of the data set"""
    cases: int = 12
    """number of cases"""
    size: int = 256
    """pixels a side of a slice"""
    slices: int = 40
    """slices of a case"""
    seed: int = 0
    """the same seed draws the same cases"""


@dataclass
class FingerprintConfig:
    """Measure a data set: sizes, spacing, HU, strata, class weights, outliers."""

    data: Path
    """data set in the KiTS or nnU-Net layout"""
    out: Path | None = None
    """folder for fingerprint.json and fingerprint.png; the current one if not given"""


@dataclass
class WeightsConfig:
    """Fetch an encoder's checkpoint into the cache, and check it."""

    name: Literal["vit_b", "vit_l", "vit_h", "medsam"]
    """which encoder"""
    source: str | None = None
    """URL or file to take it from instead of the official address (`--from`)"""


@dataclass
class ShardsConfig:
    """A shard set on disk."""

    shards: str
    """folder of the shard set, or its address"""
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass
class BenchShardsConfig:
    """Samples a second from shards: plain read(), stock WebDataset, kitsam, in one run on the same files."""

    shards: Path | None = None
    """shard set to read; one is made, and removed again, if not given"""
    samples: int = 512
    """samples of the set that is made"""
    grid: int = 64
    """its embeddings' cells a side: 64 for an input of 1024"""
    samples_per_shard: int = 64
    """its samples in a shard"""
    batch_size: int = 64
    """slices in a batch"""
    seconds: float = 5.0
    """time that each reader is measured for"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchProcessesConfig:
    """Time of a training step on one process and on several of this machine, and what they wait for: data, each other, the gradients' way."""

    shards: Path | None = None
    """shard set to train on; one is made, and removed again, if not given"""
    grid: int = 64
    """embedding cells a side of the set that is made: 64 for an input of 1024"""
    processes: tuple[int, ...] = (1, 2)
    """numbers of processes, such as [1, 2, 4]; each takes its share of the batch, and of the processor's cores"""
    batch_size: int = 8
    """slices a step, over all processes"""
    steps: int = 10
    """steps that are measured, after two that are not"""
    workers: int = 2
    """threads of each process that make batches"""
    device: Device = "auto"
    """auto: a GPU for each process if there is one"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchEvaluatorConfig:
    """Seconds of `kitsam score` against the official way, on label maps of whole KiTS size, in one run on the same files."""

    data: Path | None = None
    """folder of label maps (NAME.nii.gz or NAME/segmentation.nii.gz) to make the files from; drawn cases if not given"""
    cases: int = 4
    """cases that are made, over and over from the same label maps where these are fewer"""
    slices: int = 208
    """slices of a case: the label maps are tiled"""
    workers: int | None = None
    """processes; one a processor core if not given"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchEncoderConfig:
    """Images a second of the image encoder: segment-anything as its README uses it, kitsam, in one run on the same weights."""

    name: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    """which encoder; its weights are random"""
    batch_size: int = 1
    """images that kitsam encodes at once; segment-anything takes one"""
    repeats: int = 2
    """times that each is measured, after one time that is not"""
    compile: bool = False
    """measure kitsam compiled by torch.compile too, in the number format that it takes on this device"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchDecoderConfig:
    """Training steps a second of the mask decoder: segment-anything's parts as they are, kitsam, in one run on the same weights."""

    batch_size: int = 32
    """slices a step, with a box each"""
    grid: int = 64
    """cells a side of an embedding: 64 for an input of 1024"""
    repeats: int = 2
    """steps that are measured, after one that is not"""
    compile: bool = False
    """measure kitsam compiled by torch.compile too, in the number format that it takes on this device"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class DemoConfig:
    """The whole flow on generated cases, on any machine, in minutes."""

    out: Path = Path("demo")
    """folder for everything the demo writes"""
