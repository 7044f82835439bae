# Two commands set everything up on a fresh machine: `make submission` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
ROOT := $(DEMO)/phantom/uw-madison-gi-tract-image-segmentation

.PHONY: submission test test-quick lint weights clean

# A made-up competition, the shipped weights and the real inference notebook: from nothing to a score.
submission: $(INSTALLED)
	rm -rf $(DEMO)
	$(BIN)/gitract phantom $(DEMO)/phantom --seed 2022 --cases 1 --days 1 --test-cases 3
	$(BIN)/gitract rehearse $(ROOT) --bundle weights/phantom --kernel kernels/inference --once -o $(DEMO)/kaggle
	$(BIN)/gitract check $(DEMO)/kaggle/working/submission.csv --sample $(ROOT)/sample_submission.csv --root $(ROOT)
	$(BIN)/gitract score $(DEMO)/kaggle/working/submission.csv --truth $(DEMO)/phantom/solution.csv --root $(ROOT)
	$(BIN)/gitract report $(DEMO)/kaggle/working/submission.csv --truth $(DEMO)/phantom/solution.csv --root $(ROOT) -o $(DEMO)/report.html

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Without whole notebooks' drills, fresh interpreters and memory over 40 scans: half the time.
test-quick: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# How weights/phantom was made: about 40 minutes on two cores whose CPU computes in bfloat16.
weights: $(INSTALLED)
	$(BIN)/gitract phantom build/phantom --seed 1 --cases 20 --days 2
	$(BIN)/gitract prepare build/phantom/uw-madison-gi-tract-image-segmentation -o build/work --folds 4
	for fold in 0 1; do \
	  $(BIN)/gitract train build/work -o build/run --preset tiny --fold $$fold --set training.precision=bf16 || exit; \
	done
	$(BIN)/gitract evaluate build/run
	$(BIN)/gitract bundle build/run -o weights/phantom

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
