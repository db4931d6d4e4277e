import pytest

from caloforge.errors import CaloforgeError
from caloforge.jets import Images, paired
from caloforge.samples import SAMPLES, sample
from caloforge.showers import Showers

PAIRS = [(process, part) for process in ("dijet", "wjet") for part in ("train", "test")]


def test_every_file_is_a_sample_that_reads():
    for name, path in SAMPLES.items():
        kind = Images if name.startswith(("dijet", "wjet")) else Showers
        assert len(kind.read(path)) > 0


@pytest.mark.parametrize(("process", "part"), PAIRS)
def test_image_pairs_are_whole(process, part):
    fast, full = (Images.read(sample(f"{process}-{side}-{part}")) for side in ("fast", "full"))
    assert len(fast) == len(full) == {"train": 1600, "test": 400}[part]
    rows = paired(fast, full)
    assert all(len(each) == len(fast) for each in rows)
    assert fast.events_digest == full.events_digest


def test_train_and_test_share_no_event():
    for process in ("dijet", "wjet"):
        train, test = (set(Images.read(sample(f"{process}-full-{part}")).event.tolist()) for part in ("train", "test"))
        assert not train & test


def test_unknown_sample():
    with pytest.raises(CaloforgeError, match="'dijet-ful-test' is not a sample; did you mean 'dijet-full-test'"):
        sample("dijet-ful-test")


def test_a_file_of_another_kind_is_called_by_its_name():
    with pytest.raises(
        CaloforgeError, match="not a caloforge shower file but one of caloforge-images; give a shower file"
    ):
        Showers.read(sample("dijet-full-test"))
    with pytest.raises(
        CaloforgeError, match="not a caloforge image file but one of caloforge-showers; give an image file"
    ):
        Images.read(sample("lhcb-ecal-test"))
