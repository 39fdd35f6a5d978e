# %% [markdown]
# # What a skip connection does, forwards and backwards
#
# About a minute on two CPU cores. Data: 1,797 handwritten digits from the UCI repository,
# included in the package. You need calculus and a little Keras.
#
# A residual block computes $H(x) = F(x) + x$: a *branch* $F$, some layers with weights, and a
# *shortcut* that passes $x$ on unchanged ([He et al. 2015](https://arxiv.org/abs/1512.03385)). Two
# claims about it are common, and both can be measured:
#
# 1. *"In the backward pass the gradient skips the layers."* Does it? Do the weights of the branch get
#    no gradient?
# 2. *"Skips let the gradient through, so that deep networks can be trained."* Would the gradient
#    vanish without them?

# %%
import keras
import numpy as np
import tensorflow as tf
from IPython.display import Image
from matplotlib import pyplot as plt

import keras_resnet as kr
from keras_resnet.explain.gradients import by_depth, gradients, parameters
from keras_resnet.explain.subject import open_subject
from keras_resnet.report import explain_plots

# %% [markdown]
# ## One block: the Jacobian of H is that of F, plus the identity
#
# Differentiate $H(x) = F(x) + x$:
#
# $$\frac{dH}{dx} = \frac{dF}{dx} + I \qquad\text{and so}\qquad
#   \frac{dJ}{dx} = \frac{dJ}{dH}\,\frac{dF}{dx} + \frac{dJ}{dH}.$$
#
# Below is a fully-connected block with input $A$, branch
# $Z = W_2\,\mathrm{relu}(W_1 A + B_1) + B_2$ and sum $\tilde Z = Z + A$.

# %%
keras.utils.set_random_seed(1)
a = keras.Input((6,))
block = keras.Model(a, kr.dense_identity_block(a, name="block1", zero_last=False))
terms = keras.Model(
    a, [block.get_layer("block1_2_dense").output, block.get_layer("block1_add").output]
)

point = tf.random.normal((1, 6))
with tf.GradientTape(persistent=True) as tape:
    tape.watch(point)
    z, z_tilde = terms(point)
of_f = tf.reshape(tape.jacobian(z, point), (6, 6)).numpy()
of_h = tf.reshape(tape.jacobian(z_tilde, point), (6, 6)).numpy()

figure, panels = plt.subplots(1, 3, figsize=(9, 2.8))
for panel, matrix, title in zip(
    panels, (of_f, of_h, of_h - of_f), ("dF/dx", "dH/dx", "their difference"), strict=True
):
    panel.imshow(matrix, cmap="RdBu", vmin=-1.5, vmax=1.5)
    panel.set(title=title, xticks=[], yticks=[])
plt.show()
np.testing.assert_allclose(of_h - of_f, np.eye(6), atol=1e-6)

# %% [markdown]
# The difference is the identity matrix, up to rounding.
#
# ## A whole network: which path trains which weights
#
# The network has four such blocks in a row, with new weights, and gets a batch of digits. Take the
# weights *before* a block. Their gradient comes back through the input of that block, so it is the
# sum of the gradient through the shortcut and the gradient through the branch. The code computes both
# terms separately and adds them; `both` is the gradient of one backward pass through the whole
# network.

# %%
subject = open_subject("residual_mlp", images=32, zero_gamma=False)
rows = parameters(subject.model, subject.images, subject.labels)
print(
    f"{'parameter':24}{'next sum':10}{'by shortcut':>12}{'by branch':>12}{'both':>10}{'error':>10}"
)
for row in rows:
    if row.through:
        print(
            f"{row.parameter:24}{row.through:10}{row.identity_norm:12.4f}"
            f"{row.branch_norm:12.4f}{row.total_norm:10.4f}{row.relative_error:10.1e}"
        )
    else:
        print(f"{row.parameter:24}{'':10}{'':12}{'':12}{row.total_norm:10.4f}")

# %% [markdown]
# The answer to the first question: **nothing is skipped.** Every weight of every branch gets its
# gradient. The shortcut has no weights; it adds a second path back to the layers before it, and the
# two terms are summed. $W_2$ of the last block receives $dJ/d\tilde Z$ in full, because
# $\partial\tilde Z/\partial Z = I$: the sum passes the same gradient to both of its operands.
#
# The vectors add up, but their norms do not: in a new network the two terms are nearly orthogonal.
#
# ## A convolutional network: the two terms at each block
#
# The network is a new ResNet-20, with the branches initialized as in the paper. The plot shows the
# gradient at the input of each block, from the last block (right) back to the first (left):

# %%
subject = open_subject("resnet20", images=32, zero_gamma=False)
result = gradients(subject.model, subject.images, subject.labels)
Image(explain_plots.gradient_split(result.as_json(), "split.png"))

# %% [markdown]
# Neither path dominates: the branch carries from 0.8 times as much of the gradient as the shortcut
# (last block) to three times as much (first block). Usually the
# branches are initialized to 0 instead (the last batch normalization's gamma,
# [Goyal et al. 2017](https://arxiv.org/abs/1706.02677)). Then $F = 0$, each new block is the
# identity, $dF/dx = 0$, and the whole gradient returns through the shortcuts, unchanged from the last
# block to the first:

# %%
subject = open_subject("resnet20", images=32, zero_gamma=True)
zero_branches = gradients(subject.model, subject.images, subject.labels)
for row in zero_branches.blocks:
    print(
        f"{row.name:14}{row.kind:12}shortcut {row.identity_norm:.4f}   branch {row.branch_norm:.4f}"
    )

# %% [markdown]
# ## Depth: the gradient of the first layer
#
# Now the second claim. We compare networks of 20 and 56 layers, with shortcuts and without (the
# *plain counterparts*, with the same layers), before the first training step. One seed is enough to
# show the effect; three would be better.

# %%
rows = by_depth([20, 56], images=32, seeds=1)
Image(explain_plots.first_layer([row.as_json() for row in rows], "first_layer.png"))

# %% [markdown]
# The gradient of the plain network does not vanish. With batch normalization it *grows*, by a factor
# with each layer: [Yang et al. 2019](https://arxiv.org/abs/1902.08129) prove that it must. A learning
# rate that suits the last layers is far too large for the first. With shortcuts the first layer's
# gradient grows slowly: about threefold from 20 to 56 layers, and if the branches start at 0, not at
# all. This is the benefit of skips in the backward pass: gradients have a similar size at any depth.
# They would also arrive without skips.

# %%
norm = {(row.kind, row.depth): row.gradient_norms[0] for row in rows}
plain, residual = (norm[kind, 56] / norm[kind, 20] for kind in ("plain", "residual"))
print(f"from 20 to 56 layers: plain × {plain:.0f}, residual × {residual:.1f}")
assert plain > 20 > residual
assert result.relative_error < 1e-5
assert all(row.branch_norm == 0 for row in zero_branches.blocks)
