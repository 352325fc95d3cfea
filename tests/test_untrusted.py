"""What strangers may put into files: no request goes out, no other file is opened, nothing runs, nothing is written.

Each trap is shown to be a real one: without our door it goes off.
"""

import ctypes
import http.server
import io
import json
import os
import pickle
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import moving_square, write_video

from vidssl.data.corpus.audit import audit
from vidssl.data.corpus.probe import probe
from vidssl.data.corpus.scan import scan
from vidssl.data.media import container as _container
from vidssl.data.media import video
from vidssl.data.media.container import complaints
from vidssl.data.media.member import Member
from vidssl.data.media.video import MediaError, open_audio, open_video
from vidssl.data.published.labelled import labelled_set
from vidssl.models import ResNet, export_encoder, load_encoder
from vidssl.train import checkpoint

# -- media


class Server(http.server.ThreadingHTTPServer):
    """Serves real media and counts who asks."""

    def __init__(self, media: bytes) -> None:
        self.hits: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.hits.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(media)))
                self.end_headers()
                self.wfile.write(media)

            def log_message(self, *_: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Watch:
    """Counts how often a file is opened, by any code of any process (inotify)."""

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        opened = 0x20  # IN_OPEN
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), opened) > 0

    def count(self) -> int:
        """Times it was opened since the last call."""
        try:
            return len(os.read(self._descriptor, 65536)) // 16  # an event without a name takes 16 bytes
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._descriptor)


class Place:
    """A server, a foreign file that is watched, and a folder to put traps into."""

    def __init__(self, tmp_path: Path, server: Server, secret: Path) -> None:
        self.folder = tmp_path / "corpus"
        self.folder.mkdir()
        self.server, self.secret, self.watch = server, secret, Watch(secret)

    def touched(self) -> tuple[int, int]:
        """(requests, times the foreign file was opened) since the last call."""
        hits = len(self.server.hits)
        self.server.hits.clear()
        return hits, self.watch.count()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret")
    write_video(folder / "secret.mp4", moving_square(12), tone_hz=440)
    import av

    with av.open(str(folder / "secret.mp4")) as read, av.open(str(folder / "secret.ts"), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                written.mux(packet)
    return folder


@pytest.fixture
def place(tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if sys.platform != "linux":
        pytest.skip("who opens a file is watched with inotify, which Linux has")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Server((media / "secret.ts").read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found = Place(tmp_path, server, media / "secret.ts")
        yield found
        found.watch.close()
        server.shutdown()
        thread.join()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {target}\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
DASH = (
    '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="0" bandwidth="1000"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>\n"
)
# Name of the trap -> (file name, content).
FILES = {
    "HLS named mp4 to http": ("a.mp4", HLS.replace("{target}", "{url}/a.ts")),
    "HLS named m3u8 to http": ("a.m3u8", HLS.replace("{target}", "{url}/a.ts")),
    "HLS named ts to http": ("a.ts", HLS.replace("{target}", "{url}/a.ts")),
    "HLS named mp4 to file": ("a.mp4", HLS.replace("{target}", "file://{secret}")),
    "HLS named m3u8 to a path": ("a.m3u8", HLS.replace("{target}", "{secret}")),
    "HLS behind a mark and blanks": ("a.mp4", "\ufeff  \n" + HLS.replace("{target}", "{secret}")),
    "HLS key over http": ("a.m3u8", HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n#EXTINF')),
    "ffconcat of a sibling": ("a.mp4", CONCAT.replace("{target}", "sibling.ts")),
    "ffconcat of a path": ("a.mp4", CONCAT.replace("{target}", "{secret}")),
    "ffconcat of http": ("a.mp4", CONCAT.replace("{target}", "{url}/a.ts")),
    "ffconcat behind a comment": ("a.mp4", "# a list\n" + CONCAT.replace("{target}", "sibling.ts")),
    "SDP named mp4": ("a.mp4", SDP),
    "SDP named sdp": ("a.sdp", SDP),
    "DASH to http": ("a.mpd", DASH.replace("{target}", "{url}/a.mp4")),
    "DASH to a path": ("a.mp4", DASH.replace("{target}", "{secret}")),
    "playlist named jpg": ("a.jpg", HLS.replace("{target}", "{url}/a.ts")),
    "playlist named wav": ("a.wav", HLS.replace("{target}", "{secret}")),
}
# Names that FFmpeg takes for protocols.
NAMES = {
    "URL": "{url}/a.ts",
    "concat": "concat:{secret}|{secret}",
    "concatf": "concatf:list.txt",
    "subfile": "subfile,,start,0,end,0,,:{secret}",
    "file": "file:{secret}",
    "cache": "cache:{url}/a.ts",
    "async": "async:{secret}",
    "crypto": "crypto:{secret}",
    "data": "data:text/plain,#EXTM3U",
    "tcp": "tcp://127.0.0.1:{port}",
    "pipe": "pipe:0",
}


def lay(place: Place, name: str) -> Path:
    """Write the trap and what it leads to; return its path."""
    file_name, content = FILES[name]
    (place.folder / "sibling.ts").unlink(missing_ok=True)
    os.link(place.secret, place.folder / "sibling.ts")  # the same file, so that the watch sees it
    path = place.folder / file_name
    path.write_text(filled(content, place), encoding="utf-8")
    place.touched()
    return path


def filled(text: str, place: Place) -> str:
    values = {"url": place.server.url, "secret": str(place.secret), "port": str(place.server.server_port)}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def everything(path: Any, backend: Any) -> None:
    """Read pictures and sound of what is a trap by one of our ways; whatever they say, they say as a MediaError."""
    for read in (
        lambda: open_video(path, backend=backend).frames([0.0]),
        lambda: open_audio(path).read(0.0, 0.1, sample_rate_hz=8000),
    ):
        with pytest.raises(MediaError):
            read()


def usable(backend: str) -> None:
    try:
        if backend == "decord":
            import decord  # noqa: F401
        if backend == "torchcodec":
            import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"{backend} cannot be used here: {str(error).splitlines()[0]}")


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
def test_files_that_name_others_reach_nothing(place: Place, backend: str) -> None:
    usable(backend)
    for name in FILES:
        path = lay(place, name)
        everything(path, backend)
        assert "reason" in probe(str(path)), name
        assert place.touched() == (0, 0), name
        path.unlink()


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
def test_names_that_are_protocols_reach_nothing(
    place: Place, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable(backend)
    monkeypatch.chdir(place.folder)
    (place.folder / "list.txt").write_text(f"file:{place.secret}\n")
    for name, text in NAMES.items():
        everything(filled(text, place), backend)
        assert place.touched() == (0, 0), name


def test_scan_and_check_of_traps_reach_nothing(place: Place) -> None:
    for number, (file_name, content) in enumerate(FILES.values()):
        (place.folder / f"{number}{file_name}").write_text(filled(content, place), encoding="utf-8")
    good = write_video(place.folder / "good.mp4", moving_square(4))
    place.touched()
    corpus = scan(place.folder, progress=False, num_workers=2)
    assert [entry.path for entry in corpus.entries] == [good] and len(corpus.bad) >= 10
    assert len(audit(place.folder, progress=False, num_workers=2).bad) == len(corpus.bad)
    assert scan(place.folder, progress=False, media="image", num_workers=1).bad[0][0].name.endswith("a.jpg")
    assert place.touched() == (0, 0)
    for text in NAMES.values():
        for suffix in ("txt", "csv"):
            listed = place.folder / f"list.{suffix}"
            listed.write_text(f"good.mp4\n{filled(text, place)}\n")
            with pytest.raises(ValueError, match=rf"list\.{suffix}:2: "):
                scan(listed, progress=False)
    assert place.touched() == (0, 0)


def test_the_traps_are_real_ones(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg as it comes, without our door, asks the server and opens the foreign file."""
    import av

    def touched_by(path: str, **options: Any) -> tuple[int, int]:
        place.touched()
        try:
            with av.open(path, **options) as container:
                next(container.decode(video=0))
        except (av.FFmpegError, StopIteration):
            pass
        hits, opened = place.touched()
        return min(hits, 1), min(opened, 1)

    assert touched_by(filled(NAMES["URL"], place)) == (1, 0)
    assert touched_by(filled(NAMES["concat"], place)) == (0, 1)
    assert touched_by(filled(NAMES["subfile"], place)) == (0, 1)
    assert touched_by(filled(NAMES["file"], place)) == (0, 1)
    assert touched_by(str(lay(place, "ffconcat of a sibling"))) == (0, 1)
    assert touched_by(str(lay(place, "HLS named m3u8 to a path"))) == (0, 1)
    free = {"container_options": {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL"}}
    assert touched_by(str(lay(place, "HLS named m3u8 to http")), **free)[0] == 1
    monkeypatch.setattr(place.server, "hits", ["/seen"])
    assert place.touched() == (1, 0)


# What FFmpeg says of a protocol that it may not open; without it the trap went as far as the network or the disk.
REFUSED = re.compile(r"Protocol '(\w+)' not on whitelist '(\w*)'")


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the first lock of our door: lists are not told by their first bytes."""
    monkeypatch.setattr(_container, "_PLAYLISTS", {})


def in_a_shard(path: Path) -> Member:
    """The same bytes as a member of an archive."""
    size = path.stat().st_size
    return Member(shard=str(path), shard_bytes=size, name=path.name, offset=0, num_bytes=size)


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
@pytest.mark.parametrize("where", ["file", "shard"])
def test_no_demuxer_of_lists_is_let_in(place: Place, blind: None, backend: str, where: str) -> None:
    """The second lock alone: each list is well-formed, and FFmpeg would take it for what it is."""
    usable(backend)
    for name in FILES:
        path = lay(place, name)
        taken = in_a_shard(path) if where == "shard" else path
        place.touched()
        for read in (partial(open_video, backend=backend), open_audio):
            with complaints() as said, pytest.raises(MediaError, match="is no readable media file") as refused:
                read(taken)
            assert str(path) in str(refused.value)
            assert not REFUSED.findall(" ".join(said)), name  # the next lock: only what reads a list asks there
        # A member is read from its archive, which is the trap itself; it leads to nothing else.
        assert place.touched() == (0, 0), name
        path.unlink()


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"file"}))
def test_no_protocol_but_that_of_files_is_let_in(
    place: Place, blind: None, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    """The last lock alone: a name that is a protocol, as one in a file could be, reaches FFmpeg, which refuses it."""
    usable(backend)
    monkeypatch.chdir(place.folder)
    (place.folder / "list.txt").write_text(f"file:{place.secret}\n")
    for module in (_container, video):
        monkeypatch.setattr(module, "regular_file", lambda path: path)
        monkeypatch.setattr(module, "sniff", lambda path: "media")
    text = filled(NAMES[name], place)
    protocol = re.match(r"\w+", text).group()
    with complaints() as said, pytest.raises(MediaError, match="is no readable media file"):
        open_video(text, backend=backend).frames([0.0])
    assert REFUSED.findall(" ".join(said)) == [(protocol, "file")]
    assert place.touched() == (0, 0)


def test_a_member_of_an_archive_is_let_in_without_any_protocol(
    place: Place, blind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are handed over; not even a file of this disk could be opened by name."""
    monkeypatch.setattr(_container, "FORMATS", f"{_container.FORMATS},concat")
    path = lay(place, "ffconcat of a sibling")
    with complaints() as said, pytest.raises(MediaError):
        open_video(in_a_shard(path)).frames([0.0])
    assert REFUSED.findall(" ".join(said)) == [("file", "")]
    assert place.touched() == (0, 0)
    open_video(path).frames([0.0])  # from the disk the same list leads to the file
    assert place.touched()[1] > 0


def test_names_with_a_colon_are_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    for name in ("12:30 clip.mp4", "http:clip.mp4", "concat:a.mp4", "file:a.mp4", "data:a.mp4"):
        write_video(place.folder / name, moving_square(3))
        with open_video(name) as reader:
            assert len(reader.frames([0.0])) == 1
    assert place.touched() == (0, 0)


# -- lists


@pytest.mark.parametrize(
    "line",
    [
        "../secret.mp4",
        "../../etc/passwd",
        "clips/../../secret.mp4",
        "./../secret.mp4",
        "{outside}",
        "/etc/passwd",
        "clips/../../corpus2/secret.mp4",
        "//etc/passwd",
        "../secret.mp4 1",
        "clips/./.././../secret.mp4",
    ],
)
@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_lists_stay_below_their_folder(tmp_path: Path, line: str, suffix: str) -> None:
    outside = write_video(tmp_path / "secret.mp4", moving_square(3))
    write_video(tmp_path / "corpus" / "clips" / "a.mp4", moving_square(3))
    listed = tmp_path / "corpus" / f"list.{suffix}"
    line = line.replace("{outside}", str(outside))
    if suffix == "csv":
        line = line.replace(" 1", ",1")
    label = {True: {"txt": " 0", "csv": ",0"}[suffix], False: ""}[line[-1] == "1"]
    listed.write_text(f"clips/a.mp4{label}\n{line}\n")
    with pytest.raises(ValueError, match=rf"list\.{suffix}:2: '.*' leads out of .*corpus, the folder of the list"):
        scan(listed, cache=tmp_path / "cache", progress=False)
    labelled = tmp_path / "corpus" / "labelled.csv"
    labelled.write_text(f"path,label\nclips/a.mp4,0\n{line.removesuffix(',1').removesuffix(' 1')},1\n")
    with pytest.raises(ValueError, match=r"labelled\.csv:3: '.*' leads out of .*corpus, the folder of the list"):
        labelled_set(labelled)


def test_lists_may_reach_out_where_that_is_allowed(tmp_path: Path) -> None:
    outside = write_video(tmp_path / "other" / "b.mp4", moving_square(3))
    inside = write_video(tmp_path / "corpus" / "a.mp4", moving_square(3))
    listed = tmp_path / "corpus" / "list.txt"
    listed.write_text(f"{inside}\nsub/../a.mp4\n../other/b.mp4\n")
    (tmp_path / "corpus" / "sub").mkdir()
    options = {"cache": tmp_path / "cache", "progress": False, "num_workers": 1}
    assert len(scan(listed, allow_outside=True, **options)) == 3
    above = tmp_path / "list.txt"
    above.write_text(f"corpus/a.mp4\n{outside}\n")
    assert len(scan(above, **options)) == 2


# -- weights


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (self.path,)


def raw_pickle(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps(bomb, protocol=2))


def old_protocol(path: Path, bomb: Bomb) -> None:
    path.write_bytes(pickle.dumps({"state_dict": bomb}, protocol=0))


def torch_zip(path: Path, bomb: Bomb) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "args": bomb}, path)


def torch_legacy(path: Path, bomb: Bomb) -> None:
    torch.save({"model": bomb}, path, _use_new_zipfile_serialization=False)


def torch_tar(path: Path, bomb: Bomb) -> None:
    """The format of torch 0.1: a tar archive with three pickles."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps(bomb)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def zip_of_our_own(path: Path, bomb: Bomb) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(bomb, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def script_archive(path: Path, bomb: Bomb) -> None:
    """Laid out as TorchScript modules are, whose constants are a pickle (torch.jit itself is on its way out)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data", "constants"):
            archive.writestr(f"archive/{name}.pkl", pickle.dumps(bomb, protocol=2))
        archive.writestr("archive/code/__torch__/Linear.py", "")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def object_array(path: Path, bomb: Bomb) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([bomb], dtype=object), allow_pickle=True)


def object_archive(path: Path, bomb: Bomb) -> None:
    with path.open("wb") as file:
        np.savez(file, points=np.array([bomb], dtype=object))


def numpy_inside(path: Path, bomb: Bomb) -> None:
    torch.save({"state_dict": {"weight": np.array([bomb], dtype=object)}}, path)


def key_of_a_dict(path: Path, bomb: Bomb) -> None:
    torch.save({"state_dict": {"layer": [(bomb,)]}}, path)


def module_whole(path: Path, bomb: Bomb) -> None:
    network = torch.nn.Linear(1, 1)
    network.bomb = bomb  # type: ignore[assignment]
    torch.save(network, path)


PAYLOADS = [
    raw_pickle, old_protocol, torch_zip, torch_legacy, torch_tar, zip_of_our_own, script_archive, object_array,
    object_archive, numpy_inside, key_of_a_dict, module_whole,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*looks like a TorchScript archive:UserWarning")
@pytest.mark.parametrize("write", PAYLOADS)
def test_nothing_in_weights_runs(tmp_path: Path, write: Any) -> None:
    sprung = tmp_path / "sprung"
    path = tmp_path / "weights.pth"
    write(path, Bomb(sprung))
    with pytest.raises(ValueError, match=r"weights\.pth"):
        load_encoder("torchvision:resnet18", weights=path)
    saved = tmp_path / "step_00000001.pt"  # a checkpoint of the first format is one file
    saved.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"step_00000001\.pt"):
        checkpoint.load(saved)
    # As the file a run exports, under its own name and instead of it.
    export_encoder(ResNet(18, width=4), tmp_path / "encoder.safetensors")
    path.replace(tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r"encoder\.safetensors"):
        load_encoder(tmp_path / "encoder.safetensors")
    assert not sprung.exists()


@pytest.mark.parametrize("write", [raw_pickle, torch_zip, torch_legacy, numpy_inside, module_whole])
def test_the_payloads_are_real_ones(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "weights.pth", Bomb(tmp_path / "sprung"))
    torch.load(tmp_path / "weights.pth", weights_only=False) if write is not raw_pickle else pickle.loads(  # noqa: S301
        (tmp_path / "weights.pth").read_bytes()
    )
    assert (tmp_path / "sprung").is_dir()


def test_nothing_in_arrays_runs(tmp_path: Path) -> None:
    from vidssl.data.published.points import tapvid_sequences

    object_archive(tmp_path / "points.npz", Bomb(tmp_path / "sprung"))
    with pytest.raises(ValueError, match=r"points\.npz"):
        tapvid_sequences(tmp_path)
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "points.npz", allow_pickle=True)["points"]
    assert (tmp_path / "sprung").exists()


def test_a_description_of_an_encoder_builds_only_what_it_may(tmp_path: Path) -> None:
    export_encoder(ResNet(18, width=4), tmp_path / "encoder.safetensors")
    description = tmp_path / "encoder.json"
    record = json.loads(description.read_text())
    for kind in ("os.system", "__import__('os').system", "subprocess:Popen", "torch.nn.Linear", "hub"):
        for name in [name for name, value in record.items() if isinstance(value, str)]:
            description.write_text(json.dumps(record | {name: kind}))
            try:
                load_encoder(tmp_path / "encoder.safetensors")
            except ValueError as error:
                assert str(tmp_path) in str(error) or kind in str(error)
    description.write_text(json.dumps(record))
    assert load_encoder(tmp_path / "encoder.safetensors").dim == ResNet(18, width=4).dim


# -- starting (test_architecture.py: imports open no socket)


def test_nothing_is_downloaded_anywhere() -> None:
    package = Path(checkpoint.__file__).parent
    calls = (
        "urlopen(",
        "urlretrieve(",
        "load_state_dict_from_url(",
        "hf_hub_download(",
        "requests.get(",
        "snapshot_download(",
    )
    for path in [
        *package.rglob("*.py"),
        *(package.parent / "datasets").glob("*.py"),
        *(package.parent / "tools").glob("*.py"),
    ]:
        text = path.read_text()
        assert not [call for call in calls if call in text], path
        assert "from_pretrained(" not in text or "local_files_only=True" in text, path
