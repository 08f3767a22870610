"""DVS128 Gesture (Amir et al., CVPR 2017): 11 hand gestures of 29 people in front of a DVS128.

    trials_to_train.txt, trials_to_test.txt   names of recordings, one per line
    NAME.aedat                                a recording of several gestures, AEDAT 3.1
    NAME_labels.csv                           class (1..11), startTime_usec, endTime_usec, below a line of titles

Class 1 is label 0 here. Each row of the .csv is a sample: 1176 for training and 288 for test, as SpikingJelly counts.
"""

from __future__ import annotations

from pathlib import Path

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.aedat3 import SIZE, read_aedat3
from spikenm_compile.training.datasets.files import read_lines
from spikenm_compile.training.datasets.frames import Frames
from spikenm_compile.training.datasets.kinds import DataOptions, DatasetKind, Source, Split
from spikenm_compile.training.datasets.recordings import EventFrames, Recording

NUM_CLASSES = 11
FRAMES = Frames(num_steps=16, by="count")
MOST_DIGITS = 18
"""Of a number that fits in 64 bits."""
FOLDER = "DvsGesture"
SOURCE = Source(
    "dvs128-gesture",
    "trials_to_train.txt, trials_to_test.txt, the .aedat and _labels.csv files, or the folder DvsGesture with them",
    "published by IBM Research as DVS128 Gesture (DvsGesture.tar.gz)",
)


def load_dvs128_gesture(root: Path, split: Split, options: DataOptions) -> EventFrames:
    """Recordings of a split.

    Raises:
        DataError: files are missing, or the lists or labels cannot be read.
    """
    folder = root / FOLDER if (root / FOLDER).exists() else root
    trials = SOURCE.require(folder / f"trials_to_{split}.txt")
    names = [line.strip() for line in read_lines(trials) if line.strip()]
    recordings = [recording for name in names for recording in _gestures(folder, trials, name)]
    SOURCE.require_samples(len(recordings), trials)
    return EventFrames(recordings, read_aedat3, options.frames or FRAMES, (SIZE, SIZE), options.cache)


def _gestures(folder: Path, trials: Path, name: str) -> list[Recording]:
    """The samples of one recording."""
    if Path(name).name != name or not name.endswith(".aedat"):
        raise DataError(
            f"{trials} names '{name}'; lines are names of .aedat files beside it; take a fresh copy of the file"
        )
    recording = SOURCE.require(folder / name)
    labels = SOURCE.require(folder / f"{name.removesuffix('.aedat')}_labels.csv")
    rows = list(enumerate(read_lines(labels), start=1))[1:]
    return [_gesture(recording, labels, number, row) for number, row in rows if row.strip()]


def _gesture(recording: Path, labels: Path, number: int, row: str) -> Recording:
    entries = row.split(",")
    if len(entries) != 3 or not all(entry.strip().isdecimal() and len(entry) < MOST_DIGITS for entry in entries):
        raise DataError(
            f"{labels}, line {number}: '{row[:60]}' is not class,start,end in whole numbers; take a fresh copy"
        )
    label, start, stop = map(int, entries)
    if not 1 <= label <= NUM_CLASSES or start >= stop:
        raise DataError(
            f"{labels}, line {number}: class {label} from {start} to {stop}; classes are 1 to {NUM_CLASSES}, gestures "
            "end after they begin; take a fresh copy of the file"
        )
    return Recording(recording, label - 1, start, stop)


DVS128_GESTURE = DatasetKind((2, SIZE, SIZE), NUM_CLASSES, 1_176, 288, load_dvs128_gesture, SOURCE, FRAMES)
