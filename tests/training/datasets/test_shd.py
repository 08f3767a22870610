from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from event_files import write
from spikingjelly_readers import spikingjelly_reader
from torch.utils.data import DataLoader

from spikenm_compile.errors import DataError
from spikenm_compile.training.datasets.frames import Frames
from spikenm_compile.training.datasets.kinds import DataOptions
from spikenm_compile.training.datasets.shd import load_shd

h5py = pytest.importorskip("h5py")
Spikes = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]


def random_spikes(samples: int = 4) -> Spikes:
    rng = np.random.default_rng(0)
    microseconds = [np.sort(rng.integers(1, 1_400_000, 300 + n)) for n in range(samples)]
    return [(t / np.float64(1e6), rng.integers(0, 700, len(t))) for t in microseconds]


def write_shd(path: Path, spikes: Spikes, labels: list[int], time_type: str = "<f8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, kind, column in (("times", time_type, 0), ("units", "<u2", 1)):
            rows = file.create_dataset(f"spikes/{name}", len(spikes), h5py.vlen_dtype(np.dtype(kind)))
            for index, row in enumerate(spikes):
                rows[index] = row[column]
        file["labels"] = np.array(labels, np.uint16)
    return path


def test_frames_are_those_of_spikingjelly(tmp_path: Path) -> None:
    spikes, reader = random_spikes(), spikingjelly_reader("shd")
    write_shd(tmp_path / "shd_train.h5", spikes, [0, 19, 3, 4])
    by_count = load_shd(tmp_path, "train", DataOptions(Frames(7)))
    by_time = load_shd(tmp_path, "train", DataOptions(Frames(9, "time", 100_000)))
    for index, (times, units) in enumerate(spikes):
        events = {"t": times, "x": units}
        expected = reader._integrate_events_by_fixed_frames_number(events, "number", 7, 700)
        assert np.array_equal(by_count[index][0].numpy(), expected)
        expected = reader._integrate_events_by_fixed_duration(events, 100, 700)
        assert np.array_equal(by_time[index][0].numpy(), expected[:9])
    assert [label for _, label in by_count] == [0, 19, 3, 4]


def test_times_of_the_published_files_are_half_precision_and_workers_read_them_too(tmp_path: Path) -> None:
    write_shd(tmp_path / "shd_test.h5", [(np.array([0.25, 0.5]), np.array([3, 699]))], [5], "<f2")
    data = load_shd(tmp_path, "test", DataOptions())
    assert data.events(0).tolist() == [(3, 0, 0, 250_000), (699, 0, 0, 500_000)]
    (samples, labels), *_ = DataLoader(data, num_workers=1)
    assert samples.shape == (1, 100, 700)
    assert samples[0].nonzero().tolist() == [[0, 3], [17, 699]]
    assert labels.tolist() == [5]


@pytest.mark.parametrize(
    ("times", "units", "label", "sentence"),
    [
        ([0.1], [1, 2], 0, r"sample 0 has \(1,\) times, \(2,\) units"),
        ([float("nan")], [1], 0, "times outside of 0 to 60 s"),
        ([-0.1], [1], 0, "times outside of 0 to 60 s"),
        ([0.1], [700], 0, "units outside of 0 to 699"),
        ([0.1], [1], 20, "sample 0 has class 20; classes are 0 to 19"),
    ],
)
def test_samples_that_cannot_be_are_refused(
    times: list[float], units: list[int], label: int, sentence: str, tmp_path: Path
) -> None:
    path = write_shd(tmp_path / "shd_test.h5", [(np.array(times), np.array(units))], [label])
    with pytest.raises(DataError, match=f"{path}: .*{sentence}"):
        load_shd(tmp_path, "test", DataOptions())[0]


def test_files_that_are_no_shd_are_refused(tmp_path: Path) -> None:
    path = write_shd(tmp_path / "shd_test.h5", random_spikes(3), [0, 1])
    with pytest.raises(DataError, match=r"labels, times and units have \[2, 3, 3\] entries"):
        load_shd(tmp_path, "test", DataOptions())
    with h5py.File(path, "w") as file:
        file["labels"] = [1]
    with pytest.raises(DataError, match="spikes/times cannot be read"):
        load_shd(tmp_path, "test", DataOptions())
    for name, value in (("labels/inner", [1]), ("labels", 1), ("labels", ["a"])):
        with h5py.File(path, "w") as file:
            file[name] = value
            file["spikes/times"] = file["spikes/units"] = [1]
        with pytest.raises(DataError, match=r"labels\S* cannot be read"):
            load_shd(tmp_path, "test", DataOptions())


def test_a_file_that_is_cut_off_ends_in_one_sentence(tmp_path: Path) -> None:
    path = write_shd(tmp_path / "shd_test.h5", random_spikes(3), [0, 1, 2])
    whole = path.read_bytes()
    for length in range(0, len(whole), 499):
        path = write(tmp_path / str(length) / "shd_test.h5", whole[:length])  # HDF5 knows open files by their place
        with pytest.raises(DataError, match=str(path)):
            load_shd(path.parent, "test", DataOptions())


def test_random_damage_never_ends_in_a_traceback(tmp_path: Path) -> None:
    path = write_shd(tmp_path / "shd_test.h5", random_spikes(3), [0, 1, 2])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 20):
            damaged[place] = rng.integers(0, 256)
        path = write(tmp_path / str(number) / "shd_test.h5", bytes(damaged))
        try:
            data = load_shd(path.parent, "test", DataOptions())
            assert all(data[i][0].shape == (100, 700) for i in range(len(data)))
        except DataError:
            refused += 1
    assert refused > 10
