# Everything a developer does. "make help" lists the targets.
#
# The first target that needs it makes .venv with Python packages from pip;
# afterwards that costs nothing until setup.cfg or the native source changes.

PYTHON ?= python3
VENV ?= .venv
TRIAL_FLAGS ?=
BENCH_FLAGS ?=
ATTACK_FLAGS ?=
FUZZ_FLAGS ?=
SOAK_FLAGS ?=
CROWD_FLAGS ?=
COVERAGE_FLAGS ?= --fail-under=97.5
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TESTS ?=

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport VIRTUAL_ENV

RUN := $(VENV)/bin/python
BASE := $(VENV)/.base
DEV := $(VENV)/.dev
DOCS := $(VENV)/.docs
BENCH := $(VENV)/.bench
FUZZ := $(VENV)/.fuzz
OLDEST := $(VENV)-minimum
COMPILED := $(VENV)-compiled
MINIMUM := $(OLDEST)/.base
BUILT := $(COMPILED)/.built
SOURCES := setup.cfg setup.py pyproject.toml $(wildcard twisted_rudp/kernels/*.[ch])

# What the suite is made of, modules and packages below tests/. What takes longest is first, for
# each of several processes takes the next test as soon as it has finished one.
PARTS := $(subst /,.,$(basename $(wildcard tests/test_*.py)) \
	$(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py)))
LONGEST := tests.test_reactors tests.packaging tests.test_vectors
# These wait most of the time, so they run beside the others. Programs of others in it do not bear
# being starved, so the others are nice.
INTEROP := tests.interop
INTEROP_JOBS ?= 3
SUITE := $(LONGEST) $(filter-out $(LONGEST) $(INTEROP),$(PARTS))
# The modules of tests in some folders.
modules = $(subst /,.,$(basename $(wildcard $(patsubst %,tests/%/test_*.py,$(1)))))
# How transports do on paths. These simulate for long, and what they show is the same with other kernels,
# with older packages, and compiled. The paths of core and of each transport are compiled all the same.
PATHS := %.test_loss_patterns %.test_far_ahead %.test_interactive %.test_poor_paths %.test_longer_path %.test_mux_bulk
# What calls kernels, or uses sockets in another way without them. What is above a transport is the same with both.
PURE := tests.kernels tests.core.test_batch tests.core.test_queues tests.mux tests.net tests.conformance.test_kcp \
	$(filter-out $(PATHS) %.test_paths %.test_path %.test_releasepeer %.test_liveness,$(call modules,kcp raknet qotp))
# What imports other packages: Twisted, and for some parts of transports those of ciphers and codes.
OLD := $(addprefix tests.,test_asyncio test_errors test_examples test_strings conformance.test_kcp conformance.test_tcp \
	discovery mux net service testing kernels.test_masks \
	kcp.test_crypto kcp.test_fec kcp.test_legacy_ciphers kcp.test_reed_solomon \
	qotp.test_authentication qotp.test_crypto qotp.test_keys qotp.test_transcripts) \
	$(filter-out $(PATHS),$(call modules,endpoints))
# What runs lines of the package that nothing else does. The rest runs copies, or the same again.
COUNTED := $(filter-out $(LONGEST) tests.benchmarks tests.docs tests.test_architecture tests.test_conventions,$(SUITE))
# What drives compiled modules. The other parts use them through these, or not at all.
NATIVE := $(filter-out $(PATHS) %.test_toy %.test_tcp,$(call modules,core kcp raknet qotp mux endpoints conformance)) \
	tests.net tests.testing tests.tracing tests.test_stats tests.test_compiled

.DEFAULT_GOAL := help
.PHONY: help demo test test-pure test-minimum lint types docs packaging interop-packages interop \
	bench bench-links bench-tunnel bench-workers attack fuzz soak calls news clean
.PHONY: coverage environments compiled test-compiled bench-compiled wheels crowd sizes ticks

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(BASE)  ## a download through two forwarders and a lossy link, under a minute
	@$(VENV)/bin/rudp demo

test: $(BASE)  ## the whole suite, on all cores; TESTS=tests.service runs a part
ifeq ($(TESTS),)
	@failed=0; said=$$(mktemp); trap 'rm -f "$$said"' EXIT; trap 'kill $$beside; exit 1' INT TERM; set -x; \
	$(RUN) -m twisted.trial --jobs=$(INTEROP_JOBS) $(TRIAL_FLAGS) $(INTEROP) > "$$said" 2>&1 & beside=$$!; \
	nice $(RUN) -m twisted.trial --jobs=$(JOBS) $(TRIAL_FLAGS) $(SUITE) || failed=1; \
	wait $$beside || failed=1; \
	{ set +x; } 2>/dev/null; cat "$$said"; exit $$failed
else
	$(RUN) -m twisted.trial $(TRIAL_FLAGS) $(TESTS)
endif

test-pure: $(BASE)  ## what calls kernels, with the Python ones instead of the native ones
	TWISTED_RUDP_PURE=1 $(RUN) -m twisted.trial $(TRIAL_FLAGS) $(or $(TESTS),$(PURE))

test-minimum: $(MINIMUM)  ## what imports other packages, with the oldest that are allowed
	$(OLDEST)/bin/python -m twisted.trial $(TRIAL_FLAGS) $(or $(TESTS),$(OLD))

coverage: $(DEV)  ## which lines of the package the tests run; TESTS=tests.kcp runs a part
	rm -f .coverage .coverage.*
	$(RUN) -m coverage run -m twisted.trial --jobs=$(JOBS) $(TRIAL_FLAGS) $(or $(TESTS),$(COUNTED))
	$(RUN) -m coverage combine -q
	$(RUN) -m coverage report $(COVERAGE_FLAGS)

compiled: $(BUILT)  ## the package compiled by mypyc, in .venv-compiled; the checkout stays interpreted
	@$(COMPILED)/bin/rudp --version

# The tests run where Python finds no package beside them, so they get the one that is installed.
test-compiled: $(BUILT)  ## what drives the compiled modules, with them
	cd $(COMPILED)/tree && TWISTED_RUDP_EXPECT=compiled ../bin/python -m twisted.trial --jobs=$(JOBS) $(TRIAL_FLAGS) $(or $(TESTS),$(NATIVE))

wheels: $(BASE)  ## all wheels that this machine can build, into dist/, each installed and asked what it uses
	$(RUN) -m tests.packaging.wheels --out dist

lint: $(DEV)  ## ruff
	$(RUN) -m ruff check .

types: $(DEV)  ## mypy --strict with the interfaces of zope
	$(RUN) -m mypy

docs: $(DOCS)  ## the manual and the API reference, below docs/_build
	$(RUN) docs/arguments.py
	$(RUN) -m sphinx -W -q -b html docs docs/_build/html
	$(RUN) -m pydoctor -W -qq --make-html --html-output=docs/_build/html/api --project-name=twisted_rudp \
	  --docformat=epytext --project-base-dir=. twisted_rudp
	@echo "open docs/_build/html/index.html"

packaging: $(BASE)  ## build wheel and sdist, install each into a fresh environment
	$(RUN) -m twisted.trial $(TRIAL_FLAGS) tests.packaging

interop-packages:  ## Debian packages for the interop tests, as root; without them those are skipped
	@if ! { command -v syncthing && command -v ip && command -v kcptun-server && command -v redis-server && command -v nginx; } >/dev/null \
	  && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && apt-get install -y --no-install-recommends syncthing iproute2 kcptun redis-server nginx libnginx-mod-stream; fi

interop: $(BASE) interop-packages  ## against kcp-go, go-raknet, the C and C++ originals and Syncthing; builds or installs them first
	$(RUN) -m twisted.trial $(TRIAL_FLAGS) tests.interop

bench: $(BENCH)  ## beside kcp-go, go-raknet, aioquic and TCP, here; BENCH_FLAGS='--only plain echo' does a part and keeps the rest
	$(RUN) -m tests.benchmarks --json docs/benchmarks.json $(BENCH_FLAGS)
	$(RUN) -m tests.benchmarks.publish docs/benchmarks.json docs/benchmarks.rst
	$(RUN) -m tests.benchmarks.discovery

bench-tunnel: $(BENCH)  ## rudp kcptun-client and -server, and forward --mux, beside Debian's kcptun; TUNNEL_FLAGS='--megabytes 100 --rounds 3'
	$(RUN) -m tests.benchmarks.tunnel $(TUNNEL_FLAGS)

crowd: $(BASE)  ## 1000 sessions with small messages: kcp-go's server, ours interpreted, and compiled after make compiled
	$(RUN) -m tests.benchmarks.crowd $(CROWD_FLAGS)

sizes: $(BENCH)  ## what an exchange and a session cost a server of KCP with 10 to 10 000 sessions, and its picture in the manual
	rm -f .sizes.jsonl
	$(RUN) -m tests.benchmarks.sizes measure .sizes.jsonl
	$(RUN) -m tests.benchmarks.sizes draw .sizes.jsonl docs/benchmarks-sizes.svg

ticks: $(BASE)  ## how late the ticks of a game with 500 players are; TICKS_FLAGS='--players 1000 --freeze'
	$(RUN) -m tests.benchmarks.ticks $(TICKS_FLAGS)

bench-links: $(BENCH)  ## bulk and small messages over emulated links beside TCP, kcp-go, go-raknet and aioquic, as root
	$(RUN) -m tests.benchmarks --json docs/benchmarks.json --only 'link-*' 'messages-*' $(BENCH_FLAGS)
	$(RUN) -m tests.benchmarks.flow docs/benchmarks-flow.svg
	$(RUN) -m tests.benchmarks.publish docs/benchmarks.json docs/benchmarks.rst

fuzz: $(FUZZ)  ## parsers and state machines, a minute each; FUZZ_FLAGS='--seconds 600 kcp' does one for longer
	$(RUN) -m tests.fuzz $(FUZZ_FLAGS)

attack: $(BASE)  ## floods by unknown peers, on loopback: a table; ATTACK_FLAGS='--rate 1000000' at full rate, --peers for hostile peers
	$(RUN) -m tests.benchmarks.attack $(ATTACK_FLAGS)

soak: $(BASE)  ## all transports over a bad link for 20 minutes; SOAK_FLAGS='--minutes 2' for less
	$(RUN) -m tests.benchmarks.soak $(SOAK_FLAGS)

bench-compiled: $(BUILT)  ## both ends in one process, interpreted and compiled: echo and bulk of each transport
	$(RUN) -m tests.benchmarks.compiled $(BENCH_FLAGS)

bench-workers: $(BASE)  ## what an exchange costs a server with one process and with two
	$(RUN) -m tests.benchmarks.workers

calls: $(BASE)  ## how many calls and files a message, connecting and closing meet
	$(RUN) -m tests.benchmarks.calls

news: $(DEV)  ## what the next NEWS.rst will say
	$(RUN) -m towncrier build --draft

clean:  ## remove .venv and everything built
	rm -rf $(VENV) $(OLDEST) $(COMPILED) build dist *.egg-info _trial_temp* docs/_build tests/interop/bin
	rm -f twisted_rudp/kernels/_native*.so twisted/plugins/dropin.cache .coverage .coverage.*

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

# The plugin directory is found through the path, so the install must not use an
# import hook (PLG-5).
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat

$(BASE): $(SOURCES) | $(VENV)/bin/python
	$(INSTALL) --editable '.[test]'
	@touch $@

# All of them, of one build.
environments: $(MINIMUM) | $(VENV)/bin/python  ## what .ci/run needs, in .venv and .venv-minimum
	$(INSTALL) --editable '.[test,dev,docs]'
	@touch $(BASE) $(DEV) $(DOCS)

$(DEV): $(BASE)
	$(INSTALL) --editable '.[test,dev]'
	@touch $@

$(DOCS): $(BASE)
	$(INSTALL) --editable '.[test,docs]'
	@touch $@

$(BENCH): $(BASE)
	$(INSTALL) --editable '.[test,bench]'
	@touch $@

# Without atheris, which not every Python has, inputs are made by chance.
$(FUZZ): $(BASE)
	-$(INSTALL) atheris
	@touch $@

# In an environment of its own, and from a copy of the source, so that no compiled module lies
# beside the source that people edit.
$(BUILT): $(SOURCES) $(shell find twisted_rudp -name '*.py') | $(VENV)/bin/python
	test -x $(COMPILED)/bin/python || $(RUN) -m venv $(COMPILED)
	rm -rf $(COMPILED)/source $(COMPILED)/tree
	mkdir -p $(COMPILED)/source $(COMPILED)/tree
	cp -r setup.py setup.cfg pyproject.toml README.rst LICENSE twisted_rudp twisted $(COMPILED)/source
	find $(COMPILED)/source -name '*.so' -delete
	$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check './$(COMPILED)/source[test,dev]'
	TWISTED_RUDP_COMPILE=1 $(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-build-isolation --no-deps --force-reinstall ./$(COMPILED)/source
	ln -s $(foreach each,tests docs examples setup.py setup.cfg README.rst,$(CURDIR)/$(each)) $(COMPILED)/tree
	@touch $@

$(MINIMUM): $(SOURCES) .ci/minimum.txt | $(VENV)/bin/python
	$(RUN) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --config-settings editable_mode=compat --constraint .ci/minimum.txt --editable '.[test]'
	@touch $@
