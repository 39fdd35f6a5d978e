# %% [markdown]
# # Depth, degradation, and removable layers
#
# About a minute on two CPU cores. Data: 1,797 handwritten digits from the UCI repository, included in
# the package.
#
# If more layers are added to a network that works, it should not get worse: the new layers could
# compute the identity. In practice it did get worse, *on the training images*, so overfitting is not
# the reason. [He et al. 2015](https://arxiv.org/abs/1512.03385) called this *degradation* (figure 1)
# and introduced shortcuts, with which the identity is easy to learn: $F = 0$ is enough.

# %%
from IPython.display import Image

import keras_resnet as kr
from keras_resnet.explain.depth import depth
from keras_resnet.report import explain_plots

# %% [markdown]
# ## The experiment
#
# We train networks of 8 and 20 layers, with shortcuts (`resnet`) and without (`plain`). Layers,
# recipe, number of epochs, images and their order are otherwise the same. The digits are trained at
# their own size, 8 pixels.

# %%
result = depth("digits", depths=[8, 20], epochs=2, image_size=8, seed=1, folder="depth")
Image(explain_plots.degradation(result.as_json(), "degradation.png"))

# %%
for row in result.rows:
    print(
        f"{row.kind + str(row.depth):10} training error {row.training_error:6.1%}  "
        f"validation error {row.validation_error:6.1%}"
    )

# %% [markdown]
# The training error is the mean over the last epoch, on augmented images, while the weights change; it
# can therefore be above the validation error. The deeper plain network has the largest one. It can represent every function of the
# shallow one, and was trained just as long: it is harder to train.
#
# ## Removing blocks
#
# If a block computes $x + F(x)$ with a small $F$, a network should work without it.
# [Veit et al. 2016](https://arxiv.org/abs/1605.06431) tried this: one block at a time is removed from
# the *trained* network, its shortcut stays, and nothing is retrained. A plain network has no path
# around a block; there the block's input is passed on instead, where the shapes allow it.

# %%
lesions = [kr.lesion(f"depth/{name}", images=360, sets=3) for name in ("resnet20", "plain20")]
Image(explain_plots.lesions([lesion.as_json() for lesion in lesions], "lesions.png"))

# %% [markdown]
# Why does the residual network still work? It has many paths. At each of $n$ blocks a path takes the
# branch or the shortcut: $2^n$ paths, of which $\binom{n}{k}$ pass through $k$ branches. Removing a
# block removes half of the paths. The other half stays connected, although the inputs of later blocks
# change, because $F$ is not linear.
#
# ## Which paths carry the gradient
#
# The gradient of the whole network is exactly the sum of the gradients along all paths. In the trained
# networks of Veit et al., and here, the gradient along a path becomes smaller with every branch
# (middle panel); in other networks it does not:

# %%
from keras_resnet.explain.subject import open_subject

subject = open_subject("depth/resnet20", images=64)
paths = kr.paths(subject.model, subject.images, subject.labels, samples=5)
Image(explain_plots.path_lengths(paths.as_json(), "paths.png"))

# %% [markdown]
# This is the meaning of statements such as "a network of 300 layers uses 50": the paths of certain
# lengths carry nearly all of the gradient; in a network of 54 blocks of Veit et al., those of 5 to 17
# branches.

# %%
error = {(row.kind, row.depth): row.training_error for row in result.rows}
print(
    f"20 layers: plain {error['plain', 20]:.1%}, residual {error['resnet', 20]:.1%} training error"
)
effective = paths.effective
print(
    f"of {paths.blocks} branches, {effective.shortest} to {effective.longest} hold 95 % of the gradient"
)
assert error["plain", 20] > error["plain", 8]
assert error["plain", 20] > error["resnet", 20]
assert effective.longest < paths.blocks
