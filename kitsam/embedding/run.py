"""Stage 1: cases -> slices -> embeddings -> shards.

The plan says which slices go to which shard; each process embeds an equal share of them, unit by unit; units that
several processes share are joined, and when all are there the manifest is merged from the sidecars. A process that is
stopped loses at most the unit it works on, and the one before if that is being closed; started again it does only what
is missing.

Cost: the encoder's time. Memory: three CT volumes and a few batches.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import torch
from accelerate import PartialState

from kitsam.ct.case import find_cases, paths_of
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.dry_run import print_forecast
from kitsam.embedding.folder import SPLITS, Work, make_ready
from kitsam.embedding.merge import merge, print_manifest
from kitsam.embedding.parts import PARTS, clear_parts, join_records, join_shard, part_folder
from kitsam.embedding.plan import Plan, make_plan, write_plan
from kitsam.embedding.settings import settings_of, with_precision
from kitsam.embedding.shares import Span, case_parts, count_slices, gaps, share_out
from kitsam.embedding.units import Unit, count_samples, units_of
from kitsam.embedding.work import Share, embed_share
from kitsam.sam.encoder import Encoder, EncoderRecord, build_encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.manifest import INITIAL_DECODER, NAME, write_manifest
from kitsam.shards.units import PLAN, UNITS_FOLDER
from kitsam.system.compiling import compile_where_it_pays, seconds_per_batch
from kitsam.system.console import progress, say
from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.files import look_anew
from kitsam.system.head import say_head
from kitsam.system.outputs import refuse_overwriting
from kitsam.system.pieces import Pieces
from kitsam.system.precision import format_text
from kitsam.system.processes import deal, report_lost_peer, start_processes

JOINING_THREADS = 4  # hashing releases the interpreter


def run(config: EmbedConfig) -> int:
    processes = start_processes(config.device)
    with report_lost_peer():
        decide(lambda: _refuse_overwriting(config))
        if config.dry_run:
            return decide(lambda: _dry_run(config))
        with sole_writers(config.out):
            return _embed(config, processes)


def _refuse_overwriting(config: EmbedConfig) -> None:
    outputs = [config.out, *(config.out / name for name in (PLAN, NAME, SPLITS, INITIAL_DECODER))]
    given = [config.data, config.splits, config.encoder.checkpoint, *paths_of(find_cases(config.data))]
    refuse_overwriting(outputs, given)


def _embed(config: EmbedConfig, processes: PartialState) -> int:
    encoder, record = together(lambda: build_encoder(config.encoder))
    cases = len(find_cases(config.data))
    data = f"{config.data}, {cases} cases, for the encoder {config.encoder.name} at input {config.encoder.side}"
    say_head("embed", config, data, processes.device, format_text(config.precision, processes.device))
    work = decide(lambda: _begin(config, processes, encoder, record))
    units = {unit.name: unit for unit in units_of(work.plan, config)}
    line = [gap for name in work.missing for gap in gaps(units[name], work.parts[name])]
    hands = share_out(line, units, config.batch_size, processes.num_processes)
    encode = _slice_encoder(encoder, config, work.plan.settings["precision"], processes.device)
    missing = count_slices(line, units)
    batches = math.ceil(missing / config.batch_size / processes.num_processes)
    if batches:
        encode.choose_attention(config.compile)
    compile_where_it_pays(encoder, config.compile, processes.device, encode.blank_batch, batches)
    samples = count_samples(units.values())
    if missing < samples:
        say(f"{samples - missing} of {samples} samples are there already")
    _embed_share(hands, processes.process_index, units, encode, config, work)
    shared = _shared_units(units, work, hands)
    together(lambda: _join(config, units, shared, processes))
    return decide(lambda: _finish(config, work.plan, units, shared, record))


def _begin(config: EmbedConfig, processes: PartialState, encoder: Encoder, record: EncoderRecord) -> Work:
    plan = make_plan(config, settings_of(config, record))
    plan = with_precision(plan, encoder, config, processes.num_processes, processes.device)
    write_plan(config.out, plan, {unit.name: list(unit.shards) for unit in units_of(plan, config)})
    return make_ready(config, plan, find_cases(config.data), record, processes.num_processes)


def _shared_units(units: Mapping[str, Unit], work: Work, hands: list[list[Span]]) -> dict[str, list[Span]]:
    """The parts of each unit that is to be joined."""
    parts = {name: [*spans] for name, spans in work.parts.items()}
    for span in chain.from_iterable(hands):
        parts[span.unit].append(span)
    return {name: sorted(spans) for name, spans in parts.items() if not spans[0].is_whole(units[name])}


def _join(
    config: EmbedConfig, units: Mapping[str, Unit], shared: dict[str, list[Span]], processes: PartialState
) -> None:
    """This process's share of the shards of shared units."""
    shards = [(name, unit, len(samples)) for unit in shared for name, samples in units[unit].shards.items()]
    look_anew(config.out / PARTS, *(part_folder(config.out, span) for spans in shared.values() for span in spans))
    share = deal([size for _, _, size in shards], processes.num_processes)[processes.process_index]
    with ThreadPoolExecutor(JOINING_THREADS) as threads:
        mine = [shards[index][:2] for index in share]
        tasks = [threads.submit(join_shard, config.out, name, shared[unit]) for name, unit in mine]
    for task in tasks:
        task.result()


def _finish(
    config: EmbedConfig,
    plan: Plan,
    units: Mapping[str, Unit],
    shared: dict[str, list[Span]],
    record: EncoderRecord,
) -> int:
    """Write what is missing of the units' records, and the manifest. Returns the exit code."""
    look_anew(config.out, config.out / UNITS_FOLDER, config.out / "train", config.out / "val")
    for name, spans in shared.items():
        join_records(config.out, units[name], spans)
    clear_parts(config.out)
    manifest = merge(config.out, plan, list(units.values()), record)
    write_manifest(config.out, manifest)
    print_manifest(config.out, manifest)
    return 1 if manifest.skipped else 0


def _slice_encoder(encoder: Encoder, config: EmbedConfig, precision: str, device: torch.device) -> SliceEncoder:
    return SliceEncoder(encoder, config.input, precision == "bf16", device, config.batch_size)


def _embed_share(
    hands: list[list[Span]],
    rank: int,
    units: Mapping[str, Unit],
    encode: SliceEncoder,
    config: EmbedConfig,
    work: Work,
) -> None:
    """Embed this process's share of what is missing."""
    first_piece = sum(len(case_parts(units[span.unit], span)) for hand in hands[:rank] for span in hand)
    share = Share(hands[rank], units, work.files, first_piece)
    slices = count_slices(share.spans, units)
    pieces = Pieces()
    with progress("Embedding", slices, "slices") as tick:
        worked = embed_share(share, encode, config, work.plan, tick, pieces)
    pieces.finish()
    if slices:
        say(f"The encoder worked {worked:.1%} of the time")


def _dry_run(config: EmbedConfig) -> int:
    """What would be embedded, how large it would be and how long it would take here."""
    record = EncoderRecord(config.encoder.name, "", config.encoder.side)
    device = start_processes(config.device).device
    encoder = Encoder(config.encoder.name, config.encoder.side)
    plan = make_plan(config, settings_of(config, record))
    plan = with_precision(plan, encoder, config, config.processes, device)
    print_forecast(plan, config, record, _seconds_per_slice(encoder, plan, config, device))
    return 1 if plan.skipped else 0


def _seconds_per_slice(encoder: Encoder, plan: Plan, config: EmbedConfig, device: torch.device) -> float:
    """Measured with blank slices and the weights of a new encoder."""
    encode = _slice_encoder(encoder, config, plan.settings["precision"], device)
    encode.choose_attention(config.compile)
    return seconds_per_batch(encode.blank_batch, device) / config.batch_size
