"""Lets SGLang be imported without CUDA, in every Python that has this folder in PYTHONPATH.

`sgl_kernel` beside this file stands in for SGLang's kernels. torchvision from PyPI is built for CUDA: its operators are
not there with a torch for CPUs, and what it says of their shapes when it is imported fails without their schemas.
"""

import sys
from importlib.abc import MetaPathFinder

SCHEMAS = {name: f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")}


class BeforeTorchvision(MetaPathFinder):
    """Finds nothing. When torchvision is first looked for, it makes the schemas."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in SCHEMAS.values():
                self.library.define(schema)


finder = BeforeTorchvision()  # kept: schemas go with their library
sys.meta_path.insert(0, finder)
