# %% [markdown]
# # What a skip connection does, forwards and backwards
#
# About a minute on two CPU cores. Data: 1,797 handwritten digits of the UCI repository,
# which come with the package. You need calculus and a little Keras.
#
# A residual block computes $H(x) = F(x) + x$: a *branch* $F$, some layers with weights, and a
# *shortcut* that hands on $x$ itself ([He et al. 2015](https://arxiv.org/abs/1512.03385)). Two
# things are often said about it, and both can be measured:
#
# 1. *"In the backward pass the gradient skips the layers."* Does it? Are the weights of the branch
#    left out, then?
# 2. *"Skips let the gradient through, so that deep nets can be trained."* Would it not get through
#    otherwise?

# %%
import keras
import numpy as np
import tensorflow as tf
from IPython.display import Image
from matplotlib import pyplot as plt

import keras_resnet as kr
from keras_resnet.explain.gradients import by_depth, gradients, parameters
from keras_resnet.explain.subject import subject
from keras_resnet.report import explain_plots

# %% [markdown]
# ## One block: the Jacobian of H is that of F, plus the identity
#
# Differentiate $H(x) = F(x) + x$ and there is nothing to argue about:
#
# $$\frac{dH}{dx} = \frac{dF}{dx} + I \qquad\text{and so}\qquad
#   \frac{dJ}{dx} = \frac{dJ}{dH}\,\frac{dF}{dx} + \frac{dJ}{dH}.$$
#
# Below is a fully-connected block, in the notation of the question that started this project: $A$
# comes in, $Z = W_2\,\mathrm{relu}(W_1 A + B_1) + B_2$ is the branch, $\tilde Z = Z + A$ the sum.

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
# The difference is the identity matrix, to rounding.
#
# ## A whole net: which path trains which weights
#
# Four such blocks in a row, fresh, on a batch of digits. Take the weights *before* a block. Their
# gradient comes back through that block's input, and so as a sum: what went through the shortcut
# and what went through the branch. Both terms are computed apart and added; `both` is the gradient
# as one backward pass through the whole net gives it.

# %%
seen = subject("residual_mlp", images=32, zero_gamma=False)
rows = parameters(seen.model, seen.images, seen.labels)
print(
    f"{'parameter':24}{'next sum':10}{'by shortcut':>12}{'by branch':>12}{'both':>10}{'error':>10}"
)
for row in rows:
    if row["through"]:
        print(
            f"{row['parameter']:24}{row['through']:10}{row['identity_norm']:12.3f}"
            f"{row['branch_norm']:12.3f}{row['total_norm']:10.3f}{row['relative_error']:10.1e}"
        )
    else:
        print(f"{row['parameter']:24}{'':10}{'':12}{'':12}{row['total_norm']:10.3f}")

# %% [markdown]
# So the answer to the first question is: **nothing is skipped.** Every weight of every branch gets
# its gradient. The shortcut has no weights; it adds a second way back to what lies before it, and
# the two terms are summed. $W_2$ of the last block receives $dJ/d\tilde Z$ in full, since
# $\partial\tilde Z/\partial Z = I$ as well: the sum hands the same gradient to both of its operands.
#
# The norms do not add up, the vectors do: in a fresh net the two terms stand nearly at right angles.
#
# ## A convolutional net: the two terms at each block
#
# ResNet-20, fresh, its branches initialised as in the paper. What reaches the input of each block,
# from the last block (right) back to the first (left):

# %%
seen = subject("resnet20", images=32, zero_gamma=False)
found = gradients(seen.model, seen.images, seen.labels)
Image(explain_plots.gradient_split(found.as_json(), "split.png"))

# %% [markdown]
# Neither way dominates: the branch carries as much as the shortcut. Usually one starts the branches
# at 0 instead (the last batch norm's gamma,
# [Goyal et al. 2017](https://arxiv.org/abs/1706.02677)). Then $F = 0$, each fresh block is the
# identity, $dF/dx = 0$, and all of the gradient returns through the shortcuts, unchanged from end to
# end:

# %%
seen = subject("resnet20", images=32, zero_gamma=True)
still = gradients(seen.model, seen.images, seen.labels)
for row in still.blocks:
    print(
        f"{row.name:14}{row.kind:12}shortcut {row.identity_norm:.4f}   branch {row.branch_norm:.4f}"
    )

# %% [markdown]
# ## Depth: what the first layer gets
#
# Now the second claim. Nets of 20 and 56 layers, with shortcuts and without (their *plain twins*:
# the same layers), before the first step of training. Three seeds each would be better; one is
# enough to see it.

# %%
rows = by_depth([20, 56], images=32, seeds=1)
Image(explain_plots.first_layer(rows, "first_layer.png"))

# %% [markdown]
# The gradient of the plain net does not vanish. With batch norms it *grows*, by a factor with each
# layer: [Yang et al. 2019](https://arxiv.org/abs/1902.08129) prove that it must. A step that suits
# the last layers is far too large for the first. With shortcuts the first layer's gradient hardly
# depends on depth, and with branches from 0 not at all. That is what skips are good for in the
# backward pass: not that gradients arrive, but that they arrive at the same size whatever the depth.

# %%
norm = {(row["kind"], row["depth"]): row["gradient_norms"][0] for row in rows}
plain, residual = (norm[kind, 56] / norm[kind, 20] for kind in ("plain", "residual"))
print(f"from 20 to 56 layers: plain × {plain:.0f}, residual × {residual:.1f}")
assert plain > 20 > residual
assert found.relative_error < 1e-5
assert all(row.branch_norm == 0 for row in still.blocks)
