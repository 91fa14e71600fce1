"""Old forms of messages, brought up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._layer import registered_types
from ._schema import V0, CaffeError, Message

SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")

# The number of each type in V1LayerParameter.LayerType is its place here.
_V1_TYPES = (
    *("", "Accuracy", "BNLL", "Concat", "Convolution", "Data", "Dropout", "EuclideanLoss", "Flatten", "HDF5Data"),
    *("HDF5Output", "Im2col", "ImageData", "InfogainLoss", "InnerProduct", "LRN", "MultinomialLogisticLoss", "Pooling"),
    *("ReLU", "Sigmoid", "Softmax", "SoftmaxWithLoss", "Split", "TanH", "WindowData", "Eltwise", "Power"),
    *("SigmoidCrossEntropyLoss", "HingeLoss", "MemoryData", "ArgMax", "Threshold", "DummyData", "Slice", "MVN"),
    *("AbsVal", "Silence", "ContrastiveLoss", "Exp", "Deconvolution"),
)


def modern_type(name: str) -> str:
    """Today's name of a type of 2014: SOFTMAX_LOSS is SoftmaxWithLoss, a fork's IMAGE_SEG_DATA is ImageSegData."""
    flat = {"softmaxloss": "softmaxwithloss"}.get(_flat(name), _flat(name))
    for known in (*_V1_TYPES, *registered_types()):
        if _flat(known) == flat:
            return known
    return "".join(word.capitalize() for word in name.split("_"))


def modern_aliases(aliases: Mapping[str, str]) -> dict[str, str]:
    """Aliases of the types that layers of 2014 have by the time they are looked at: MEAN_FIELD is MeanField then."""
    return {modern_type(kind) if kind.isupper() else kind: other for kind, other in aliases.items()}


def _flat(name: str) -> str:
    return name.replace("_", "").lower()


def upgrade_layers(
    message: Message, where: str, lines: list[int] | None = None, types: Sequence[str | None] = ()
) -> None:
    """Brings the layers of 2014 into today's form, in place.

    Args:
        message: the net.
        where: the file.
        lines: of the layers.
        types: of the layers whose type only a fork has.
    """
    if message.layer and message.layers:
        line = f"{lines[-1]}: " if lines else ""
        raise CaffeError(f"{where}{line}expected layer or layers, got {len(message.layer)} and {len(message.layers)}")
    for index, old in enumerate(message.layers):
        place = f"{where}{lines[index]}: " if lines else where
        if old.HasField("layer"):
            raise CaffeError(f"{place}layer {old.layer.name!r}: {V0}")
        new = message.layer.add()
        _upgrade_layer(old, new)
        if types and types[index] is not None:
            new.type = types[index]
        old.Clear()  # its blobs are copied by now
    message.ClearField("layers")


def _upgrade_layer(old: Message, new: Message) -> None:
    # Most fields have the same name and type in both.
    for field, value in old.ListFields():
        if field.name == "name":
            new.name = value
        elif field.name.endswith("_param"):
            getattr(new, field.name).CopyFrom(value)
        elif field.name in _V1_SAME:
            getattr(new, field.name).extend(value)
    if old.HasField("type"):
        new.type = _V1_TYPES[old.type]
    for target, values in (
        ("name", old.param),
        ("share_mode", old.blob_share_mode),
        ("lr_mult", old.blobs_lr),
        ("decay_mult", old.weight_decay),
    ):
        for index, value in enumerate(values):
            while len(new.param) <= index:
                new.param.add()
            setattr(new.param[index], target, value)
    for kind in ("data_param", "image_data_param", "window_data_param"):
        data = getattr(new, kind)
        for name in ("scale", "mean_file", "crop_size", "mirror"):
            if new.HasField(kind) and data.HasField(name):
                setattr(new.transform_param, name, getattr(data, name))
                data.ClearField(name)


_V1_SAME = ("bottom", "top", "include", "exclude", "loss_weight", "blobs")
