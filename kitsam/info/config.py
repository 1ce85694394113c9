"""Options of `kitsam info`."""

from dataclasses import dataclass

from kitsam.system.options import Options, positional


@dataclass
class InfoConfig(Options, example="kitsam info model.safetensors"):
    """Say what a file or folder of kitsam is: a bundle, a training run, a shard set or a scan."""

    path: str = positional()
    """a bundle or a decoder (.safetensors), a run's folder, a shard set's folder or address, or a scan: .nii.gz, .nii,
    .hdr with .img, .nrrd, .nhdr, .mha, .mhd, the folder of a DICOM series or of a KiTS case"""
    json: bool = False
    """print all that is known as one JSON object, for a program"""
