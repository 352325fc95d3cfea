from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidssl import config
from vidssl.data import scan
from vidssl.evidence import worlds

SCRIPT = Path(__file__).resolve().parents[1] / "datasets" / "prepare_letters.py"


def test_files_are_the_letters_of_the_proofs(tmp_path):
    script = config.load_module(SCRIPT)
    script.write_letters(tmp_path / "letters", seed=3, num_train=12, num_val=5)
    images, label = worlds.letters(12, seed=6)
    paths = sorted((tmp_path / "letters" / "train").rglob("*.png"), key=lambda path: path.name)
    assert [path.parent.name for path in paths] == [worlds.LETTERS[number] for number in label]
    for path, image in zip(paths, images, strict=True):
        assert np.array_equal(np.array(Image.open(path)), image[0].permute(1, 2, 0).numpy())
    corpus = scan(tmp_path / "letters" / "val", labels="folder", media="any", cache=tmp_path, progress=False)
    assert len(corpus) == 5 and set(corpus.class_names) <= set(worlds.LETTERS)
    with pytest.raises(ValueError, match="already holds files"):
        script.write_letters(tmp_path / "letters")
