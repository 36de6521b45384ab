# Every target makes its own environment and installs what it needs; a second run finds the stamp files and starts at once.
#
#   make demo               fine-tune the built-in model and show the answers before and after
#   make demo METHOD=lora   the same with LoRA; ARGS="..." passes anything else on
#   make lab                JupyterLab with the notebook extra
#   make test               the whole test suite; ARGS="tests/recipe -x" passes on to pytest
#   make test-browser       the workbench in JupyterLab, Notebook 7 and Voila, driven in Chromium, which has to be on the path
#   make pictures           the pictures of docs/workbench.md, made anew by the browser tests
#   make test-v4            the tests marked both_ends, at the lowest transformers version that we support
#   make lint               ruff check, ruff format --check, mypy --strict
#   make bench              our speed against the transformers Trainer, in an environment of its own; DATA=FILE is a SQuAD-format file
#   make reference          writes docs/recipe-reference.md from the schema
#   make clean              removes the environments and every cache

SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=
METHOD ?=
DATA ?= $(wildcard ../shared/data/xquad/xquad.en.json)

pip = $(1)/bin/python -m pip install --quiet --quiet --disable-pip-version-check
bundle = widgets/automodel_widgets/static/surface.js
# The front end is made by an installation; this makes it again when one of its sources is newer.
frontend = @test -f $(bundle) -a -z "$$(find widgets/frontend/src -newer $(bundle) -print -quit)" || { echo "building the front end"; $(call pip,.venv) --no-deps -e .; }

.DEFAULT_GOAL := help
.PHONY: help demo lab test test-browser pictures test-v4 lint bench reference clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/.installed-base
	.venv/bin/automodel demo $(if $(METHOD),--method $(METHOD)) $(ARGS)

lab: .venv/.installed-notebook
	$(frontend)
	.venv/bin/automodel lab $(ARGS)

test: .venv/.installed-dev
	env -u AUTOMODEL_OTHER_PYTHON .venv/bin/python -m pytest -m "not browser" $(ARGS)

test-browser pictures: .venv/.installed-browser
	$(frontend)
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null || { echo "Chromium is needed; on Debian: apt install chromium fonts-dejavu-core" >&2; exit 2; }
	$(if $(filter pictures,$@),AUTOMODEL_PICTURES=docs/images/panels) .venv/bin/python -m pytest $(if $(filter pictures,$@),tests/browser/test_pictures.py,-m browser) $(ARGS)

test-v4: .venv-v4/.installed-dev
	.venv-v4/bin/python -m pytest -m both_ends $(ARGS)

lint: .venv/.installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	.venv/bin/mypy --strict tests/house/front_door_types.py

bench: .venv-bench/.installed-base
	.venv-bench/bin/python benchmarks/sft_cpu.py $(if $(DATA),--data $(DATA)) $(ARGS)

reference: .venv/.installed-base
	.venv/bin/python -m automodel.recipe.reference > docs/.reference && mv docs/.reference docs/recipe-reference.md

clean:
	rm -rf .venv .venv-v4 .venv-bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written only after its step has worked, so an interrupted step is simply done again.
.venv/.created .venv-v4/.created .venv-bench/.created:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { echo "Python 3.10 to 3.13 is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "creating $(@D)"
	@$(PYTHON) -m venv --clear $(@D) || { echo "The venv module is missing; on Debian: apt install python3-venv" >&2; exit 2; }
	@touch $@

.venv/.installed-base .venv-bench/.installed-base: %/.installed-base: %/.created pyproject.toml constraints.txt
	@echo "installing the library into $(@D)"
	@$(call pip,$(@D)) -c constraints.txt -e .
	@touch $@

.venv/.installed-notebook: .venv/.installed-base
	@echo "installing the notebook extra into $(@D)"
	@$(call pip,$(@D)) -c constraints.txt -e '.[notebook]'
	@touch $@

.venv/.installed-dev: .venv/.installed-base
	@echo "installing the dev extra into $(@D)"
	@$(call pip,$(@D)) -c constraints.txt -e '.[dev]'
	@touch $@

.venv/.installed-browser: .venv/.installed-dev .venv/.installed-notebook
	@echo "installing the browser extra into $(@D)"
	@$(call pip,$(@D)) -c constraints.txt -e '.[notebook,dev,browser]'
	@touch $@

.venv-v4/.installed-dev: .venv-v4/.created pyproject.toml constraints-v4.txt
	@echo "installing the library and the dev extra into $(@D)"
	@$(call pip,$(@D)) -c constraints-v4.txt -e '.[dev]'
	@touch $@
