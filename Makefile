# Every target does its own set-up: a virtual environment under .venv, Debian packages that are missing.
.DEFAULT_GOAL := help
.PHONY: help demo test coverage fuzz test-libiptc test-deploy test-vm test-image check bench dev golden clean

export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.peers/bin:$(PATH):/usr/sbin:/sbin
DEMO_PROGRAMS := nft:nftables ip:iproute2 dig:dnsutils curl:curl
TEST_PROGRAMS := $(DEMO_PROGRAMS) iptables:iptables dnsmasq:dnsmasq-base
TEST_PEERS := unbound:unbound nsd:nsd promtool:prometheus
BENCH_PEERS := unbound:unbound nsd:nsd haproxy:haproxy socat:socat
VM_PROGRAMS := debootstrap:debootstrap systemd-nspawn:systemd-container
VM_PACKAGES := systemd-resolved libnss-resolve nftables iptables python3 python3-venv bind9-dnsutils curl firewalld dnsmasq-base
FUZZ_SECONDS := 20
COREDNS_VERSION := v1.14.7
HELM_VERSION := v4.3.1
KUBECONFORM_VERSION := v0.8.0

help:    ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

demo:    ## names before capture, after it, and with the resolver killed, in throw-away namespaces
	@scripts/need $(DEMO_PROGRAMS)
	@scripts/venv requirements-dev.lock
	@meshdns demo

test:    ## everything that this machine can prove, in minutes
	@scripts/need $(TEST_PROGRAMS)
	@scripts/venv requirements-dev.lock
	@scripts/peers $(TEST_PEERS)
	@scripts/in-namespace python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

coverage: ## the same, and which lines it never reached; takes twice as long
	@$(MAKE) --no-print-directory test PYTEST_ARGS="--cov --cov-report=term $(PYTEST_ARGS)"

fuzz:    ## bytes that strangers send: looks for new ones that break a law, guided by coverage; FUZZ_SECONDS=20 for each of three
	@scripts/venv requirements-fuzz.lock
	@for law in query reply manifest; do PYTHONPATH=tests tests/fuzz/run.py $$law -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ || exit 1; done

test-libiptc: ## the backend through python-iptables, which this builds from source
	@scripts/need $(TEST_PROGRAMS) g++:g++
	@scripts/venv requirements-dev.lock
	@[ -d .libiptc/iptc ] || pip install -q --no-deps --no-build-isolation --require-hashes --target .libiptc -r requirements-libiptc.lock
	@PYTHONPATH=$(CURDIR)/.libiptc scripts/in-namespace python -m pytest -n auto --timeout 120 -k libiptc $(PYTEST_ARGS)

test-image: ## the image, built on a Debian made here, and an injected pod run as kubelet would; as root, in some minutes
	@scripts/need $(TEST_PROGRAMS) debootstrap:debootstrap buildah:buildah crun:crun
	@scripts/venv requirements-dev.lock
	@scripts/image python -m pytest -n auto --dist load --timeout 120 tests/image $(PYTEST_ARGS)

test-deploy: ## the Helm chart, rendered and validated; builds helm and kubeconform with Go, once
	@scripts/venv requirements-dev.lock
	@scripts/go-install helm=helm.sh/helm/v4/cmd/helm@$(HELM_VERSION) kubeconform=github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
	@python -m pytest tests/deploy $(PYTEST_ARGS)

test-vm: ## a virtual machine, onboarded under a booted systemd, restarted, upgraded, taken back: what differs then is printed
	@scripts/need $(TEST_PROGRAMS) $(VM_PROGRAMS)
	@scripts/venv requirements-dev.lock
	@scripts/vm-root $(VM_PACKAGES)
	@PYTHONPATH=tests python -m vm.image
	@unshare --mount --propagation private python -m pytest tests/vm -n auto --dist load --timeout 300 $(PYTEST_ARGS)

bench:   ## speed and size as ratios to real peers, in a quarter of an hour; BENCH_ARGS="--rows local relay"
	@scripts/need $(TEST_PROGRAMS)
	@scripts/venv requirements-dev.lock
	@scripts/peers $(BENCH_PEERS)
	@scripts/go-install coredns=github.com/coredns/coredns@$(COREDNS_VERSION) || echo 'rows that print CoreDNS do without it'
	@PYTHONPATH=tests scripts/in-namespace python -m bench.run $(BENCH_ARGS)

check:   ## lint, types, import contracts
	@scripts/venv requirements-dev.lock
	ruff check .
	ruff format --check .
	mypy
	lint-imports

golden:  ## write the golden files of the tests anew; read the difference before committing it
	@scripts/venv requirements-dev.lock
	MESHDNS_GOLDEN=rewrite scripts/in-namespace python -m pytest -q -k golden

dev: ## the virtual environment and the programs that the other targets use, and no more
	@scripts/need $(TEST_PROGRAMS)
	@scripts/venv requirements-dev.lock
	@scripts/peers $(TEST_PEERS)

clean:   ## remove what the other targets made inside the tree
	rm -rf .venv .vm .peers .fuzz .image .libiptc build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
