"""Figures from the literature, and which of our results they may stand beside.

Published figures move by several points with the protocol, so each is tied to one, to a list of sequences, and to a
way of counting. Where any of these is another one in our result, the figure is shown apart, with the reason. A protocol
that differs from one of ours in little is named with what differs, and its figures stand beside that one's, with this.

"read" figures were read in the place that is named: the paper's or the code's own tables, or another paper's table of
them ("in the table of ..."). "memory" figures were not looked up; they are shown as unverified.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..evaluate.propagation import jhmdb, vip
from ..evaluate.propagation.protocols import PROTOCOLS


@dataclass(frozen=True)
class DataSet:
    """Data that figures were published for.

    Args:
        text: For people.
        num_sequences: In it.
        settings: What result.json says of it.
    """

    text: str
    num_sequences: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """What a paper or a repository reports of one encoder on one task.

    Args:
        method: How it was trained.
        backbone: Network and patch size; "-" if there is none, or one of its own.
        figures: Our column -> value in [0, 1].
        protocol: Name of ours that it was measured by; None if no label is carried (identity). Any other text describes
            a protocol that we do not have.
        source: Whether the figures were read or remembered.
        where: They were read.
        apart: Why it never stands beside results of frozen features under the same protocol; "" if it may.
        settings: What result.json must say besides.
        close_to: Name of a protocol of ours that `protocol` is much like -> in what they differ.
    """

    method: str
    backbone: str
    figures: Mapping[str, float]
    protocol: str | None
    source: Literal["read", "memory"] = "read"
    where: str = ""
    apart: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    close_to: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Method and network."""
        return f"{self.method}, {self.backbone}" if self.backbone != "-" else self.method


DATA = {
    "davis": DataSet("DAVIS-2017 val", 30, {"year": 2017, "subset": "val", "resolution": "480p"}),
    "jhmdb": DataSet("the test videos of JHMDB's split 1", 268, {"split": 1}),
    "vip": DataSet("VIP val", 50, {"subset": "val", "num_classes": 20}),
    "otb": DataSet("OTB-100", 100, {}),
}

_SUPERVISED = "it was trained on masks, its features are not frozen"
_CORRFLOW, _DINO, _CROPMAE = "CorrFlow, figures/result.png", "DINO, table 5", "in the table of CropMAE"
_TCORE = "its README (yafeng19/T-CORE@67c8bf9)"
# CropMAE's code (5d0dab2), which T-CoRe has as well, against that of RVM, which `siammae` is.
_OPENCV = "frames resized by OpenCV's bilinear filter"
_CROPMAE_DAVIS = {"siammae": f"{_OPENCV}, J and F at 480x880"}
_CROPMAE_VIP = {"siammae": f"{_OPENCV}, to 880 pixels and the other side to a multiple of 64"}
_CROPMAE_JHMDB = {"siammae": _OPENCV}
_SIAMMAE = {"siammae": "by SiamMAE's own code, which is not known to us"}


def _jf(both: float, j: float | None = None, f: float | None = None) -> dict[str, float]:
    values = {"J&F-Mean": both, "J-Mean": j, "F-Mean": f}
    return {name: round(value / 100, 4) for name, value in values.items() if value is not None}


def _pck(tenth: float, fifth: float | None = None) -> dict[str, float]:
    values = {"PCK@0.1": tenth, "PCK@0.2": fifth}
    return {name: round(value / 100, 4) for name, value in values.items() if value is not None}


def _miou(value: float) -> dict[str, float]:
    return {"mIoU": round(value / 100, 4)}


PUBLISHED: dict[str, tuple[Figure, ...]] = {
    "davis": (
        Figure("identity", "-", _jf(22.9, 22.1, 23.6), None, where=_CORRFLOW),
        Figure("FlowNet2", "-", _jf(26.0, 26.7, 25.2), "CorrFlow's", where=_CORRFLOW),
        Figure("SIFT flow", "-", _jf(34.0, 33.0, 35.0), "CorrFlow's", where=_CORRFLOW),
        Figure("Transitive Invariance", "-", _jf(29.4, 32.0, 26.8), "CorrFlow's", where=_CORRFLOW),
        Figure("DeepCluster", "-", _jf(35.4, 37.5, 33.2), "CorrFlow's", where=_CORRFLOW),
        Figure(
            "Video Colorization", "ResNet-18", _jf(34.0, 34.6, 32.7), "its own", where="tables of CorrFlow, MAST"
        ),
        Figure("TimeCycle, 320 px", "ResNet-50", _jf(40.7, 41.9, 39.4), "TimeCycle's", where="its README"),
        Figure("TimeCycle, 400 px", "ResNet-50", _jf(42.8, 43.0, 42.6), "TimeCycle's", where="its README"),
        Figure("TimeCycle, 480 px", "ResNet-50", _jf(48.2, 46.4, 50.0), "TimeCycle's", where="its README"),
        Figure("CorrFlow, Kinetics", "ResNet-18", _jf(49.5, 47.7, 51.3), "CorrFlow's", where=_CORRFLOW),
        Figure("CorrFlow, OxUvA", "ResNet-18", _jf(50.3, 48.4, 52.2), "CorrFlow's", where=_CORRFLOW),
        Figure(
            "ImageNet labels", "ResNet-50", _jf(49.7, 50.3, 49.0), "an old one", where="tables of CorrFlow, MAST"
        ),
        Figure("UVC", "ResNet-18", _jf(57.8, 56.3, 59.2), "UVC's", where="its README"),
        Figure("UVC, with tracking", "ResNet-18", _jf(59.5, 57.7, 61.3), "UVC's", where="its README"),
        Figure("MAST, OxUvA", "ResNet-18", _jf(63.7, 61.2, 66.3), "MAST's", where="its table 1"),
        Figure("MAST, YouTube-VOS", "ResNet-18", _jf(65.5, 63.3, 67.6), "MAST's", where="its table 1"),
        Figure("CRW", "ResNet-18", _jf(67.6, 64.8, 70.2), "crw", where=_DINO),
        Figure("CRW, released weights", "ResNet-18", _jf(67.606, 64.59, 70.62), "crw", where="its README"),
        Figure(
            "CRW, adapted to each video",
            "ResNet-18",
            _jf(68.3, 65.5, 71.0),
            "crw",
            "memory",
            apart="its weights are trained further on every test video",
        ),
        Figure("MoCo", "ResNet-50", _jf(60.8, 58.6, 63.1), "crw", "memory"),
        Figure("VINCE", "ResNet-50", _jf(60.4, 57.9, 62.8), "crw", "memory"),
        Figure("ImageNet labels", "ResNet-50", _jf(62.9, 60.6, 65.2), "crw", "memory"),
        Figure("VFS", "ResNet-18", _jf(66.7, 64.0, 69.5), "vfs", where="its README"),
        Figure(
            "VFS", "ResNet-50", _jf(69.5, 67.0, 72.0), "vfs", where="its README (the paper: 68.9, from memory)"
        ),
        Figure("SimSiam", "ResNet-50", _jf(66.3), "vfs", "memory"),
        Figure("MoCo", "ResNet-50", _jf(65.4), "vfs", "memory"),
        Figure("ImageNet labels", "ViT-S/8", _jf(66.0, 63.9, 68.1), "dino", where=_DINO),
        Figure("DINO", "ViT-S/16", _jf(61.8, 60.2, 63.4), "dino", where=_DINO),
        Figure("DINO", "ViT-B/16", _jf(62.3, 60.7, 63.9), "dino", where=_DINO),
        Figure("DINO", "ViT-S/8", _jf(69.9, 66.6, 73.1), "dino", where=_DINO),
        Figure("DINO", "ViT-B/8", _jf(71.4, 67.9, 74.9), "dino", where=_DINO),
        Figure("DINOv3", "ViT-S/16", _jf(72.7), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv3", "ViT-S+/16", _jf(75.5), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv3", "ViT-B/16", _jf(77.2), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv3", "ViT-L/16", _jf(79.9), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv3", "ViT-H+/16", _jf(79.3), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv3", "ViT-7B/16", _jf(79.7), "dinov3", where="its MODEL_CARD.md"),
        Figure("DINOv2, small frames", "ViT-g/14", _jf(63.9), "DINOv3's, other frame sizes", "memory"),
        Figure("DINOv2, medium frames", "ViT-g/14", _jf(73.6), "DINOv3's, other frame sizes", "memory"),
        Figure("DINOv2, large frames", "ViT-g/14", _jf(76.6), "DINOv3's, other frame sizes", "memory"),
        Figure("DINOv2", "ViT-B/14", _jf(63.1), "like CRW's", where="in the table of Co-Settle"),
        Figure("SiamMAE", "ViT-S/16", _jf(62.0), "SiamMAE's", where=_CROPMAE, close_to=_SIAMMAE),
        Figure(
            "SiamMAE, repeated for 400 epochs",
            "ViT-S/16",
            _jf(57.9),
            "CropMAE's",
            where=_CROPMAE,
            close_to=_CROPMAE_DAVIS,
        ),
        Figure("SiamMAE", "ViT-S/8", _jf(71.4, 68.4, 74.5), "SiamMAE's", "memory", close_to=_SIAMMAE),
        Figure(
            "CropMAE, ImageNet",
            "ViT-S/16",
            _jf(60.4),
            "CropMAE's",
            where="its README (60.1 since)",
            close_to=_CROPMAE_DAVIS,
        ),
        Figure(
            "CropMAE, Kinetics-400",
            "ViT-S/16",
            _jf(58.6),
            "CropMAE's",
            where="its README",
            close_to=_CROPMAE_DAVIS,
        ),
        Figure("T-CoRe, ImageNet", "ViT-S/16", _jf(64.1), "CropMAE's", where=_TCORE, close_to=_CROPMAE_DAVIS),
        Figure("T-CoRe, Kinetics-400", "ViT-S/16", _jf(64.7), "CropMAE's", where=_TCORE, close_to=_CROPMAE_DAVIS),
        Figure("T-CoRe, Kinetics-400", "ViT-B/16", _jf(66.4), "CropMAE's", where=_TCORE, close_to=_CROPMAE_DAVIS),
        Figure("MAE", "ViT-B/16", _jf(53.5), "CropMAE's", where=_CROPMAE, close_to=_CROPMAE_DAVIS),
        Figure("MAE", "ViT-B/16", _jf(52.4), "like CRW's", where="in the table of Co-Settle"),
        Figure("VideoMAE", "ViT-S/16", _jf(39.3), "not known", where="in another paper's table"),
        Figure("CLIP", "ViT-B/16", _jf(54.9), "not known", where="in another paper's table"),
        Figure("STM", "-", _jf(81.8, 79.2, 84.3), "its own", where="in another paper's table", apart=_SUPERVISED),
        Figure(
            "OSVOS", "-", _jf(60.3, 56.6, 63.9), "its own", where="in another paper's table", apart=_SUPERVISED
        ),
        Figure(
            "PReMVOS", "-", _jf(77.8, 73.9, 81.8), "its own", where="in another paper's table", apart=_SUPERVISED
        ),
    ),
    "jhmdb": (
        Figure("identity", "-", _pck(43.1, 64.5), None, "memory", settings={"pck": "uvc"}),
        Figure("Video Colorization", "ResNet-18", _pck(45.2, 69.6), "its own", "memory"),
        Figure("TimeCycle", "ResNet-50", _pck(57.3, 78.1), "TimeCycle's", "memory"),
        Figure("CorrFlow", "ResNet-18", _pck(58.5, 78.8), "CorrFlow's", "memory"),
        Figure("UVC", "ResNet-18", _pck(58.6, 79.6), "UVC's", "memory"),
        Figure("CRW", "ResNet-18", _pck(59.3, 84.9), "crw", where="videowalk, issue 10"),
        Figure("CRW, released weights", "ResNet-18", _pck(57.62, 79.59), "crw", where="videowalk, issue 10"),
        Figure("VFS", "ResNet-18", _pck(60.5, 79.5), "vfs", "memory"),
        Figure("VFS", "ResNet-50", _pck(60.9, 80.7), "vfs", "memory"),
        Figure("DINO", "ViT-S/16", _pck(45.6, 75.0), "not known", "memory"),
        Figure("SiamMAE", "ViT-S/16", _pck(47.0), "SiamMAE's", where=_CROPMAE, close_to=_SIAMMAE),
        Figure("SiamMAE, repeated", "ViT-S/16", _pck(46.1), "cropmae", where=_CROPMAE, close_to=_CROPMAE_JHMDB),
        Figure("SiamMAE", "ViT-S/8", _pck(61.9, 83.8), "SiamMAE's", "memory", close_to=_SIAMMAE),
        Figure(
            "CropMAE, ImageNet", "ViT-S/16", _pck(43.5), "cropmae", where="its README", close_to=_CROPMAE_JHMDB
        ),
        Figure(
            "CropMAE, Kinetics-400", "ViT-S/16", _pck(42.9), "cropmae", where="its README", close_to=_CROPMAE_JHMDB
        ),
        Figure("T-CoRe, ImageNet", "ViT-S/16", _pck(46.2), "cropmae", where=_TCORE, close_to=_CROPMAE_JHMDB),
        Figure("T-CoRe, Kinetics-400", "ViT-S/16", _pck(47.0), "cropmae", where=_TCORE, close_to=_CROPMAE_JHMDB),
        Figure("T-CoRe, Kinetics-400", "ViT-B/16", _pck(47.1), "cropmae", where=_TCORE, close_to=_CROPMAE_JHMDB),
        Figure("MAE", "ViT-B/16", _pck(44.6), "not known", where="in another paper's table"),
        Figure("VideoMAE", "ViT-S/16", _pck(41.0), "not known", where="in another paper's table"),
        Figure("DINOv2", "ViT-B/14", _pck(46.6), "not known", where="in another paper's table"),
        Figure("CLIP", "ViT-B/16", _pck(36.9), "not known", where="in another paper's table"),
        Figure("ImageNet labels", "ResNet-50", _pck(58.4, 78.4), "not known", "memory"),
        Figure(
            "Thin-slicing",
            "-",
            _pck(68.7, 92.1),
            "its own",
            "memory",
            apart=_SUPERVISED.replace("masks", "joints"),
        ),
    ),
    "vip": (
        Figure("TimeCycle", "ResNet-50", _miou(28.9), "TimeCycle's", "memory"),
        Figure("UVC", "ResNet-18", _miou(34.1), "UVC's", "memory"),
        Figure("CRW", "ResNet-18", _miou(38.6), "crw", where="videowalk, issue 10"),
        Figure("CRW, released weights", "ResNet-18", _miou(37.12), "crw", where="videowalk, issue 10"),
        Figure("VFS", "ResNet-18", _miou(39.9), "vfs", "memory"),
        Figure("VFS", "ResNet-50", _miou(43.2), "vfs", "memory"),
        Figure("DINO", "ViT-S/16", _miou(36.2), "not known", "memory"),
        Figure("SiamMAE", "ViT-S/16", _miou(37.3), "SiamMAE's", where=_CROPMAE, close_to=_SIAMMAE),
        Figure("SiamMAE, repeated", "ViT-S/16", _miou(33.2), "CropMAE's", where=_CROPMAE, close_to=_CROPMAE_VIP),
        Figure("SiamMAE", "ViT-S/8", _miou(45.9), "SiamMAE's", "memory", close_to=_SIAMMAE),
        Figure(
            "CropMAE, ImageNet", "ViT-S/16", _miou(33.2), "CropMAE's", where="its README", close_to=_CROPMAE_VIP
        ),
        Figure(
            "CropMAE, Kinetics-400",
            "ViT-S/16",
            _miou(33.7),
            "CropMAE's",
            where="its README",
            close_to=_CROPMAE_VIP,
        ),
        Figure("T-CoRe, ImageNet", "ViT-S/16", _miou(39.7), "CropMAE's", where=_TCORE, close_to=_CROPMAE_VIP),
        Figure("T-CoRe, Kinetics-400", "ViT-S/16", _miou(37.8), "CropMAE's", where=_TCORE, close_to=_CROPMAE_VIP),
        Figure("T-CoRe, Kinetics-400", "ViT-B/16", _miou(38.9), "CropMAE's", where=_TCORE, close_to=_CROPMAE_VIP),
        Figure("MAE", "ViT-B/16", _miou(28.1), "not known", where="in another paper's table"),
        Figure("VideoMAE", "ViT-S/16", _miou(23.3), "not known", where="in another paper's table"),
        Figure("DINOv2", "ViT-B/14", _miou(38.4), "not known", where="in another paper's table"),
        Figure("CLIP", "ViT-B/16", _miou(38.1), "not known", where="in another paper's table"),
    ),
    "otb": tuple(
        Figure(
            "VFS",
            backbone,
            {"success_score": success, "precision_score": precision},
            "SiamFC",
            where="its README",
            apart="a layer on top of the features was trained to track",
        )
        for backbone, precision, success in (("ResNet-18", 0.700, 0.523), ("ResNet-50", 0.739, 0.525))
    ),
}


@dataclass(frozen=True)
class Setup:
    """How a result came about, as far as it decides what it may be compared with.

    Args:
        task: As in result.json.
        protocol: All knobs; None for the identity.
        settings: Knobs of the task.
        num_sequences: That were measured; None where nothing is measured by sequences.
    """

    task: str
    protocol: Mapping[str, Any] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    num_sequences: int | None = None


def why_not(figure: Figure, setup: Setup) -> str:
    """Say why a published figure does not stand beside a result of this setup; "" if it does."""
    if figure.apart:
        return figure.apart
    data = DATA[setup.task]
    if setup.num_sequences != data.num_sequences:
        return f"it is of {data.text}, {data.num_sequences} sequences; here are {setup.num_sequences}"
    wanted = {**data.settings, **figure.settings}
    others = {name: setup.settings.get(name) for name in wanted if setup.settings.get(name) != wanted[name]}
    if others:
        return f"it is of {data.text}; here {_listed(others)}"
    if figure.protocol is None or setup.protocol is None:
        return "" if figure.protocol is None and setup.protocol is None else "the identity has no protocol"
    name = setup.protocol["name"]
    if name != figure.protocol and name not in figure.close_to:
        return f"its protocol is {figure.protocol}; here it is {name}"
    changed = changed_knobs(setup)
    return f"here the protocol {name} has other knobs: {_listed(changed)}" if changed else ""


def changed_knobs(setup: Setup) -> dict[str, Any]:
    """Knobs of a protocol that differ from those published under its name, with their values here."""
    if setup.protocol is None:
        return {}
    name = setup.protocol["name"]
    knobs: dict[str, Any] = {}
    if setup.task == "jhmdb" and name in jhmdb.PROTOCOLS:
        protocol, maps, variant = jhmdb.PROTOCOLS[name]
        knobs = {**dataclasses.asdict(protocol), "joint_maps": dataclasses.asdict(maps), "pck": variant}
    elif setup.task == "vip" and name in vip.PROTOCOLS:
        knobs = dataclasses.asdict(vip.PROTOCOLS[name])
    elif setup.task not in ("jhmdb", "vip"):
        knobs = next((dataclasses.asdict(one) for one in PROTOCOLS if one.name == name), {})
    knobs = json.loads(json.dumps(knobs))  # tuples become lists, as in result.json
    here = {**setup.settings, **setup.protocol}
    return {knob: here.get(knob) for knob, value in knobs.items() if here.get(knob) != value}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
