# %% [markdown]
# # Depth, degradation, and layers that can be left out
#
# About two minutes on two CPU cores. Data: 1,797 handwritten digits of the UCI repository, which come
# with the package.
#
# Stack more layers on a net that works and it should not get worse: the new layers could compute
# the identity. In practice it did get worse, *on the training images*, so that overfitting is no
# excuse. [He et al. 2015](https://arxiv.org/abs/1512.03385) called this *degradation* (figure 1),
# and made shortcuts so that the identity would be easy to find: $F = 0$ is enough.

# %%
from IPython.display import Image

import keras_resnet as kr
from keras_resnet.explain.depth import depth
from keras_resnet.report import explain_plots

# %% [markdown]
# ## The experiment
#
# Nets of 8 and 32 layers, with shortcuts (`resnet`) and without (`plain`): the same layers
# otherwise, the same recipe, the same few epochs, the same images in the same order.

# %%
result = depth("digits", depths=[8, 32], epochs=4, image_size=16, seed=1, folder="depth")
for row in result.rows:
    print(
        f"{row.kind + str(row.depth):10} training error {row.training_error:6.1%}  "
        f"validation error {row.validation_error:6.1%}"
    )

# %%
Image(explain_plots.degradation(result.as_json(), "degradation.png"))

# %% [markdown]
# The deeper plain net has learnt least. It can represent whatever the shallow one can, and it has
# had the same time: it is harder to train.
#
# ## Taking blocks out
#
# If a block computes $x + F(x)$ with a small $F$, a net should survive without it.
# [Veit et al. 2016](https://arxiv.org/abs/1605.06431) tried: one block at a time is taken out of the
# *trained* net, its shortcut stays, and nothing is trained again. In a plain net there is no other
# way around a block; there its input is handed on instead, where the shapes allow it.

# %%
lesions = [kr.lesion(f"depth/{name}", images=360, sets=3) for name in ("resnet32", "plain32")]
Image(explain_plots.lesions([lesion.as_json() for lesion in lesions], "lesions.png"))

# %% [markdown]
# Why does it survive? Because the net is a sum over paths. At each of $n$ blocks a path takes the
# branch or the shortcut: $2^n$ paths, of which $\binom{n}{k}$ pass $k$ branches. Taking out a block
# removes half of them, and halves all those that are left are as good as before.
#
# ## Which paths carry the gradient
#
# Backwards, the gradient of the whole is the sum of the gradients along all paths. Along each, in a
# trained net, it becomes smaller with every branch:

# %%
from keras_resnet.explain.subject import subject

seen = subject("depth/resnet32", images=64)
paths = kr.paths(seen.model, seen.images, seen.labels, samples=5)
Image(explain_plots.path_lengths(paths.as_json(), "paths.png"))

# %% [markdown]
# "A net of 300 layers uses 50" is such a statement: paths of a certain length hold nearly all of the
# gradient, the longest ones none of it.

# %%
error = {(row.kind, row.depth): row.training_error for row in result.rows}
print(
    f"32 layers: plain {error['plain', 32]:.1%}, residual {error['resnet', 32]:.1%} training error"
)
effective = paths.effective
print(
    f"of {paths.blocks} branches, {effective.shortest} to {effective.longest} hold 95 % of the gradient"
)
assert error["plain", 32] > error["plain", 8]
assert error["plain", 32] > error["resnet", 32]
assert effective.longest < paths.blocks
