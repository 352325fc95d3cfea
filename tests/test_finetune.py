import dataclasses
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.layers import DropPath

from vidssl.batch import Batch
from vidssl.data.arrays import ArrayDataset
from vidssl.data.clips import still
from vidssl.data.loader import Loader
from vidssl.evaluate.recognition.probe import linear_accuracy
from vidssl.evidence import worlds
from vidssl.evidence.probes import pooled_features
from vidssl.finetune import Classifier, classify, finetune
from vidssl.models import ConvNet, VideoViT
from vidssl.stop import Stopped

pytestmark = pytest.mark.usefixtures("looked_at_here")


def letters(num_images: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four letters of ten."""
    image, label = worlds.letters(4 * num_images, seed=seed)
    kept = (label < 4).nonzero().flatten()[:num_images]
    return image[kept], label[kept]


def small_encoder(*, norm: str = "batch") -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(widths=(12, 24, 32), strides=(2, 2, 2), color="gray", standardize=True, norm=norm)


def two_clips(duration_seconds: float, fps: float, generator: torch.Generator) -> torch.Tensor:
    """First and second frame, a clip each."""
    return torch.tensor([[0.0], [1 / fps]], dtype=torch.float64)


TRAIN, TEST = letters(400, seed=1), letters(200, seed=2)
OPTIONS = {"num_classes": 4, "steps": 120, "lr_backbone": 1e-2, "lr_head": 1e-2, "batch_size": 32}


def test_fine_tuning_beats_its_frozen_start(tmp_path):
    encoder = small_encoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    frozen = linear_accuracy(
        pooled_features(encoder, TRAIN[0]), TRAIN[1], pooled_features(encoder, TEST[0]), TEST[1]
    )
    record = finetune(
        encoder,
        ArrayDataset(TRAIN[0], label=TRAIN[1]),
        ArrayDataset(TEST[0], label=TEST[1]),
        out=tmp_path,
        **OPTIONS,
    )
    assert frozen < 0.5  # measured: 0.40, chance is 0.25; fine-tuned 0.7 to 0.8
    assert record["figures"]["top1"] > frozen + 0.15
    assert torch.equal(record["label"], TEST[1])
    assert record["figures"]["top1"] == (record["predicted"] == TEST[1]).double().mean()
    assert record["figures"]["mean_class"] == pytest.approx(sum(record["classes"].values()) / 4)
    assert (record["num_train"], record["num_test"], record["unreadable"]) == (400, 200, {})
    for name, value in encoder.state_dict().items():  # a copy was trained
        assert torch.equal(value, before[name])


def test_a_stopped_training_goes_on_exactly(tmp_path):
    class Stopping(ArrayDataset):
        num_left = 70

        def sample(self, key, **options):
            self.num_left -= 1
            if self.num_left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().sample(key, **options)

    test = ArrayDataset(TEST[0], label=TEST[1])
    options = OPTIONS | {"steps": 12, "batch_size": 16}
    whole = finetune(
        small_encoder(), ArrayDataset(*TRAIN[:1], label=TRAIN[1]), test, out=tmp_path / "a", **options
    )
    with pytest.raises(Stopped):
        finetune(small_encoder(), Stopping(TRAIN[0], label=TRAIN[1]), test, out=tmp_path / "b", **options)
    stopped = {path.name for path in (tmp_path / "b" / "checkpoints").iterdir()}
    continued = finetune(
        small_encoder(), ArrayDataset(TRAIN[0], label=TRAIN[1]), test, out=tmp_path / "b", **options
    )
    assert stopped and stopped != {path.name for path in (tmp_path / "a" / "checkpoints").iterdir()}
    first, second = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in "ab")
    assert first == second
    assert torch.equal(whole["predicted"], continued["predicted"]) and whole["figures"] == continued["figures"]
    again = finetune(small_encoder(), ArrayDataset(TRAIN[0], label=TRAIN[1]), test, out=tmp_path / "b", **options)
    assert again["figures"] == whole["figures"]  # complete already: it is measured again


def test_what_stands_in_for_a_test_sample_that_cannot_be_read_is_not_scored(tmp_path):
    class Damaged(ArrayDataset):
        def sample(self, key, **options):
            if key[1] != 5:
                return super().sample(key, **options)
            return dataclasses.replace(super().sample((key[0], 6), **options), bad=((self.name(5), "is damaged"),))

    options = OPTIONS | {"steps": 2}
    record = finetune(
        small_encoder(),
        ArrayDataset(TRAIN[0], label=TRAIN[1]),
        Damaged(TEST[0][:12], label=TEST[1][:12]),
        out=tmp_path,
        **options,
    )
    assert record["unreadable"] == {"video 5 in memory": "is damaged"} and record["num_test"] == 11
    left = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert record["scored"].tolist() == left and torch.equal(record["label"], TEST[1][left])
    assert len(record["predicted"]) == record["uncertainty"]["num_samples"] == 11


def test_a_backbone_of_rate_0_stays(tmp_path):
    encoder = small_encoder(norm="group")
    finetune(
        encoder,
        ArrayDataset(TRAIN[0], label=TRAIN[1]),
        ArrayDataset(TEST[0], label=TEST[1]),
        out=tmp_path,
        **(OPTIONS | {"lr_backbone": 0.0, "steps": 3}),
    )
    for name, value in load_file(tmp_path / "encoder.safetensors").items():
        assert torch.equal(value, encoder.state_dict()[name])


def test_drop_path_is_for_the_training_and_for_transformers(tmp_path):
    transformer = VideoViT(dim=12, depth=2, num_heads=2, patch_px=16, tubelet_frames=1)

    def tuned(encoder, **options):
        train, test = (ArrayDataset(images, label=label) for images, label in (TRAIN, TEST))
        out = tmp_path / f"{options}"
        found = finetune(encoder, train, test, out=out, **(OPTIONS | {"steps": 2, "lr_backbone": 0.01} | options))
        return load_file(out / "encoder.safetensors"), found["figures"]

    weights = {rate: tuned(transformer, drop_path=rate)[0] for rate in (0.0, 0.9)}
    name = "blocks.1.mlp.fc1.weight"
    assert not torch.equal(weights[0.0][name], weights[0.9][name])
    assert not any(isinstance(module, DropPath) for module in transformer.modules())  # the caller's stays as it is
    with pytest.raises(ValueError, match=r"drop path of rate 0.9 in 0 transformer blocks of ConvNet"):
        tuned(small_encoder(), drop_path=0.9)


def test_rates_and_weight_decay_go_where_they_belong():
    method = Classifier(small_encoder(), num_classes=4, clips=still, lr_backbone=0.1, lr_head=0.7)
    groups = method.param_groups()
    rates = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert all(rates.pop(id(parameter)) == 0.1 for parameter in method.encoder.parameters())
    assert set(rates) == {id(parameter) for parameter in method.head.parameters()} and set(rates.values()) == {0.7}
    for group in groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {"weight_decay" not in group}


def batch_of(label: list[int], *, num_clips: int = 1) -> Batch:
    video = TRAIN[0][: len(label) * num_clips].view(len(label), num_clips, 1, 3, 32, 32)
    return Batch(index=torch.arange(len(label)), video=video, label=torch.tensor(label))


def test_the_loss_is_that_of_the_labelled_clips():
    method = Classifier(
        small_encoder(norm="group"), num_classes=4, clips=still, lr_backbone=1.0, lr_head=1.0
    ).eval()
    assert method(batch_of([0, 1, 2]), 0.0)["loss"].item() == pytest.approx(1.386, abs=0.05)  # ln 4: even at first
    torch.nn.init.normal_(method.head.weight)
    batch = batch_of([2, -1, 0], num_clips=2)
    logits = method.head(method.encoder(batch.video.flatten(0, 1).float() / 255))
    # Clips 0 and 1 are of sample 0, clips 4 and 5 of sample 2.
    expected = F.cross_entropy(logits[[0, 1, 4, 5]], torch.tensor([2, 2, 0, 0]))
    losses = method(batch, 0.0)
    assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    right = (logits[[0, 1, 4, 5]].argmax(1) == torch.tensor([2, 2, 0, 0])).float().mean()
    assert losses["accuracy"] == right
    assert method(batch_of([-1, -1]), 0.0)["loss"].item() == 0


def test_probabilities_of_clips_are_averaged():
    method = Classifier(small_encoder(), num_classes=4, clips=still, lr_backbone=1.0, lr_head=1.0)
    torch.nn.init.normal_(method.head.weight, std=10)
    video = torch.cat([TEST[0][:20], TEST[0][20:40]], dim=1)  # (20, 2, 3, 32, 32)
    dataset = ArrayDataset(video, clips=two_clips, label=TEST[1][:20])
    probabilities, label = classify(method, Loader(dataset, batch_size=8))
    assert method.training  # as it was
    features = [pooled_features(method.encoder, video[:, number, None]) for number in range(2)]
    expected = sum((method.head(one)).softmax(1) for one in features) / 2
    assert (probabilities - expected).abs().max() < 1e-4 and torch.equal(label, TEST[1][:20])
    single = method.head(features[0]).softmax(1)
    assert (probabilities - single).abs().max() > 0.1


@pytest.mark.parametrize(
    ("train_label", "test_label", "message"),
    [
        ([0, 1, 4], [0, 1, 2], "training sample 2 has label 4, expected -1 to 3"),
        ([0, 1, 2], [0, -1, 2], "test sample 1 has label -1, expected 0 to 3"),
        ([-1, -1, -1], [0, 1, 2], "none of the 3 training samples has a label"),
        ([2, -1, 2], [0, 1, 2], "all 2 training samples are of class 2: there is nothing to tell apart"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, train_label, test_label, message):
    train, test = (ArrayDataset(TRAIN[0][:3], label=torch.tensor(label)) for label in (train_label, test_label))
    with pytest.raises(ValueError, match=message):
        finetune(small_encoder(), train, test, out=tmp_path, **OPTIONS)
    assert not list(tmp_path.iterdir())
