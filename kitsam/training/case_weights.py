"""How much a slice counts by the case that it is of.

Official Dice is a mean over cases, but cases have from 29 to 1059 slices (KiTS23), and of the real slices at hand one
case has 18 of 49: what a decoder learns from them as they come is mostly that of the cases that were cut most finely.
"""

from collections import Counter

from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import ShardSet


def case_weights(shards: ShardSet, order: SampleOrder, exponent: float) -> dict[str, float]:
    """Weight of each slice of a case that trains, 1 on average over all slices.

    `exponent`: 0: slices count alike, 1: all slices of a case together count as much as those of any other.
    """
    slices = Counter(case for addresses in order.addresses() for case in shards.cases(addresses))
    powers = {case: count**-exponent for case, count in slices.items()}
    mean = sum(slices[case] * power for case, power in powers.items()) / slices.total()
    return {case: power / mean for case, power in powers.items()}
