"""The compiled operator behind the curves of lesions."""

from __future__ import annotations

from typing import Any

import torch

# There is no fake kernel: how many steps there are depends on the data.
component_tree: Any = torch.ops.rarepixel.component_tree.default
