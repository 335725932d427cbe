# Two commands for a fresh machine with Rust, a C compiler and make:
#
#   make demo    see it work: a private database, a simulated portal, live changes
#   make test    run every test
#
# Both need PostgreSQL's server programs, which `make postgres` installs with the system's
# package manager where there are none. No server has to run, and none is started.

.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

demo: postgres ## See it work: private database, simulated portal, live changes
	cargo run --release -- demo

test: postgres ## Run every test
	cargo test

postgres: ## Install PostgreSQL's server programs if there are none
	@sh deploy/install-postgres.sh

.PHONY: help demo test postgres
