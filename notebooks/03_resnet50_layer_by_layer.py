# %% [markdown]
# # ResNet-50, layer by layer
#
# Takes seconds, with no data: only shapes pass through the network. You need to know what a convolution is.
#
# The table of architectures in [He et al. 2015](https://arxiv.org/abs/1512.03385) (table 1) is
# often copied, and sometimes wrongly: two widths that are common in articles are 65 (instead of 64)
# and 2948 (instead of 2048). Here all numbers are read from the network itself.

# %%
from dataclasses import replace

from IPython.display import Image

import keras_resnet as kr
from keras_resnet.report.structure import structure

table, drawing = kr.describe("resnet50"), kr.drawing("resnet50")
Image(structure(drawing, "resnet50.png"))

# %% [markdown]
# ## Five stages
#
# A *stem* halves the image twice. Four stages of blocks follow; the first block of each but the first
# stage halves the image and doubles the width. The parameters include the moving averages of the batch
# normalizations, which are not trained.

# %%
for stage in table.stages:
    side, _, width = stage.output_shape[:3] if len(stage.output_shape) == 3 else (1, 1, 1000)
    print(
        f"{stage.name:7} {stage.blocks:2} blocks  {side:3} x {side:3} x {width:4}  "
        f"{stage.parameters:>11,} parameters  {stage.multiply_adds / 1e9:6.3f} G multiply-adds"
    )

# %% [markdown]
# ## One block of each kind
#
# A *bottleneck*: a 1×1 convolution reduces the number of channels, a 3×3 follows, and another 1×1
# makes it four times as large again. The first block of a stage needs a *projection* on its shortcut,
# because its input and its output differ in shape; in all others the shortcut is the identity. In
# "v1.5", the usual ResNet-50, the 3×3 convolution has the stride; in the paper the
# first 1×1 has it. The parameters are the same, the multiply-adds are not.

# %%
some = [stage for stage in drawing.stages if stage.name in ("input", "conv1", "conv3")]
print(replace(drawing, stages=some))

# %% [markdown]
# ## The widths
#
# For each block: its name, the widths of its three convolutions, and its shortcut.

# %%
layers = {row.name: row for row in table.layers}
blocks = sorted(
    {name.rsplit("_", 2)[0] for name in layers if "_block" in name and name.endswith("_1_conv")}
)
widths = {}
for block in blocks:
    widths[block] = [layers[f"{block}_{i}_conv"].output_shape[-1] for i in (1, 2, 3)]
    side = layers[f"{block}_out"].output_shape[0]
    projects = "projection" if f"{block}_0_conv" in layers else "identity"
    print(
        f"{block:14} 1x1, {widths[block][0]:<4} 3x3, {widths[block][1]:<4} 1x1, {widths[block][2]:<5} at {side:2}: {projects}"
    )

# %% [markdown]
# ## Fifty layers and their cost
#
# "50" counts the layers with weights on the longest path: one convolution in the stem, three in each
# of sixteen blocks, one dense layer at the end. The four projections do not count.

# %%
weights = [row for row in table.layers if row.kind in ("Conv2D", "Dense")]
counted = [row for row in weights if not row.name.endswith("_0_conv")]
print(len(counted), "layers,", len(weights) - len(counted), "projections")
print(f"{table.trainable_parameters:,} parameters, {table.multiply_adds / 1e9:.3f} G multiply-adds")

v1 = kr.describe("resnet50_v1")
print(f"with the paper's stride: {v1.multiply_adds / 1e9:.3f} G multiply-adds")

# %% [markdown]
# Most multiply-adds are in the middle of the network, most parameters at its end. The published
# numbers (torchvision's) are 25,557,032 and 4.089 G.

# %%
assert len(counted) == 50 and len(weights) == 54
assert (table.trainable_parameters, round(table.multiply_adds / 1e9, 3)) == (
    25_557_032,
    4.089,
)
assert [widths[f"conv{stage}_block1"] for stage in (2, 3, 4, 5)] == [
    [64, 64, 256],
    [128, 128, 512],
    [256, 256, 1024],
    [512, 512, 2048],
]
