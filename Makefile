# make quickstart   install, train on built-in data, evaluate, export, verify
# make test         install with the test dependencies, and run the tests
# make test-oldest  run some tests with the oldest versions that setup.cfg allows
# make test-slow    run the slow tests, minutes each
# make clients      test an export with LiteRT, MediaPipe, a browser, C, Kotlin, Arm and a GPU
# make benchmark    compare the speed with Keras, PyTorch, ONNX Runtime and others, on the CPU
# make docs         build the documentation into docs/_build
# make notebooks    run the notebooks from their .py files, and save the outputs
# make lint         check style and types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN ?= runs/quickstart
SOURCES := setup.cfg pyproject.toml README.md $(shell find keras_resnet cli -type f -not -name '*.pyc')
PYTEST := $(BIN)/pytest

.PHONY: quickstart install test test-oldest test-slow clients benchmark docs notebooks lint clean
.NOTPARALLEL:  # two pips at once would damage the environment

install: $(VENV)/.installed

# Dependencies change seldom, our own files often: two steps, and the second is fast.
$(VENV)/.dependencies: setup.cfg pyproject.toml
	@echo "Installing into $(VENV): about 750 MB to download, 2.5 GB on the disk; most is TensorFlow."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) .
	touch $@

# In the same environment: the dependencies of the tests, the notebooks and `make lint`.
$(VENV)/.test-dependencies: $(VENV)/.dependencies
	@echo "Installing the test dependencies into $(VENV): about 200 MB more to download, 0.8 GB more on the disk."
	$(PIP) '.[test]'
	touch $@

# In the same environment too, and the next.
$(VENV)/.benchmark-dependencies: $(VENV)/.dependencies
	@echo "Installing the benchmark's dependencies into $(VENV): about 3 GB to download, 6 GB on the disk; most is PyTorch."
	$(PIP) '.[benchmark]'
	touch $@

$(VENV)/.docs-dependencies: $(VENV)/.dependencies
	@echo "Installing the documentation dependencies into $(VENV): about 20 MB to download, 70 MB on the disk."
	$(PIP) '.[docs]'
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	rm -rf build *.egg-info
	$(PIP) --no-deps --force-reinstall .
	rm -rf build *.egg-info
	touch $@

quickstart: install
	rm -rf $(RUN)
	$(BIN)/keras-resnet train digits --epochs 14 --seed 1 --run $(RUN)
	$(BIN)/keras-resnet evaluate $(RUN)
	$(BIN)/keras-resnet export $(RUN) --saved-model --tflite --quantize none --quantize int8 --max-drop 0.5
	$(BIN)/keras-resnet verify $(RUN) --max-drop 0.5
	@echo
	@echo "The run is in $(RUN): open $(RUN)/report.html"
	@echo "For the phone: $(RUN)/export/model_int8.tflite with labels.txt and preprocess.json"
	@echo "On your own photos, one folder per class:"
	@echo "    $(BIN)/keras-resnet ship photos/"

# In two processes, file by file: the tests of a file share trained runs. In the order of their names:
# otherwise the longest would come last.
test: $(VENV)/.test-dependencies install
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test-dependencies install
	$(PYTEST) -m slow

# In its own environment, .venv-oldest, created each time. uv can choose the oldest versions.
OLDEST := .venv-oldest
OLDEST_TESTS := test_data_tfds test_data_sources test_data_pixels test_report
test-oldest:
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python \
	    --resolution lowest-direct -r setup.cfg 'pytest>=8.4'
	rm -rf build *.egg-info
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	rm -rf build *.egg-info
	$(OLDEST)/bin/keras-resnet train digits --model resnet8 --epochs 1 --run $(OLDEST)/run
	$(OLDEST)/bin/pytest $(OLDEST_TESTS:%=tests/%.py)

# CLIENTS="web c" runs only those; CLIENT_RUN=runs/photos uses that run instead of a small one.
clients: $(VENV)/.test-dependencies install
	$(BIN)/python tests/clients/run.py $(if $(CLIENT_RUN),--run $(CLIENT_RUN)) $(CLIENTS)

# ROWS="C5 C12" measures only those.
benchmark: $(VENV)/.benchmark-dependencies install
	$(BIN)/python benchmarks/run.py $(if $(ROWS),--only $(ROWS))

docs: $(VENV)/.docs-dependencies install
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env docs docs/_build

notebooks: $(VENV)/.test-dependencies install
	$(BIN)/python notebooks/run.py

lint: $(VENV)/.test-dependencies install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin

clean:
	rm -rf $(VENV) $(OLDEST) .clients docs/_build build *.egg-info .pytest_cache .ruff_cache .mypy_cache
