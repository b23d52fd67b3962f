"""Cells in the manner of Assignment 2, edition by edition, with the numbers that they print.

Four initial losses and the Solver's lines stand in many solved notebooks: they follow from
`np.random.seed(231)` if weights and batches are drawn as the course draws them.
"""

import numpy as np
import pytest

YEARS = (2016, 2017, 2018, 2019, 2021, 2024)

SETUP = """
from __future__ import print_function
from builtins import range
import time
import matplotlib
from cs231n.classifiers.fc_net import *
from cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array
from cs231n.solver import Solver

def rel_error(x, y):
    return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))
"""

CONV_SETUP = """
import numpy as np
from cs231n.classifiers.cnn import *
from cs231n.gradient_check import eval_numerical_gradient_array, eval_numerical_gradient
from cs231n.layers import *
from cs231n.fast_layers import *
from cs231n.solver import Solver
from time import time

def rel_error(x, y):
  return np.max(np.abs(x - y) / (np.maximum(1e-8, np.abs(x) + np.abs(y))))

def assert_checked(forward, backward, arrays, *settings):
  out, cache = forward(*arrays, *settings)
  dout = np.random.randn(*out.shape)
  for array, grad in zip(arrays, backward(dout, cache)):
    numeric = eval_numerical_gradient_array(lambda _: forward(*arrays, *settings)[0], array, dout)
    assert np.allclose(numeric, grad, rtol=1e-6, atol=1e-7)
"""


@pytest.mark.parametrize("year", YEARS)
def test_affine_relu_and_losses(notebook, year):
    run = notebook(year)
    run(SETUP)
    run("""
num_inputs, input_shape, output_dim = 2, (4, 5, 6), 3
size = np.prod(input_shape)
x = np.linspace(-0.1, 0.5, num=num_inputs * size).reshape(num_inputs, *input_shape)
w = np.linspace(-0.2, 0.3, num=output_dim * size).reshape(size, output_dim)
b = np.linspace(-0.3, 0.1, num=output_dim)
out, _ = affine_forward(x, w, b)
correct_out = np.array([[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]])
assert rel_error(out, correct_out) < 1e-8
""")
    run("""
np.random.seed(231)
x, w, b, dout = (np.random.randn(*shape) for shape in ((10, 2, 3), (6, 5), (5,), (10, 5)))
dx_num = eval_numerical_gradient_array(lambda x: affine_forward(x, w, b)[0], x, dout)
dw_num = eval_numerical_gradient_array(lambda w: affine_forward(x, w, b)[0], w, dout)
db_num = eval_numerical_gradient_array(lambda b: affine_forward(x, w, b)[0], b, dout)
_, cache = affine_forward(x, w, b)
dx, dw, db = affine_backward(dout, cache)
assert max(rel_error(dx_num, dx), rel_error(dw_num, dw), rel_error(db_num, db)) < 1e-8
""")
    run("""
x = np.linspace(-0.5, 0.5, num=12).reshape(3, 4)
out, cache = relu_forward(x)
assert rel_error(out[1:], np.array([[0, 0, 0.04545455, 0.13636364],
                                    [0.22727273, 0.31818182, 0.40909091, 0.5]])) < 5e-8
assert (relu_backward(np.ones_like(x), cache) == (x > 0)).all()
from cs231n.layer_utils import affine_relu_forward, affine_relu_backward
x, w, b, dout = (np.random.randn(*shape) for shape in ((2, 3, 4), (12, 10), (10,), (2, 10)))
out, cache = affine_relu_forward(x, w, b)
dx, dw, db = affine_relu_backward(dout, cache)
dw_num = eval_numerical_gradient_array(lambda w: affine_relu_forward(x, w, b)[0], w, dout)
assert rel_error(dw_num, dw) < 1e-8
""")
    run("""
np.random.seed(231)
num_classes, num_inputs = 10, 50
x = 0.001 * np.random.randn(num_inputs, num_classes)
y = np.random.randint(num_classes, size=num_inputs)
for loss_function, about in ((svm_loss, 9), (softmax_loss, 2.3)):
    dx_num = eval_numerical_gradient(lambda x: loss_function(x, y)[0], x, verbose=False)
    loss, dx = loss_function(x, y)
    assert abs(loss - about) < 0.01 and rel_error(dx_num, dx) < 1e-7
""")


@pytest.mark.parametrize("year", YEARS)
def test_two_layer_net(notebook, year):
    """Fresh weights are as the course's seed gives them, so their deviation is right for certain."""
    run = notebook(year)
    run(SETUP)
    cell = run("""
np.random.seed(231)
N, D, H, C = 3, 5, 50, 7
X = np.random.randn(N, D)
y = np.random.randint(C, size=N)
std = 1e-3
model = TwoLayerNet(input_dim=D, hidden_dim=H, num_classes=C, weight_scale=std)
drawn = model.params['W1'].copy()
W1_std = abs(model.params['W1'].std() - std)
W2_std = abs(model.params['W2'].std() - std)
assert W1_std < std / 10, 'First layer weights do not seem right'
assert W2_std < std / 10, 'Second layer weights do not seem right'
assert np.all(model.params['b1'] == 0) and np.all(model.params['b2'] == 0)
model.params['W1'] = np.linspace(-0.7, 0.3, num=D*H).reshape(D, H)
model.params['b1'] = np.linspace(-0.1, 0.9, num=H)
model.params['W2'] = np.linspace(-0.3, 0.4, num=H*C).reshape(H, C)
model.params['b2'] = np.linspace(-0.9, 0.1, num=C)
X = np.linspace(-5.5, 4.5, num=N*D).reshape(D, N).T
scores = model.loss(X)
assert abs(scores[0, 0] - 11.53165108) + abs(scores[2, 6] - 16.2846319) < 1e-7
y = np.asarray([0, 5, 1])
loss, grads = model.loss(X, y)
assert abs(loss - 3.4702243556) < 1e-10
model.reg = 1.0
loss, grads = model.loss(X, y)
assert abs(loss - 26.5948426952) < 1e-10
for reg in [0.0, 0.7]:
  model.reg = reg
  loss, grads = model.loss(X, y)
  for name in ('W2', 'b1', 'b2'):
    f = lambda _: model.loss(X, y)[0]
    grad_num = eval_numerical_gradient(f, model.params[name], verbose=False)
    assert rel_error(grad_num, grads[name]) < 1e-6
""")
    expected = np.random.RandomState(231)
    expected.randn(3, 5)
    expected.randint(7, size=3)
    np.testing.assert_allclose(cell["drawn"], 1e-3 * expected.randn(5, 50))
    assert cell["drawn"].dtype == np.float64


@pytest.mark.parametrize("year", YEARS)
def test_fully_connected_net(notebook, year):
    run = notebook(year)
    run(SETUP)
    cell = run("""
np.random.seed(231)
N, D, H1, H2, C = 2, 15, 20, 30, 10
X = np.random.randn(N, D)
y = np.random.randint(C, size=(N,))
losses = []
for reg in [0, 3.14]:
  model = FullyConnectedNet([H1, H2], input_dim=D, num_classes=C,
                            reg=reg, weight_scale=5e-2, dtype=np.float64)
  loss, grads = model.loss(X, y)
  losses.append(loss)
  for name in ('W2', 'W3', 'b1', 'b2', 'b3')[-3 - (reg == 0):]:
    f = lambda _: model.loss(X, y)[0]
    grad_num = eval_numerical_gradient(f, model.params[name], verbose=False, h=1e-5)
    assert rel_error(grad_num, grads[name]) < 1e-5
""")
    np.testing.assert_allclose(cell["losses"], [2.3004790897684924, 7.052114776533016], rtol=1e-12)


@pytest.mark.parametrize("year", YEARS)
def test_batch_normalisation(notebook, year):
    run = notebook(year)
    run(SETUP)
    cell = run(f"""
np.random.seed(231)
N, D, H1, H2, C = 2, 15, 20, 30, 10
X = np.random.randn(N, D)
y = np.random.randint(C, size=(N,))
losses = []
for reg in [0, 3.14]:
  model = FullyConnectedNet([H1, H2], input_dim=D, num_classes=C,
                            reg=reg, weight_scale=5e-2, dtype=np.float64,
                            {"use_batchnorm=True" if year < 2018 else "normalization='batchnorm'"})
  loss, grads = model.loss(X, y)
  losses.append(loss)
  for name in ('b3', 'gamma1', 'beta2'):
    f = lambda _: model.loss(X, y)[0]
    grad_num = eval_numerical_gradient(f, model.params[name], verbose=False, h=1e-5)
    assert rel_error(grad_num, grads[name]) < 1e-6
assert len(model.bn_params) == 2
""")
    np.testing.assert_allclose(cell["losses"], [2.2611955101340957, 6.996533220108303], rtol=1e-12)
    run("""
np.random.seed(231)
N, D1, D2, D3 = 200, 50, 60, 3
W1, W2 = np.random.randn(D1, D2), np.random.randn(D2, D3)
bn_param, gamma, beta = {'mode': 'train'}, np.ones(D3), np.zeros(D3)
for t in range(50):
  X = np.random.randn(N, D1)
  batchnorm_forward(np.maximum(0, X.dot(W1)).dot(W2), gamma, beta, bn_param)
bn_param['mode'] = 'test'
X = np.random.randn(N, D1)
a_norm, _ = batchnorm_forward(np.maximum(0, X.dot(W1)).dot(W2), gamma, beta, bn_param)
assert np.allclose(a_norm.mean(axis=0), [-0.03927354, -0.04349152, -0.10452688])
assert np.allclose(a_norm.std(axis=0), [1.01531428, 1.01238373, 0.97819988])
""")
    run("""
N, D = 100, 500
x = 5 * np.random.randn(N, D) + 12
gamma, beta, dout = np.random.randn(D), np.random.randn(D), np.random.randn(N, D)
out, cache = batchnorm_forward(x, gamma, beta, {'mode': 'train'})
for one, other in zip(batchnorm_backward(dout, cache), batchnorm_backward_alt(dout, cache)):
  assert rel_error(one, other) < 1e-9
x = x[:4, :5]
gamma, beta, dout = gamma[:5], beta[:5], dout[:4, :5]
fg = lambda a: layernorm_forward(x, a, beta, {'mode': 'train'})[0]
da_num = eval_numerical_gradient_array(fg, gamma.copy(), dout)
_, cache = layernorm_forward(x, gamma, beta, {'mode': 'train'})
dx, dgamma, dbeta = layernorm_backward(dout, cache)
assert rel_error(da_num, dgamma) < 1e-8
""")


@pytest.mark.parametrize("year", YEARS)
def test_dropout(notebook, year):
    """p in the edition's meaning: what is set to zero is p of all until 2017, 1 - p since."""
    keeps = year >= 2018
    word = "dropout_keep_ratio" if year >= 2021 else "dropout"
    run = notebook(year)
    run(SETUP)
    cell = run("""
np.random.seed(231)
x = np.random.randn(500, 500) + 10
zeros = {}
for p in [0.25, 0.4, 0.7]:
  out, _ = dropout_forward(x, {'mode': 'train', 'p': p})
  out_test, _ = dropout_forward(x, {'mode': 'test', 'p': p})
  assert abs(out.mean() - x.mean()) < 0.1 and (out_test == x).all()
  zeros[p] = (out == 0).mean()
dropout_param = {'mode': 'train', 'p': 0.2, 'seed': 123}
x = x[:10, :10]
dout = np.random.randn(*x.shape)
out, cache = dropout_forward(x, dropout_param)
dx = dropout_backward(dout, cache)
dx_num = eval_numerical_gradient_array(lambda xx: dropout_forward(xx, dropout_param)[0], x, dout)
assert rel_error(dx, dx_num) < 1e-8
""")
    for p, zeros in cell["zeros"].items():
        assert zeros == pytest.approx(1 - p if keeps else p, abs=0.005)
    run(f"""
np.random.seed(231)
X = np.random.randn(2, 15)
y = np.random.randint(10, size=(2,))
initial = []
for p in {[1, 0.75, 0.5] if keeps else [0, 0.25, 0.5]}:
  model = FullyConnectedNet([20, 30], input_dim=15, num_classes=10, weight_scale=5e-2,
                            dtype=np.float64, {word}=p, seed=123)
  loss, grads = model.loss(X, y)
  initial.append(loss)
  for name in ('b1', 'b2', 'b3'):
    f = lambda _: model.loss(X, y)[0]
    grad_num = eval_numerical_gradient(f, model.params[name], verbose=False, h=1e-5)
    assert rel_error(grad_num, grads[name]) < 1e-6
assert abs(initial[0] - 2.3004790897684924) < 1e-12 and len(set(initial)) == 3
""")


KEPT = (0.25, 0.4, 0.7), [0.749784, 0.600796, 0.30074], (1, 0.75), 2.3023714897
SOLVED = [  # year, word, p of three masks, their shares of zeros, two nets, the second one's loss
    (2017, "dropout", (0.3, 0.6, 0.75), [0.300876, 0.598632, 0.749504], (0, 0.25), 2.30486921512),
    (2018, "dropout", *KEPT),
    (2024, "dropout_keep_ratio", *KEPT),
]


@pytest.mark.parametrize(("year", "word", "ps", "zeros", "nets", "loss"), SOLVED)
def test_masks_are_those_of_solved_notebooks(notebook, year, word, ps, zeros, nets, loss):
    """Many hold these numbers: their masks are np.random.rand(*x.shape) < p, or >= p until 2017."""
    run = notebook(year)
    run(SETUP)
    cell = run(f"""
np.random.seed(231)
x = np.random.randn(500, 500) + 10
zeros = [(dropout_forward(x, {{'mode': 'train', 'p': p}})[0] == 0).mean() for p in {ps}]
np.random.seed(231)
X, y = np.random.randn(2, 15), np.random.randint(10, size=2)
for p in {nets}:
    model = FullyConnectedNet([20, 30], input_dim=15, num_classes=10, weight_scale=5e-2,
                              dtype=np.float64, {word}=p, seed=123)
loss, grads = model.loss(X, y)
""")
    assert cell["zeros"] == zeros
    assert cell["loss"] == pytest.approx(loss, abs=1e-10)


@pytest.mark.parametrize("year", [2016, 2019, 2024])
def test_convolution(notebook, year):
    run = notebook(year)
    run(CONV_SETUP)
    run("""
x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
b = np.linspace(-0.1, 0.2, num=3)
correct = np.array([[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]])
for conv in (conv_forward_naive, conv_forward_fast, conv_forward_im2col, conv_forward_strides):
  out, _ = conv(x, w, b, {'stride': 2, 'pad': 1})
  assert out.shape == (2, 3, 2, 2) and rel_error(out[0, 0], correct) < 1e-7
pool_param = {'pool_width': 2, 'pool_height': 2, 'stride': 2}
x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
correct = np.array([[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]])
for pool in (max_pool_forward_naive, max_pool_forward_fast):
  assert rel_error(pool(x, pool_param)[0][0, 0], correct) < 1e-7
""")
    run("""
np.random.seed(231)
x, w, b = np.random.randn(2, 3, 4, 5), np.random.randn(2, 3, 3, 3), np.random.randn(2,)
assert_checked(conv_forward_naive, conv_backward_naive, (x, w, b), {'stride': 1, 'pad': 1})
assert_checked(conv_forward_fast, conv_backward_fast, (x, w, b), {'stride': 2, 'pad': 1})
pool_param = {'pool_height': 2, 'pool_width': 2, 'stride': 2}
dout = np.random.randn(2, 2, 3, 3)
x = np.random.randn(2, 2, 6, 6)
dx_num = eval_numerical_gradient_array(lambda x: max_pool_forward_naive(x, pool_param)[0], x, dout)
for forward, backward in ((max_pool_forward_naive, max_pool_backward_naive),
                          (max_pool_forward_fast, max_pool_backward_fast)):
  out, cache = forward(x, pool_param)
  assert rel_error(backward(dout, cache), dx_num) < 1e-7
""")
    run("""
from cs231n.layer_utils import conv_relu_pool_forward, conv_relu_pool_backward
from cs231n.layer_utils import conv_relu_forward, conv_relu_backward
x, w, b = np.random.randn(2, 3, 4, 6), np.random.randn(3, 3, 3, 3), np.random.randn(3,)
conv_param, gamma, beta = {'stride': 1, 'pad': 1}, np.random.randn(3), np.random.randn(3)
assert_checked(conv_relu_forward, conv_relu_backward, (x, w, b), conv_param)
assert_checked(conv_relu_pool_forward, conv_relu_pool_backward, (x, w, b), conv_param, pool_param)
assert_checked(conv_bn_relu_forward, conv_bn_relu_backward, (x, w, b, gamma, beta), conv_param,
               {'mode': 'train'})
x = 5 * np.random.randn(2, 6, 4, 5) + 12
gamma, beta = np.random.randn(1, 6, 1, 1), np.random.randn(1, 6, 1, 1)
assert_checked(spatial_groupnorm_forward, spatial_groupnorm_backward, (x, gamma, beta), 2, {})
gamma, beta = gamma.ravel(), beta.ravel()
assert_checked(spatial_batchnorm_forward, spatial_batchnorm_backward, (x, gamma, beta),
               {'mode': 'train'})
""")
    run("""
model = ThreeLayerConvNet()
X, y = np.random.randn(50, 3, 32, 32), np.random.randint(10, size=50)
loss, grads = model.loss(X, y)
assert abs(loss - np.log(10)) < 1e-3
model.reg = 0.5
loss, grads = model.loss(X, y)
assert 2.5 < loss < 2.52
X, y = np.random.randn(2, 3, 16, 16), np.random.randint(10, size=2)
model = ThreeLayerConvNet(num_filters=3, filter_size=3, input_dim=(3, 16, 16), hidden_dim=7,
                          dtype=np.float64)
loss, grads = model.loss(X, y)
for param_name in ('b1', 'b2', 'W3', 'b3'):
  f = lambda _: model.loss(X, y)[0]
  param_grad_num = eval_numerical_gradient(f, model.params[param_name], verbose=False, h=1e-6)
  assert rel_error(param_grad_num, grads[param_name]) < 1e-2
from cs231n.vis_utils import visualize_grid
grid = visualize_grid(model.params['W1'].transpose(0, 2, 3, 1))
assert grid.shape == (7, 7, 3) and grid.astype('uint8').max() == 255
""")


@pytest.mark.parametrize("year", [2017, 2024])
def test_update_rules(notebook, year):
    notebook(year)("""
import numpy as np
from cs231n.optim import sgd, sgd_momentum, rmsprop, adam
N, D = 4, 5
w = np.linspace(-0.4, 0.6, num=N*D).reshape(N, D)
dw = np.linspace(-0.6, 0.4, num=N*D).reshape(N, D)
between = lambda low, high: np.linspace(low, high, num=N*D).reshape(N, D)
config = {'learning_rate': 1e-3, 'velocity': between(0.6, 0.9)}
next_w, _ = sgd_momentum(w, dw, config=config)
assert np.allclose(next_w[0], [0.1406, 0.20738947, 0.27417895, 0.34096842, 0.40775789])
assert np.allclose(config['velocity'][3, 3:], [0.79544211, 0.8096])
config = {'learning_rate': 1e-2, 'cache': between(0.6, 0.9)}
next_w, _ = rmsprop(w, dw, config=config)
assert np.allclose(next_w[0], [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247])
assert np.allclose(config['cache'][0, :2], [0.5976, 0.6126277])
config = {'learning_rate': 1e-2, 'm': between(0.6, 0.9), 'v': between(0.7, 0.5), 't': 5}
next_w, _ = adam(w, dw, config=config)
assert np.allclose(next_w[3], [0.38774145, 0.44031188, 0.49288093, 0.54544852, 0.59801459])
assert np.allclose(config['v'][0, :2], [0.69966, 0.68908382])
assert np.allclose(config['m'][0, :2], [0.48, 0.49947368])
""")


# ---------------------------------------------------------------------------- training on CIFAR-10

DATA = """
from cs231n.classifiers.fc_net import *
from cs231n.classifiers.cnn import *
from cs231n.data_utils import get_CIFAR10_data
from cs231n.solver import Solver
data = get_CIFAR10_data()
for k, v in list(data.items()):
  print(('%s: ' % k, v.shape))
"""
TRAIN = """
np.random.seed(231)
small_data = {{
  'X_train': data['X_train'][:{num_train}],
  'y_train': data['y_train'][:{num_train}],
  'X_val': data['X_val'],
  'y_val': data['y_val'],
}}
{model}
solver = Solver(model, small_data,
                num_epochs={num_epochs}, batch_size={batch_size},
                update_rule='adam',
                optim_config={{
                  'learning_rate': {rate},
                }},
                verbose=True, print_every={print_every})
solver.train()
assert solver.best_val_acc == max(solver.val_acc_history)
"""
NORMALISED = """
hidden_dims = [100, 100, 100, 100, 100]
model = FullyConnectedNet(hidden_dims, weight_scale=2e-2, normalization='batchnorm')
FullyConnectedNet(hidden_dims, weight_scale=2e-2, normalization=None)
"""
RUNS = [
    (
        dict(model="model = FullyConnectedNet([500], dropout=1)", num_train=500, num_epochs=3,
             batch_size=100, rate=5e-4, print_every=100),
        "(Iteration 1 / 15) loss: 7.856643\n"
        "(Epoch 0 / 3) train acc: 0.260000; val_acc: 0.184000\n"
        "(Epoch 1 / 3) train acc: 0.416000; val_acc: 0.258000\n"
        "(Epoch 2 / 3) train acc: 0.482000; val_acc: 0.276000\n"
        "(Epoch 3 / 3) train acc: 0.532000; val_acc: 0.277000\n",
    ),
    (
        dict(model=NORMALISED, num_train=1000, num_epochs=1, batch_size=50, rate=1e-3,
             print_every=20),
        "(Iteration 1 / 20) loss: 2.340974\n(Epoch 0 / 1) train acc: 0.10",
    ),
    (
        dict(model="model = ThreeLayerConvNet(weight_scale=1e-2)", num_train=100, num_epochs=1,
             batch_size=50, rate=1e-3, print_every=1),
        "(Iteration 1 / 2) loss: 2.414060\n",
    ),
]  # fmt: skip


def test_the_printed_lines(notebook, real_data, capsys):
    """On CIFAR-10 itself the cells print what they print in solved notebooks, as far as rounding does
    not part the runs.
    """
    run = notebook(2019)
    run(DATA)
    assert capsys.readouterr().out.startswith(
        "('X_train: ', (49000, 3, 32, 32))\n('y_train: ', (49000,))\n('X_val: ', (1000, 3, 32, 32))\n"
    )
    for cell, lines in RUNS:
        run(TRAIN.format(**cell))
        assert capsys.readouterr().out.startswith(lines)
