# make quickstart   install, train on built-in data, evaluate, export, verify
# make test         install, run the tests
# make test-slow    the proofs that take minutes each
# make clients      an export on real clients: LiteRT, MediaPipe, a browser, C, Kotlin, Arm, GPU
# make notebooks    run the notebooks, with what they show, from their .py files
# make lint         style

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart
SOURCES := setup.cfg pyproject.toml README.md $(shell find keras_resnet cli -type f -not -name '*.pyc')
PYTEST := $(BIN)/pytest

.PHONY: quickstart install test test-slow clients notebooks lint clean

install: $(VENV)/.installed

# Dependencies change seldom, our own files often: two steps, so that the second is quick.
$(VENV)/.dependencies: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test]'
	touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	rm -rf build *.egg-info
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
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
	@echo "On your own photos, one folder a class:"
	@echo "    $(BIN)/keras-resnet train photos/ --image-size 64 --run runs/photos"
	@echo "    $(BIN)/keras-resnet export runs/photos --tflite --quantize int8"

# Two at a time, file by file: a file's tests share what was trained for them. In the order of their
# names, so that what takes longest does not come last.
test: install
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install
	$(PYTEST) -m slow

# CLIENTS="web c" runs those alone; CLIENT_RUN=runs/photos takes that run instead of a small one.
clients: install
	$(BIN)/python tests/clients/run.py $(if $(CLIENT_RUN),--run $(CLIENT_RUN)) $(CLIENTS)

notebooks: install
	$(BIN)/python notebooks/run.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .clients build *.egg-info .pytest_cache .ruff_cache
