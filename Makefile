.PHONY: run test lint docs locks bench mutants release
run:
	python wsgi.py
test:
	python -m unittest
lint:
	ruff check .
	mypy
docs:
	python -m docs.tables --write
locks:
	python -m compat.locks
bench:
	python bench/routers.py
	python -W ignore bench/application.py
	python bench/servers.py
	python bench/storage.py
	python bench/growth.py --sizes 10000,100000
	python bench/footprint.py
mutants:
	python bench/mutants.py --count 300
release:
	bash .ci/release
