"""What the units of a coded picture say: where decoding may start, what nobody refers to, what is missing.

Read from the first bytes of length-prefixed H.264 (ITU-T H.264, section 7.3) and HEVC (ITU-T H.265) packets, as
mp4 and Matroska hold them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from .parameter_sets import Bits, H264Rules, HevcRules, h264_rules, hevc_rules, without_escapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Picture(NamedTuple):
    """One coded picture. (There is one for each packet, and a tuple is made quickly.)

    Args:
        is_entry: Decoding may start here: H.264 IDR slices, or a recovery point SEI message that promises an exact
            picture at once (recovery_frame_cnt 0, exact_match_flag 1; D.2.8); HEVC types 16 to 21 (BLA, IDR, CRA).
        is_disposable: No other picture of its temporal layer refers to it.
        temporal_layer: HEVC TemporalId; pictures of higher layers may refer to disposable ones of this layer.
        frame_num: H.264 counter of reference pictures, None where it is not known.
        max_frame_num: Where that counter starts again, 0 where it may have gaps.
        order: Lowest bits of the order in which pictures are shown (pic_order_cnt_lsb), None if not known.
        max_order: Where that order starts again, 0 where it is not known.
        is_first: Whether it starts anew here (IDR, BLA).
        is_anchor: Whether the order of later pictures is counted from this one's (HEVC 8.3.1; H.264 8.2.1.1).
    """

    is_entry: bool
    is_disposable: bool = False
    temporal_layer: int = 0
    frame_num: int | None = None
    max_frame_num: int = 0
    order: int | None = None
    max_order: int = 0
    is_first: bool = False
    is_anchor: bool = True


def picture_parser(codec: str, extradata: bytes | None) -> Callable[[memoryview], Picture] | None:
    """Return what reads packets of a stream, None if they are not length-prefixed H.264 or HEVC.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: Of the stream: an avcC or hvcC record (ISO/IEC 14496-15), which begins with version 1.
    """
    if not extradata or extradata[0] != 1:
        return None
    if codec == "h264" and len(extradata) >= 7:
        length_size = (extradata[4] & 3) + 1
        rules = h264_rules(extradata)
        return lambda packet: _h264_picture(packet, length_size, rules)
    if codec == "hevc" and len(extradata) >= 23:
        length_size = (extradata[21] & 3) + 1
        order_rules = hevc_rules(extradata)
        return lambda packet: _hevc_picture(list(nal_units(packet, length_size)), order_rules)
    return None


def contradicts_order(pictures: Sequence[Picture], pts: Sequence[int | None]) -> bool:
    """Tell whether time stamps put pictures in another order than the stream itself (H.264 8.2.1.1, HEVC 8.3.1).

    Args:
        pictures: In the order of the file.
        pts: Time stamp of each.
    """
    shown: list[tuple[int, int, int]] = []
    run, high, last = -1, 0, 0
    for picture, stamp in zip(pictures, pts, strict=True):
        if picture.order is None or stamp is None:
            return False
        size = picture.max_order
        if picture.is_first:
            run, high, last = run + 1, 0, 0
        around = high
        if picture.order < last and last - picture.order >= size // 2:
            around += size
        elif picture.order > last and picture.order - last > size // 2:
            around -= size
        shown.append((run, around + picture.order, stamp))
        if picture.is_anchor:
            high, last = around, picture.order
    shown.sort()
    return any(one[2] >= two[2] for one, two in itertools.pairwise(shown))


def nal_units(packet: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield the NAL units of a length-prefixed packet.

    Raises:
        ValueError: The lengths do not fill the packet.
    """
    start, end = 0, len(packet)
    while start + length_size <= end:
        begin = start + length_size
        size = int.from_bytes(packet[start:begin], "big")
        start = begin + size
        if size == 0 or start > end:
            raise ValueError(f"NAL unit of {size} bytes in a packet of {end}")
        yield packet[begin:start]


def num_gaps(pictures: Sequence[Picture]) -> int:
    """Count the H.264 pictures before which reference pictures are missing (frame_num jumps; 7.4.3).

    An entry point starts a new count: what an open group leaves out is no gap.
    """
    gaps = 0
    last: int | None = None
    for picture in pictures:
        if picture.frame_num is None or picture.max_frame_num == 0:
            continue
        expected = picture.frame_num if last is None else (last + 1) % picture.max_frame_num
        is_gap = not picture.is_entry and picture.frame_num not in {last, expected}
        gaps += is_gap
        if not picture.is_disposable:
            last = picture.frame_num
        elif is_gap:  # counted once: the next reference picture has the same number
            last = (picture.frame_num - 1) % picture.max_frame_num
    return gaps


def _refuse_zeros(unit: memoryview) -> None:
    """Raise ValueError if zeros were written over a part of a unit: encoders escape the third in a row (7.4.1).

    The decoder takes such zeros for pictures and reports nothing.
    """
    if b"\x00\x00\x00" in bytes(unit).rstrip(b"\x00"):  # some writers pad units with zeros
        raise ValueError("zeros inside a unit")


def _h264_picture(packet: memoryview, length_size: int, rules: H264Rules) -> Picture:
    """Look through a packet once, in one function: a corpus has hundreds of packets for each clip that is read."""
    is_idr, is_entry, is_disposable = True, False, True
    first_slice: memoryview | None = None
    start, end = 0, len(packet)
    while start + length_size <= end:
        begin = start + length_size
        start = begin + int.from_bytes(packet[start:begin], "big")
        if start == begin or start > end:
            raise ValueError(f"NAL unit of {start - begin} bytes in a packet of {end}")
        header = packet[begin]
        kind = header & 31
        if 1 <= kind <= 5:
            is_idr = is_idr and kind == 5
            is_disposable = is_disposable and not header & 0x60  # nal_ref_idc
            _refuse_zeros(packet[begin:start])
            if first_slice is None:
                first_slice = packet[begin + 1 : min(begin + 16, start)]
        elif kind == 6:
            is_entry = is_entry or _is_exact_recovery_point(packet[begin:start])
    if first_slice is None:
        raise ValueError("no slice")
    if not rules.frame_num_bits:
        return Picture(is_idr or is_entry, is_disposable)
    frame_num, order = _slice_numbers(bytes(first_slice), rules, is_idr=is_idr)
    return Picture(
        is_idr or is_entry,
        is_disposable,
        frame_num=None if rules.allows_gaps else frame_num,
        max_frame_num=0 if rules.allows_gaps else 1 << rules.frame_num_bits,
        order=order,
        max_order=1 << rules.order_bits,
        is_first=is_idr,
        is_anchor=not is_disposable,
    )


def _slice_numbers(header: bytes, rules: H264Rules, *, is_idr: bool) -> tuple[int, int | None]:
    """Read (frame_num, pic_order_cnt_lsb) behind first macroblock, type and parameter set (7.3.3)."""
    header = without_escapes(header)
    rest, left = int.from_bytes(header, "big"), 8 * len(header)
    for _ in range(3):
        left -= 2 * (left - rest.bit_length()) + 1  # as many zeros as there are bits after the first 1
        if left < 0:
            raise ValueError("unit ends too early")
        rest &= (1 << left) - 1
    left -= rules.frame_num_bits
    if left < 0:
        raise ValueError("unit ends too early")
    frame_num = rest >> left
    if not rules.order_bits:
        return frame_num, None
    rest &= (1 << left) - 1
    if not rules.is_progressive:
        left -= 1
        if left > 0 and rest >> left:  # a field: its parity
            left -= 1
        rest &= (1 << max(left, 0)) - 1
    if is_idr and rest:
        left -= 2 * (left - rest.bit_length()) + 1  # idr_pic_id
        rest &= (1 << max(left, 0)) - 1
    left -= rules.order_bits
    return frame_num, rest >> left if left >= 0 else None


def _is_exact_recovery_point(sei: memoryview) -> bool:
    """Tell whether an H.264 SEI unit holds a recovery point (type 6) with count 0 and exact match."""
    position = 1
    while position + 2 < len(sei):
        fields = []
        for _ in ("type", "size"):
            value = 0
            while sei[position] == 0xFF:
                value, position = value + 255, position + 1
            fields.append(value + sei[position])
            position += 1
        if fields[0] == 6:
            return sei[position] & 0xC0 == 0xC0  # ue(v) 0 is the bit 1; then exact_match_flag
        position += fields[1]
    return False


def _hevc_picture(units: list[memoryview], rules: HevcRules) -> Picture:
    coded = [unit for unit in units if (unit[0] >> 1) & 63 < 32]
    if not coded:
        raise ValueError("no slice")
    for unit in units:
        _refuse_zeros(unit)
    slices = [((unit[0] >> 1) & 63, (unit[1] & 7) - 1) for unit in coded]
    kind, layer = slices[0]
    return Picture(
        is_entry=all(16 <= kind <= 21 for kind, _ in slices),
        is_disposable=all(kind < 16 and kind % 2 == 0 for kind, _ in slices),  # table 7-1: ..._N types
        temporal_layer=max(layer for _, layer in slices),
        order=_hevc_order(bytes(coded[0][:32]), kind, rules) if rules.order_bits else None,
        max_order=1 << rules.order_bits,
        is_first=16 <= kind <= 20,
        is_anchor=layer == 0 and not (kind < 16 and kind % 2 == 0) and not 6 <= kind <= 9,  # 6 to 9: leading
    )


def _hevc_order(unit: bytes, kind: int, rules: HevcRules) -> int | None:
    """Read slice_pic_order_cnt_lsb from the first slice segment of a picture (7.3.6.1), None if it is not the first."""
    bits = Bits(without_escapes(unit)[2:])
    if not bits.take(1):
        return None
    if 16 <= kind <= 23:
        bits.take(1)  # no_output_of_prior_pics_flag
    bits.unsigned()  # slice_pic_parameter_set_id
    bits.take(rules.num_extra_bits)
    bits.unsigned()  # slice_type
    bits.take(2 * rules.has_planes)
    return 0 if kind in {19, 20} else bits.take(rules.order_bits)
