"""What the units of a coded picture say: where decoding may start, what nobody refers to, what is missing.

Read from the first bytes of length-prefixed H.264 (ITU-T H.264, section 7.3) and HEVC (ITU-T H.265) packets, as
mp4 and Matroska hold them.

Longer than 400 lines: the parameter sets of both codecs are read by one reader of bits.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

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
        order: H.264 lowest bits of the order in which pictures are shown (pic_order_cnt_lsb), None if not known.
        is_first: Whether that order starts anew here (H.264 IDR).
    """

    is_entry: bool
    is_disposable: bool = False
    temporal_layer: int = 0
    frame_num: int | None = None
    max_frame_num: int = 0
    order: int | None = None
    is_first: bool = False


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
        try:
            rules = _order_rules(extradata)
        except (IndexError, ValueError):
            rules = _Rules(0, True, 0, True)
        return lambda packet: _h264_picture(packet, length_size, rules)
    if codec == "hevc" and len(extradata) >= 23:
        length_size = (extradata[21] & 3) + 1
        return lambda packet: _hevc_picture(list(nal_units(packet, length_size)))
    return None


class _Rules(NamedTuple):
    """How the header of an H.264 slice counts: bits of both counters, 0 where unknown, and what lies between."""

    frame_num_bits: int
    allows_gaps: bool
    order_bits: int
    is_progressive: bool


def _order_rules(extradata: bytes) -> _Rules:
    bits = _parameter_set(extradata)
    frame_num_bits, allows_gaps, order_bits = _frame_num_rules(bits)
    bits.unsigned(), bits.unsigned()  # width and height
    return _Rules(frame_num_bits, allows_gaps, order_bits, bool(bits.take(1)))


def order_bits_of(codec: str, extradata: bytes | None) -> int:
    """Bits of `Picture.order`, 0 where pictures do not tell it."""
    if codec != "h264" or not extradata or extradata[0] != 1:
        return 0
    try:
        return _order_rules(extradata).order_bits
    except (IndexError, ValueError):
        return 0


def contradicts_order(pictures: Sequence[Picture], pts: Sequence[int | None], *, order_bits: int) -> bool:
    """Tell whether time stamps put pictures in another order than the stream itself does (H.264 8.2.1.1).

    Args:
        pictures: In the order of the file.
        pts: Time stamp of each.
        order_bits: Of `Picture.order`.
    """
    size, shown = 1 << order_bits, []
    run, high, last = -1, 0, 0
    for picture, stamp in zip(pictures, pts, strict=True):
        if picture.order is None or stamp is None:
            return False
        if picture.is_first:
            run, high, last = run + 1, 0, 0
        around = high
        if picture.order < last and last - picture.order >= size // 2:
            around += size
        elif picture.order > last and picture.order - last > size // 2:
            around -= size
        shown.append((run, around + picture.order, stamp))
        if not picture.is_disposable:
            high, last = around, picture.order
    shown.sort()
    return any(one[0] == two[0] and one[2] >= two[2] for one, two in itertools.pairwise(shown))


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
        return _hevc_corner(_hevc_parameter_set(extradata)) != (0, 0)
    except (IndexError, ValueError):
        return True


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


class _Bits:
    """Reads bits from the most significant on."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, num_bits: int) -> int:
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


def _refuse_zeros(unit: memoryview) -> None:
    """Raise ValueError if zeros were written over a part of a unit: encoders escape the third in a row (7.4.1).

    The decoder takes such zeros for pictures and reports nothing.
    """
    if b"\x00\x00\x00" in bytes(unit).rstrip(b"\x00"):  # some writers pad units with zeros
        raise ValueError("zeros inside a unit")


def _without_escapes(unit: bytes) -> bytes:
    """Drop the emulation prevention bytes of a unit (7.4.1)."""
    return unit.replace(b"\x00\x00\x03", b"\x00\x00")


def _parameter_set(extradata: bytes) -> _Bits:
    """Bits of the first sequence parameter set of an avcC record, after its header."""
    return _Bits(_without_escapes(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])[1:])


def _frame_num_rules(bits: _Bits) -> tuple[int, bool, int]:
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


def _h264_corner(bits: _Bits) -> tuple[int, int]:
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


def _hevc_parameter_set(extradata: bytes) -> _Bits:
    """Bits of the first sequence parameter set (type 33) of an hvcC record, after its header."""
    place = 23
    for _ in range(extradata[22]):
        kind, num_units = extradata[place] & 63, int.from_bytes(extradata[place + 1 : place + 3], "big")
        place += 3
        for _ in range(num_units):
            size = int.from_bytes(extradata[place : place + 2], "big")
            if kind == 33:
                return _Bits(_without_escapes(extradata[place + 2 : place + 2 + size])[2:])
            place += 2 + size
    raise ValueError("no sequence parameter set")


def _hevc_corner(bits: _Bits) -> tuple[int, int]:
    """Read an HEVC sequence parameter set up to its conformance window; return what it cuts off at the left and top."""
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
    if bits.unsigned() == 3:  # chroma_format_idc
        bits.take(1)
    bits.unsigned(), bits.unsigned()  # width and height
    if not bits.take(1):
        return 0, 0
    left, _, top = (bits.unsigned() for _ in range(3))
    return left, top


def _restricts_bitstream(bits: _Bits) -> bool:
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


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _h264_picture(packet: memoryview, length_size: int, rules: _Rules) -> Picture:
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
    num_bits = rules.frame_num_bits
    if not num_bits:
        return Picture(is_idr or is_entry, is_disposable)
    frame_num, order = _slice_numbers(bytes(first_slice), rules, is_idr=is_idr)
    if rules.allows_gaps:
        return Picture(is_idr or is_entry, is_disposable, 0, None, 0, order, is_idr)
    return Picture(is_idr or is_entry, is_disposable, 0, frame_num, 1 << num_bits, order, is_idr)


def _slice_numbers(header: bytes, rules: _Rules, *, is_idr: bool) -> tuple[int, int | None]:
    """Read (frame_num, pic_order_cnt_lsb) behind first macroblock, type and parameter set (7.3.3)."""
    header = _without_escapes(header)
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


def _hevc_picture(units: list[memoryview]) -> Picture:
    slices = [((unit[0] >> 1) & 63, (unit[1] & 7) - 1) for unit in units if (unit[0] >> 1) & 63 < 32]
    if not slices:
        raise ValueError("no slice")
    for unit in units:
        _refuse_zeros(unit)
    return Picture(
        is_entry=all(16 <= kind <= 21 for kind, _ in slices),
        is_disposable=all(kind < 16 and kind % 2 == 0 for kind, _ in slices),  # table 7-1: ..._N types
        temporal_layer=max(layer for _, layer in slices),
    )
