"""What `kitsam doctor` says of this machine, and of one that lacks something."""

import torch

from kitsam import __version__, doctor


def test_it_names_versions_devices_and_weights(capsys):
    assert doctor.run(doctor.DoctorConfig()) == 0
    text = capsys.readouterr().out
    for words in (f"kitsam: {__version__}", f"torch: {torch.__version__}", "processor: ", "open files: ", "vit_b: "):
        assert words in text, words
    assert "missing" not in text


def test_it_says_what_is_missing_and_for_what(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("torch", "s3fs") else "1")
    doctor.run(doctor.DoctorConfig())
    text = capsys.readouterr().out
    assert "torch: missing  <- kitsam needs it" in text and "s3fs: wanted for shard sets at s3://" in text


def test_a_driver_without_a_cuda_build_of_torch_is_doubted(capsys, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    doctor.run(doctor.DoctorConfig())
    assert "torch is a CPU build" in capsys.readouterr().out
