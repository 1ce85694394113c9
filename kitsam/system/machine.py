"""What this machine has, on Linux, macOS and Windows: its processor, the cores for this process, a GPU left unused."""

import os
import platform
import shutil
from pathlib import Path

DRIVER, PROCESSORS = Path("/proc/driver/nvidia/version"), Path("/proc/cpuinfo")  # of Linux


def processor_name() -> str:
    try:
        lines = PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def available_cores() -> int:
    """Of this machine, for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unused_gpu() -> str:
    """Why torch sees no GPU on a machine that seems to have one; empty where that is as it should be."""
    import torch

    if torch.cuda.is_available() or not (shutil.which("nvidia-smi") or DRIVER.exists()):
        return ""
    if torch.version.cuda is None:
        return f"there is an NVIDIA driver, but torch is a CPU build ({torch.__version__}): all runs on the CPU"
    return "there is an NVIDIA driver, but torch sees no GPU: all runs on the CPU (nvidia-smi says more)"
