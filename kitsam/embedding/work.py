"""The encoder at work: a thread reads cases ahead of it, others write shards behind it, so that it need not wait.

A span of a unit is finished or absent: its shards get their names together when it is complete. A batch never crosses a
case, and begins where it would if one process did all, so that the same slices are encoded together whatever the number
of processes.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kitsam.ct.case import Case, CaseFiles, read_case, try_case
from kitsam.ct.views import draw_view
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.parts import part_folder
from kitsam.embedding.plan import Plan
from kitsam.embedding.shares import CasePart, Span, case_parts
from kitsam.embedding.units import Unit
from kitsam.embedding.writing import ShardThreads, SpanShards, shard_threads
from kitsam.sam.encoding import SliceEncoder
from kitsam.system.console import Tick, warn
from kitsam.system.devices import SideStream
from kitsam.system.errors import CaseError
from kitsam.system.files import sha256_of
from kitsam.system.pieces import Pieces


@dataclass(frozen=True)
class Share:
    """What a process embeds."""

    spans: list[Span]
    units: Mapping[str, Unit]
    files: dict[str, CaseFiles]
    first_piece: int  # number of its first case, counted over all processes

    def cases(self) -> list[CaseFiles]:
        """In order; one that two spans share stands there twice."""
        return [self.files[part.case] for span in self.spans for part in case_parts(self.units[span.unit], span)]


def embed_share(
    share: Share, encode: SliceEncoder, config: EmbedConfig, plan: Plan, tick: Tick, pieces: Pieces
) -> float:
    """Write the shards of all spans. Returns the share of the time that the encoder worked."""
    at_work = _Encoding(encode, config)
    number = share.first_piece
    with closing(_read_ahead(share.cases(), plan, encode.device)) as scans, shard_threads() as threads:
        for span in share.spans:
            unit = share.units[span.unit]
            shards = SpanShards(unit, _folder(config.out, span, unit), config, plan)
            threads.begin(shards)
            for part in case_parts(unit, span):
                with pieces.piece(number):
                    _embed_case(part, next(scans), at_work, shards, threads)
                tick(sum(member.sample is not None for member in part.members), part.case)
                number += 1
            threads.end(shards)
    return at_work.clock.share()


def _folder(out: Path, span: Span, unit: Unit) -> Path:
    return out if span.is_whole(unit) else part_folder(out, span)


class _Encoding:
    """The encoder, how its answers come to the host, and a clock of its work."""

    def __init__(self, encode: SliceEncoder, config: EmbedConfig) -> None:
        self.encode, self.config = encode, config
        self.back = SideStream(encode.device)
        self.clock = _Clock(encode.device)


def _embed_case(
    part: CasePart, scan: "_Scan | CaseError", encoding: _Encoding, shards: SpanShards, threads: ShardThreads
) -> None:
    """Of a case that several processes share, the first one says what there is to say."""
    if isinstance(scan, CaseError):
        if not part.before:
            warn(f"{part.case} is left out: {scan}")
        shards.skipped[part.case] = str(scan)
        return
    for doubt in () if part.before else scan.case.doubts:
        warn(doubt)
    shards.scans[part.case] = scan.sha256
    _encode_case(part, scan, encoding, shards, threads)


@dataclass(frozen=True)
class _Scan:
    """A case, its slices on the encoder's device, and the SHA-256 of the file of its scan."""

    case: Case
    image: Tensor  # (S, H, W) HU
    sha256: str


def _read_ahead(cases: list[CaseFiles], plan: Plan, device: torch.device) -> Iterator[_Scan | CaseError]:
    """Yield each case while a thread reads the next one."""
    stream = SideStream(device)

    def read(files: CaseFiles) -> _Scan:
        case = read_case(files)
        if sha256_of(files.segmentation) != plan.cases[files.name].segmentation:
            raise CaseError(f"{files.segmentation}: has changed since the plan was made")
        case = case.within(plan.cases[files.name].body)
        return _Scan(case, stream.to_device(torch.from_numpy(case.image)), sha256_of(files.imaging))

    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[_Scan | CaseError]] = deque()
        for files in cases:
            ahead.append(reader.submit(try_case, read, files))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        if ahead:
            yield ahead.popleft().result()


def _encode_case(part: CasePart, scan: _Scan, encoding: _Encoding, shards: SpanShards, threads: ShardThreads) -> None:
    config, encode = encoding.config, encoding.encode
    at_once, before = config.batch_size, part.before
    for first in range(before - before % at_once, before + len(part.members), at_once):
        batch = part.members[max(first - before, 0) : first - before + at_once]
        samples = [member.sample for member in batch if member.sample]
        if not samples:
            continue
        views = [draw_view(config.views, config.seed, part.case, sample.slice, sample.view) for sample in samples]
        with encoding.clock.running():
            embeddings = encode(scan.image, [sample.slice for sample in samples], views)
        on_host = encoding.back.to_host(embeddings)
        threads.add(shards, scan.case, batch, views, on_host, encode.encoder.input_size)


class _Clock:
    """How much of the time the encoder worked: by events where the device works by itself."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.began, self.seconds = time.perf_counter(), 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        if self.cuda:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            yield
            last.record()
            self.events.append((first, last))
        else:
            began = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - began

    def share(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        work = self.seconds + sum(first.elapsed_time(last) for first, last in self.events) / 1000
        return work / max(time.perf_counter() - self.began, 1e-9)
