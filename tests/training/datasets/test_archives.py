from pathlib import Path

import pytest
from event_files import write
from spikingjelly_readers import spikingjelly_reader

from spikenm_compile.errors import DataError, InputError
from spikenm_compile.training.datasets import archives
from spikenm_compile.training.datasets.archives import MD5, check_archives

PEERS = {
    "cifar10-dvs": ("cifar10_dvs", "CIFAR10DVS"),
    "dvs128-gesture": ("dvs128_gesture", "DVS128Gesture"),
    "n-mnist": ("n_mnist", "NMNIST"),
    "shd": ("shd", "SpikingHeidelbergDigits"),
}


@pytest.mark.parametrize("name", PEERS)
def test_digests_are_those_that_spikingjelly_lists(name: str) -> None:
    module, peer = PEERS[name]
    listed = getattr(spikingjelly_reader(module), peer).resource_url_md5()
    assert MD5[name].items() <= {archive: digest for archive, _, digest in listed}.items()
    assert PEERS.keys() == MD5.keys()


def test_archives_are_whole_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_archives("shd", tmp_path) == ()
    write(tmp_path / "shd_test.h5.zip", b"abc")
    with pytest.raises(DataError, match=r"shd_test\.h5\.zip has MD5 900150983cd24fb0d6963f7d28e17f72; the published"):
        check_archives("shd", tmp_path)
    monkeypatch.setitem(archives.MD5["shd"], "shd_test.h5.zip", "900150983cd24fb0d6963f7d28e17f72")
    assert check_archives("shd", tmp_path) == ("shd_test.h5.zip",)
    with pytest.raises(InputError, match="no digests of 'cifar10' are known"):
        check_archives("cifar10", tmp_path)
