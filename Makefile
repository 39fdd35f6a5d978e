# make quickstart   install, train on built-in data, evaluate, export, verify
# make test         install, with what the tests need, and run the tests
# make test-oldest  the oldest versions that setup.cfg allows, and a part of the tests
# make test-slow    the proofs that take minutes each
# make clients      an export on real clients: LiteRT, MediaPipe, a browser, C, Kotlin, Arm, GPU
# make notebooks    run the notebooks, with what they show, from their .py files
# make lint         style and types

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN ?= runs/quickstart
SOURCES := setup.cfg pyproject.toml README.md $(shell find keras_resnet cli -type f -not -name '*.pyc')
PYTEST := $(BIN)/pytest

.PHONY: quickstart install test test-oldest test-slow clients notebooks lint clean
.NOTPARALLEL:  # two pips at once would damage the environment

install: $(VENV)/.installed

# Dependencies change seldom, our own files often: two steps, so that the second is quick.
$(VENV)/.dependencies: setup.cfg pyproject.toml
	@echo "Installing into $(VENV): about 750 MB to download, 2.5 GB on the disk; most is TensorFlow."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) .
	touch $@

# In the same environment, what only the tests, the notebooks and `make lint` need.
$(VENV)/.test-dependencies: $(VENV)/.dependencies
	@echo "Installing what the tests need into $(VENV): about 200 MB more to download, 0.8 GB more on the disk."
	$(PIP) '.[test]'
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
	@echo "    $(BIN)/keras-resnet train photos/ --image-size 64 --run runs/photos"
	@echo "    $(BIN)/keras-resnet export runs/photos --tflite --quantize int8"

# Two at a time, file by file: a file's tests share what was trained for them. In the order of their
# names, so that what takes longest does not come last.
test: $(VENV)/.test-dependencies install
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test-dependencies install
	$(PYTEST) -m slow

# In an environment of its own, .venv-oldest, made anew each time. uv can choose the oldest versions.
OLDEST := .venv-oldest
OLDEST_TESTS := test_data_tfds test_data_sources test_report
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

# CLIENTS="web c" runs those alone; CLIENT_RUN=runs/photos takes that run instead of a small one.
clients: $(VENV)/.test-dependencies install
	$(BIN)/python tests/clients/run.py $(if $(CLIENT_RUN),--run $(CLIENT_RUN)) $(CLIENTS)

notebooks: $(VENV)/.test-dependencies install
	$(BIN)/python notebooks/run.py

lint: $(VENV)/.test-dependencies install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OLDEST) .clients build *.egg-info .pytest_cache .ruff_cache .mypy_cache
