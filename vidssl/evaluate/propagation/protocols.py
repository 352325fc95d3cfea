"""Protocols of label propagation as data, each after the code that its authors released.

`dataclasses.replace` makes variants; a result must say which knobs it used, `dataclasses.asdict` lists them.
"""

from dataclasses import dataclass
from typing import Any, Literal

Window = Literal["square", "disc"]


@dataclass(frozen=True)
class Protocol:
    """Every knob of a propagation protocol. Cells are feature cells.

    Args:
        name: As on the command line.
        version: Counts changes of ours that move figures.
        frame_size: Height and width in pixels that frames are resized to, whatever their aspect ratio; None goes by
            `short_side`.
        short_side: Pixels the shorter side of a frame is resized to; None keeps the native size.
        long_side_multiple: The longer side follows the aspect ratio, then goes to a multiple of this.
        side_rounding: How sides are rounded, to `long_side_multiple` and to what the encoder needs (the patch).
        frame_resize: "opencv_bilinear" on uint8 without antialias, as cv2.resize; or "pil_bicubic" or "pil_lanczos",
            which have antialias.
        color_mean: Replaces the encoder's mean; see `color_statistics`. None keeps it.
        color_std: Replaces the encoder's standard deviation; see `color_statistics`. None keeps it.
        resnet_layer: Last layer of a ResNet.
        resnet_stride: Pixels per cell of a ResNet.
        resnet_padding: Padding mode of a ResNet's convolutions.
        vit_pos_embed: How a ViT's position embeddings are resized.
        num_recent_frames: Context frames besides the first.
        first_frame_repeats: How often the first frame stands in the context besides its own place: "never";
            "while_recent" (a second time while it is one of the recent frames); "padding" (copies of it fill the
            recent frames that do not exist yet).
        first_frame_windowed: Whether the window applies to the first frame's own place in the context. The
            repeats are always windowed.
        window: Shape of the neighbourhood that a cell may copy from.
        radius_cells: Its half-width or radius; None is no window.
        radius_inclusive: Whether a cell exactly at the radius belongs to the window.
        topk: Cells copied from, jointly over the context.
        keep_ties: Whether cells as good as the last of the top-k join in.
        temperature: Weights are softmax(cosine similarity / temperature) over the chosen cells.
        first_label_resize: First mask to feature cells. "nearest" is Pillow's, on the index mask;
            "nearest_through_frame" goes to the frame's size first; "nearest_exact" is PyTorch's; "bilinear" works
            on the one-hot masks without antialias, so borders are soft; "bilinear_through_frame" brings the index
            mask to the frame's size first, by OpenCV's nearest neighbour.
        upsample: Of the soft labels before the argmax.
        upsample_to: "native" size; or the resized "frame", whose argmax is then brought to native size by Pillow's
            nearest neighbour.
        class_min_max: Stretch each channel to [0, 1] over the pixels of a frame before the argmax. A channel that
            is constant: stays, or becomes zero. "off" leaves the soft labels.
        first_output: What is put out for the first frame: the mask "given", its label map "upsampled", or its label
            map "predicted" from the first frame as from a context, then upsampled. A prediction is the oldest of the
            recent frames from then on; the first frame's own place keeps the given labels.
    """

    name: str
    version: int
    frame_size: tuple[int, int] | None
    short_side: int | None
    long_side_multiple: int
    side_rounding: Literal["floor", "nearest", "ceil"]
    frame_resize: Literal["opencv_bilinear", "pil_bicubic", "pil_lanczos"]
    color_mean: tuple[float, ...] | None
    color_std: tuple[float, ...] | None
    resnet_layer: Literal["layer1", "layer2", "layer3", "layer4"]
    resnet_stride: int
    resnet_padding: Literal["zeros", "reflect"]
    vit_pos_embed: Literal["timm", "dino"]
    num_recent_frames: int
    first_frame_repeats: Literal["never", "while_recent", "padding"]
    first_frame_windowed: bool
    window: Window
    radius_cells: float | None
    radius_inclusive: bool
    topk: int
    keep_ties: bool
    temperature: float
    first_label_resize: Literal[
        "nearest", "nearest_through_frame", "nearest_exact", "bilinear", "bilinear_through_frame"
    ]
    upsample: Literal["bilinear", "nearest"]
    upsample_to: Literal["native", "frame"]
    class_min_max: Literal["off", "constant_stays", "constant_to_zero"]
    first_output: Literal["given", "upsampled", "predicted"]

    def encoder_options(self, family: str) -> dict[str, Any]:
        """Give the options of `load_encoder` that the protocol fixes for a family of `encoder_family(spec)`.

        An exported encoder keeps the options it was trained with; other convolutional networks have none.
        """
        if family == "resnet":
            return {"layer": self.resnet_layer, "stride": self.resnet_stride, "padding_mode": self.resnet_padding}
        if family in ("vit", "torchvision_vit"):
            return {"pos_embed": self.vit_pos_embed}
        return {}


DINO = Protocol(  # facebookresearch/dino, eval_video_segmentation.py
    name="dino",
    version=1,
    frame_size=None,
    short_side=480,
    long_side_multiple=64,  # 854 x 480 becomes 832 x 480: the aspect ratio is broken
    side_rounding="floor",
    frame_resize="opencv_bilinear",
    color_mean=(0.485, 0.456, 0.406),
    color_std=(0.228, 0.224, 0.225),  # 0.228, not ImageNet's 0.229
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="dino",
    num_recent_frames=7,
    first_frame_repeats="never",
    first_frame_windowed=True,
    window="square",
    radius_cells=12,
    radius_inclusive=True,
    topk=5,
    keep_ties=True,
    temperature=0.1,
    first_label_resize="nearest",
    upsample="bilinear",
    upsample_to="frame",
    class_min_max="constant_stays",
    first_output="given",
)

CRW = (
    Protocol(  # ajabri/videowalk, code/test.py, code/utils/test_utils.py, code/data/vos.py; options of its README
        name="crw",
        version=1,
        frame_size=None,
        short_side=None,
        long_side_multiple=1,
        side_rounding="nearest",
        frame_resize="opencv_bilinear",
        color_mean=None,
        color_std=None,
        resnet_layer="layer3",
        resnet_stride=8,
        resnet_padding="reflect",
        vit_pos_embed="timm",
        num_recent_frames=20,
        first_frame_repeats="padding",
        first_frame_windowed=False,
        window="disc",
        radius_cells=12,
        radius_inclusive=False,
        topk=10,
        keep_ties=False,
        temperature=0.05,
        first_label_resize="bilinear",
        upsample="bilinear",
        upsample_to="native",
        class_min_max="off",
        first_output="upsampled",
    )
)

VFS = Protocol(  # xvjiarui/VFS, mmaction/models/trackers/vanilla_tracker.py, configs/r18_sgd_cos_*_k400.py
    name="vfs",
    version=1,
    frame_size=None,
    short_side=480,
    long_side_multiple=1,
    side_rounding="nearest",
    frame_resize="opencv_bilinear",
    color_mean=None,
    color_std=None,
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="timm",
    num_recent_frames=20,
    first_frame_repeats="while_recent",
    first_frame_windowed=True,
    window="disc",
    radius_cells=12,
    radius_inclusive=False,
    topk=10,
    keep_ties=False,
    temperature=0.07,
    first_label_resize="nearest_through_frame",
    upsample="bilinear",
    upsample_to="native",
    class_min_max="constant_to_zero",
    first_output="given",
)

DINOV3 = Protocol(  # facebookresearch/dinov3, notebooks/segmentation_tracking.ipynb
    name="dinov3",
    version=1,
    frame_size=None,
    short_side=960,
    long_side_multiple=1,  # both sides go up to multiples of the patch
    side_rounding="ceil",
    frame_resize="pil_bicubic",
    color_mean=None,
    color_std=None,
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="timm",
    num_recent_frames=7,
    first_frame_repeats="never",
    first_frame_windowed=True,
    window="disc",
    radius_cells=12,
    radius_inclusive=True,
    topk=5,
    keep_ties=True,
    temperature=0.2,
    first_label_resize="nearest_exact",
    upsample="nearest",
    upsample_to="native",
    class_min_max="constant_to_zero",
    first_output="given",
)

# google-deepmind/representations4d (75aca30), colabs/rvm_evaluation_demo.ipynb, cells 16 and 23: the protocol of RVM.
# CropMAE (5d0dab2) and T-CoRe (0ffcabe) have the same but for frames resized by OpenCV's bilinear filter, a first frame
# that is not predicted (the same to 6e-8), and J and F of DAVIS at 480 x 880.
#
# Differences from the notebook: where the patch does not divide the frame, frames and labels go to the multiples
# below, so that both cover the same; there labels cover the whole frame, the cells not its last rows and columns. The
# last step takes the pixel at the exact centre, as PyTorch, Pillow and OpenCV 5 do: OpenCV 4 takes the one left of it
# for columns 213 and 640 of 854 from 880.
SIAMMAE = Protocol(
    name="siammae",
    version=1,
    frame_size=(480, 880),
    short_side=None,
    long_side_multiple=1,
    side_rounding="floor",
    frame_resize="pil_lanczos",
    color_mean=None,
    color_std=None,
    resnet_layer="layer3",
    resnet_stride=8,
    resnet_padding="zeros",
    vit_pos_embed="timm",
    num_recent_frames=20,
    first_frame_repeats="padding",
    first_frame_windowed=False,
    window="disc",
    radius_cells=20,
    radius_inclusive=False,
    topk=7,
    keep_ties=False,
    temperature=0.7,
    first_label_resize="bilinear_through_frame",
    upsample="bilinear",
    upsample_to="frame",
    class_min_max="off",
    first_output="predicted",
)

PROTOCOLS = (DINO, CRW, VFS, DINOV3, SIAMMAE)
