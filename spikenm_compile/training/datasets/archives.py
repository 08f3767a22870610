"""Published archives, and the digests by which a copy is known to be whole.

The digests are those that SpikingJelly 2.0 lists (`resource_url_md5` in its datasets/cifar10_dvs.py, dvs128_gesture.py,
n_mnist.py and shd.py). MD5 finds damage, not forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from spikenm_compile.errors import DataError, InputError

MD5: dict[str, dict[str, str]] = {
    "cifar10-dvs": {
        "airplane.zip": "0afd5c4bf9ae06af762a77b180354fdd",
        "automobile.zip": "8438dfeba3bc970c94962d995b1b9bdd",
        "bird.zip": "a9c207c91c55b9dc2002dc21c684d785",
        "cat.zip": "52c63c677c2b15fa5146a8daf4d56687",
        "deer.zip": "b6bf21f6c04d21ba4e23fc3e36c8a4a3",
        "dog.zip": "f379ebdf6703d16e0a690782e62639c3",
        "frog.zip": "cad6ed91214b1c7388a5f6ee56d08803",
        "horse.zip": "e7cbbf77bec584ffbf913f00e682782a",
        "ship.zip": "41c7bd7d6b251be82557c6cce9a7d5c9",
        "truck.zip": "89f3922fd147d9aeff89e76a2b0b70a7",
    },
    "dvs128-gesture": {"DvsGesture.tar.gz": "8a5c71fb11e24e5ca5b11866ca6c00a1"},
    "n-mnist": {
        "Train.zip": "20959b8e626244a1b502305a9e6e2031",
        "Test.zip": "69ca8762b2fe404d9b9bad1103e97832",
    },
    "shd": {
        "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
        "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    },
}
"""Data set -> archive -> digest."""


def check_archives(name: str, folder: Path) -> tuple[str, ...]:
    """Compare the archives of a data set that lie in a folder with their digests; returns those that are whole.

    Raises:
        InputError: no digests of this set are known.
        DataError: an archive is damaged or cannot be read.
    """
    if name not in MD5:
        raise InputError(
            f"no digests of '{name}' are known; they are of {', '.join(MD5)}; read the files without this check"
        )
    present = [archive for archive in MD5[name] if (folder / archive).exists()]
    for archive in present:
        digest = _md5(folder / archive)
        if digest != MD5[name][archive]:
            raise DataError(
                f"{folder / archive} has MD5 {digest}; the published one has {MD5[name][archive]}; take a fresh copy"
            )
    return tuple(present)


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
