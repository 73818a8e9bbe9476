"""Programs in notebooks: `%load_ext hwlang.jupyter`, then cells that begin with `%%hw`.

magic          what `%%hw` does
panes          what is shown of a run
"""

from hwlang.jupyter.magic import load_ipython_extension

__all__ = ["load_ipython_extension"]
