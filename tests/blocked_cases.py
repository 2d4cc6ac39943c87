"""Layers larger than the blocks of the fast loops, one for each way to cut a pass."""

from __future__ import annotations

from convgrad_ext.cases import Case

BLOCKED = [
    Case("dense", "several blocks of channels", channels=(150, 70), image=(9, 9), padding=1),
    Case("small_images", "many share a stretch", N=60, channels=(17, 9), image=(3, 3), padding=1),
    Case(
        "images_of_a_row",
        "not one run",
        N=7,
        channels=(17, 9),
        image=(1, 9),
        kernel=(1, 3),
        padding=(0, 1),
    ),
    Case("wide_rows", "several stretches a row", channels=(5, 9), image=(3, 1500), padding=1),
    Case("wide_rows_of_vectors", "grad_output read in place", channels=(5, 16), image=(3, 1500)),
    Case("crowded", "channels 8192 bytes apart are copied", channels=(40, 24), image=(32, 32)),
    Case("crowded_strided", "their phases too", channels=(40, 24), image=(32, 32), stride=2),
    Case("crowded_wide", "and parts of rows", channels=(40, 9), image=(4, 1024), padding=1),
    Case("1x1", "tails of rows and pixels", channels=(20, 37), image=(7, 9), kernel=(1, 1)),
    Case("1x1_images", "panels across images", N=9, channels=(20, 37), image=(3, 5), kernel=(1, 1)),
    Case("1x1_long", "sums are flushed", channels=(1300, 30), image=(3, 5), kernel=(1, 1)),
    Case("1x1_large_panel", "one fills a strip", channels=(2700, 30), image=(5, 9), kernel=(1, 1)),
    Case(
        "1x1_strided",
        "phases without taps",
        channels=(20, 37),
        image=(9, 8),
        kernel=(1, 1),
        stride=2,
    ),
    Case(
        "1x1_padded",
        "pixels without taps",
        channels=(20, 37),
        image=(6, 7),
        kernel=(1, 1),
        padding=1,
    ),
    Case(
        "1x1_grouped", "a panel a group", channels=(40, 60), image=(5, 6), kernel=(1, 1), groups=2
    ),
    Case(
        "patches",
        "channels_last: a row of a patch is one pixel",
        N=2,
        channels=(3, 37),
        image=(13, 24),
        kernel=(4, 4),
        stride=4,
    ),
    Case(
        "patches_left_over",
        "but not where columns are left over",
        channels=(3, 37),
        image=(12, 26),
        kernel=(4, 4),
        stride=4,
    ),
    Case(
        "patches_of_whole_images",
        "nchw: their pixels are lanes, and no vector ends where a row of them does",
        N=2,
        channels=(5, 37),
        image=(12, 21),
        kernel=(4, 3),
        stride=(4, 3),
    ),
    Case(
        "taps_of_a_row",
        "grad_weight of few channels: they are the rows of a tile, fewer at a border",
        channels=(2, 37),
        image=(9, 31),
        kernel=(3, 7),
        padding=(1, 3),
    ),
    Case(
        "taps_of_a_row_strided",
        "and so are those of a strided one",
        channels=(2, 37),
        image=(9, 40),
        kernel=(3, 7),
        stride=2,
        padding=((1, 0), (3, 2)),
    ),
    Case(
        "taps_of_several_tiles",
        "more than a tile has rows",
        channels=(2, 37),
        image=(2, 63),
        kernel=(1, 29),
        padding=(0, 14),
    ),
    Case("whole_rows", "a kernel as wide", channels=(9, 20), image=(7, 8), kernel=(3, 8)),
    Case(
        "tap_a_phase", "kernel = stride", channels=(20, 37), image=(12, 14), kernel=(2, 2), stride=2
    ),
]
