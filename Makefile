.PHONY: run test lint
run:
	python wsgi.py
test:
	python -m unittest
lint:
	ruff check .
