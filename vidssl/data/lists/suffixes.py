"""What the names of files say of them."""

VIDEO_SUFFIXES = frozenset(
    ".264 .265 .3g2 .3gp .asf .avc .avi .divx .dv .flv .gif .h264 .h265 .hevc .ivf .m1v .m2ts .m2v .m4v .mjpeg .mjpg "
    ".mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .obu .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
AUDIO_SUFFIXES = frozenset(".aac .aif .aiff .amr .au .flac .m4a .mka .mp3 .oga .ogg .opus .w64 .wav .wma".split())
LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
