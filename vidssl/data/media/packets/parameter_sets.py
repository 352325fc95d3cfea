"""What the parameter sets of H.264 and HEVC streams say: how pictures count, what is cut off, what is put in order.

Read from the records of mp4 and Matroska, avcC and hvcC (ISO/IEC 14496-15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class H264Rules(NamedTuple):
    """How the header of an H.264 slice counts: bits of both counters, 0 where unknown, and what lies between."""

    frame_num_bits: int = 0
    allows_gaps: bool = True
    order_bits: int = 0
    is_progressive: bool = True


class HevcRules(NamedTuple):
    """How the header of an HEVC slice segment counts: bits of the order, 0 where unknown, and what lies before them."""

    order_bits: int = 0
    num_extra_bits: int = 0
    has_planes: bool = False


def h264_rules(extradata: bytes) -> H264Rules:
    """Read the sequence parameter set of an avcC record as far as headers of slices need it."""
    try:
        bits = _parameter_set(extradata)
        frame_num_bits, allows_gaps, order_bits = _frame_num_rules(bits)
        bits.unsigned(), bits.unsigned()  # width and height
        return H264Rules(frame_num_bits, allows_gaps, order_bits, bool(bits.take(1)))
    except (IndexError, ValueError):
        return H264Rules()


def hevc_rules(extradata: bytes) -> HevcRules:
    """Read the parameter sets of an hvcC record as far as headers of slice segments need them.

    Unknown where pictures follow different ones, and where some may not be shown (pic_output_flag).
    """
    try:
        sequences = {_hevc_order(bits) for bits in _hevc_parameter_sets(extradata, 33)}
        headers = {_hevc_header(bits) for bits in _hevc_parameter_sets(extradata, 34)}
        ((order_bits, has_planes),), ((may_hide, num_extra_bits),) = sequences, headers
    except (IndexError, ValueError):
        return HevcRules()
    return HevcRules() if may_hide else HevcRules(order_bits, num_extra_bits, has_planes)


def states_reordering(codec: str, extradata: bytes | None) -> bool:
    """Tell whether an H.264 stream says how many pictures it puts in another order (bitstream_restriction_flag, E.1.1).

    Where it does, a decoder needs not look at pictures to find out.
    """
    if codec != "h264" or not extradata or extradata[0] != 1:
        return False
    try:
        bits = _parameter_set(extradata)
        _h264_corner(bits)
        return bool(bits.take(1)) and _restricts_bitstream(bits)
    except (IndexError, ValueError):
        return False


def cuts_corner(codec: str, extradata: bytes | None) -> bool:
    """Tell whether columns at the left or rows at the top of H.264 or HEVC pictures are cut off, or it is not known.

    Decoders tend to ignore it: what is left would begin where memory is not aligned.
    """
    if codec not in {"h264", "hevc"} or not extradata or extradata[0] != 1:
        return False
    try:
        if codec == "h264":
            return _h264_corner(_parameter_set(extradata)) != (0, 0)
        return any(_hevc_corner(bits) != (0, 0) for bits in _hevc_parameter_sets(extradata, 33))
    except (IndexError, ValueError):
        return True


class Bits:
    """Reads bits from the most significant on."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, num_bits: int) -> int:
        """The next bits, as an unsigned number."""
        self._left -= num_bits
        if self._left < 0:
            raise ValueError("unit ends too early")
        taken = self._rest >> self._left
        self._rest -= taken << self._left
        return taken

    def unsigned(self) -> int:
        """Exp-Golomb ue(v), section 9.1: as many zeros as there are bits after the first 1."""
        return self.take(2 * (self._left - self._rest.bit_length()) + 1) - 1

    def signed(self) -> int:
        """Exp-Golomb se(v), section 9.1.1."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def without_escapes(unit: bytes) -> bytes:
    """Drop the emulation prevention bytes of a unit (7.4.1)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")


def _parameter_set(extradata: bytes) -> Bits:
    """Bits of the first sequence parameter set of an avcC record, after its header."""
    return Bits(without_escapes(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])[1:])


def _frame_num_rules(bits: Bits) -> tuple[int, bool, int]:
    """Return (bits of frame_num, whether it may have gaps, bits of pic_order_cnt_lsb, 0 without) from an H.264
    sequence parameter set (7.3.2.1.1).
    """
    profile = bits.take(8)
    bits.take(16)  # constraint flags and level
    bits.unsigned()  # seq_parameter_set_id
    if profile in {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}:
        chroma = bits.unsigned()
        if chroma == 3 and bits.take(1):
            raise ValueError("separate colour planes put other fields before frame_num")
        bits.unsigned(), bits.unsigned(), bits.take(1)  # bit depths, transform bypass
        if bits.take(1):
            for number in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_num_bits = bits.unsigned() + 4
    order_type, order_bits = bits.unsigned(), 0
    if order_type == 0:
        order_bits = bits.unsigned() + 4
    elif order_type == 1:
        bits.take(1), bits.signed(), bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    bits.unsigned()  # max_num_ref_frames
    return frame_num_bits, bool(bits.take(1)), order_bits


def _h264_corner(bits: Bits) -> tuple[int, int]:
    """Read an H.264 sequence parameter set to the end of its cropping; return what it cuts off at the left and top."""
    _frame_num_rules(bits)
    bits.unsigned(), bits.unsigned()  # width and height
    if not bits.take(1):  # frame_mbs_only_flag
        bits.take(1)
    bits.take(1)  # direct_8x8_inference_flag
    if not bits.take(1):
        return 0, 0
    left, _, top, _ = (bits.unsigned() for _ in range(4))
    return left, top


def _hevc_parameter_sets(extradata: bytes, wanted: int) -> Iterator[Bits]:
    """Yield the bits of each parameter set of a type (33 sequence, 34 picture) of an hvcC record, after its header."""
    place = 23
    for _ in range(extradata[22]):
        kind, num_units = extradata[place] & 63, int.from_bytes(extradata[place + 1 : place + 3], "big")
        place += 3
        for _ in range(num_units):
            size = int.from_bytes(extradata[place : place + 2], "big")
            is_base = not (
                extradata[place + 2] & 1 or extradata[place + 3] >> 3
            )  # others are a second eye, or alpha
            if kind == wanted and is_base:
                yield Bits(without_escapes(extradata[place + 2 : place + 2 + size])[2:])
            place += 2 + size


def _hevc_corner(bits: Bits) -> tuple[int, int]:
    """Read an HEVC sequence parameter set up to its conformance window; return what it cuts off at the left and top."""
    return _hevc_start(bits)[1]


def _hevc_order(bits: Bits) -> tuple[int, bool]:
    """Return (bits of slice_pic_order_cnt_lsb, whether planes are coded apart) of an HEVC sequence parameter set."""
    has_planes, _ = _hevc_start(bits)
    bits.unsigned(), bits.unsigned()  # bit depths
    return bits.unsigned() + 4, has_planes


def _hevc_header(bits: Bits) -> tuple[bool, int]:
    """Return (output_flag_present_flag, num_extra_slice_header_bits) of an HEVC picture parameter set (7.3.2.3.1)."""
    bits.unsigned(), bits.unsigned(), bits.take(1)  # numbers of both sets; dependent_slice_segments_enabled_flag
    return bool(bits.take(1)), bits.take(3)


def _hevc_start(bits: Bits) -> tuple[bool, tuple[int, int]]:
    """Return (separate_colour_plane_flag, what is cut off at the left and top) of an HEVC set (7.3.2.2.1)."""
    bits.take(4)  # sps_video_parameter_set_id
    num_lower_layers = bits.take(3)
    bits.take(1)
    bits.take(96)  # general profile, tier and level (7.3.3)
    present = [(bits.take(1), bits.take(1)) for _ in range(num_lower_layers)]
    if num_lower_layers:
        bits.take(2 * (8 - num_lower_layers))
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.unsigned()  # sps_seq_parameter_set_id
    has_planes = bits.unsigned() == 3 and bool(bits.take(1))  # chroma_format_idc
    bits.unsigned(), bits.unsigned()  # width and height
    if not bits.take(1):
        return has_planes, (0, 0)
    left, _, top, _ = (bits.unsigned() for _ in range(4))
    return has_planes, (left, top)


def _restricts_bitstream(bits: Bits) -> bool:
    """Read H.264 usability information (E.1.1) up to bitstream_restriction_flag."""
    if bits.take(1) and bits.take(8) == 255:  # aspect ratio, spelled out
        bits.take(32)
    if bits.take(1):  # overscan
        bits.take(1)
    if bits.take(1):  # video signal type
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):  # place of chroma samples
        bits.unsigned(), bits.unsigned()
    if bits.take(1):  # timing
        bits.take(65)
    has_buffering = False
    for _ in ("nal", "vcl"):
        if bits.take(1):
            has_buffering = True
            num_buffers = bits.unsigned() + 1
            bits.take(8)
            for _ in range(num_buffers):
                bits.unsigned(), bits.unsigned(), bits.take(1)
            bits.take(20)
    if has_buffering:
        bits.take(1)
    bits.take(1)  # pic_struct_present_flag
    return bool(bits.take(1))


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
