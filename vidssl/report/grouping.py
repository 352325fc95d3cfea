"""Which results stand together: those that share protocol and settings, seeds of one config in a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from .finding import BASELINES, KINDS, Evaluation, _key
from .published import Setup
from .sheets import Row

WITHOUT_KNOBS = ("chance", "identity")


def _groups(
    evaluations: Sequence[Evaluation], styles: Mapping[str, tuple[str, str]]
) -> list[tuple[Setup, list[Row]]]:
    """Rows by protocol and settings: baselines for which these do not matter come first."""
    by_setup: dict[str, tuple[Setup, list[Evaluation]]] = {}
    for one in sorted(evaluations, key=lambda one: one.kind not in WITHOUT_KNOBS):
        setup = one.setup
        if one.kind in WITHOUT_KNOBS:
            plain = {name: value for name, value in setup.settings.items() if not isinstance(value, dict | list)}
            setup = Setup(setup.task, None, {} if one.kind == "chance" else plain, setup.num_sequences)
        key = _key(one.kind in WITHOUT_KNOBS, setup.protocol, setup.settings)
        by_setup.setdefault(key, (setup, []))[1].append(one)
    groups = []
    for setup, own in by_setup.values():
        by_encoder: dict[str, dict[str, Evaluation]] = {}
        for one in own:
            weights = one.result["model"]["sha256"] or _key(one.result["figures"])
            # Only runs and random weights are known to differ by their seeds; other files are other encoders.
            encoder = _key(one.who, one.result["model"]["architecture"])
            is_seed = one.kind == "random" or (one.kind == "model" and one.run is not None)
            encoder = encoder if is_seed else _key(encoder, weights)
            # The same weights measured twice are one measurement; so are equal baselines of several encoders.
            by_encoder.setdefault(encoder, {}).setdefault(weights, one)
        members = [tuple(seeds.values()) for seeds in by_encoder.values()]
        whos = [seeds[0].who for seeds in members]
        rows = []
        for seeds, who in zip(members, whos, strict=True):
            label, color = styles[who]
            if whos.count(who) > 1:
                same = [one[0].choices for one, other in zip(members, whos, strict=True) if other == who]
                label += f" ({_choices(seeds[0], same) or (seeds[0].result['model']['sha256'] or '')[:8]})"
            rows.append(Row(label, color, seeds))
        groups.append((setup, sorted(rows, key=lambda row: KINDS.index(row.kind))))
    return groups


def _labels(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """What to call each encoder; what tells two of one name apart stands behind it."""
    labels = {}
    for one in evaluations:
        name = one.run["config"] if one.run else one.result["model"]["name"]
        label = name if one.kind in ("model", "raw") else BASELINES[one.kind][0]
        if one.architecture.get("family") == "layer":
            label += f", layer {one.architecture['name']}"
        labels[one.who] = label
    for label in [label for label in dict.fromkeys(labels.values()) if list(labels.values()).count(label) > 1]:
        same = [one for one in evaluations if labels[one.who] == label]
        options = [dict(one.run["options"]) if one.run else {} for one in same]
        facts = [
            {"network": _network(one.architecture), **given, **one.architecture, "seed": None}
            for one, given in zip(same, options, strict=True)
        ]
        telling = _telling(facts)
        for one, own in zip(same, facts, strict=True):
            texts = [f"{name} {own[name]}" if name != "network" else own[name] for name in telling if name in own]
            texts = texts or [one.run_name or "without an option of the others"]
            labels[one.who] = f"{label} ({', '.join(texts)})"
    return labels


def _choices(one: Evaluation, same: Sequence[Mapping[str, Any]]) -> str:
    """The options that one evaluation of an encoder has otherwise than others beside it; nothing where none tells."""
    telling = _telling(same) if len({_key(own) for own in same}) == len(same) else []
    return ", ".join(f"{name} {one.choices[name]}" for name in telling if name in one.choices)


def _telling(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the facts that tell all of these apart: in their order, each that tells more apart."""
    telling: list[str] = []
    for name in dict.fromkeys(name for own in facts for name in own):
        apart, further = (
            len({_key(*(own.get(one) for one in names)) for own in facts}) for names in (telling, [*telling, name])
        )
        if further > apart:
            telling.append(name)
    return telling


def _network(architecture: Mapping[str, Any]) -> str:
    """Short name of a network: "resnet 18", "vit_small_patch16_224"."""
    if architecture.get("family") == "layer":
        return _network(architecture["of"])
    return str(architecture.get("name") or f"{architecture.get('family')} {architecture.get('depth', '')}".strip())
